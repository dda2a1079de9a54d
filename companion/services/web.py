"""The HTTP application, put together, and the service it runs as."""

from importlib.util import find_spec

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from companion import __version__, dashboard
from companion.config import Config
from companion.http import problems
from companion.http.access import pages
from companion.http.access.cors import Cors
from companion.http.access.guard import Access, Guard
from companion.http.access.login import Login
from companion.http.api import calls, devices, events, fleet
from companion.http.api.openapi import make_api
from companion.http.events.hub import Hub
from companion.http.middleware.headers import Headers
from companion.http.middleware.methods import Methods
from companion.http.monitoring.health import Health
from companion.http.paths import PREFIX, RawPaths
from companion.http.reports import collector
from companion.http.reports.endpoint import Reports
from companion.http.reports.intake import Intake
from companion.http.server import Server
from companion.query.reader import Reader
from companion.store.store import Store

EXTRA = "nicegui"
"""The package that the dashboard needs and that an installation may be without."""


def make_app(config: Config, store: Store) -> FastAPI:
    """The HTTP application; it reads only the store. API, streams and dashboard share one Reader, `state.reader`."""
    app = FastAPI(title="OpenSIPS Companion", openapi_url=None, redirect_slashes=False)
    access, reader = Access(config.api), Reader(config, store)
    app.state.reader = reader
    app.state.hub = Hub(reader)
    app.state.intake = intake = Intake(config, store)
    problems.add_handlers(app)
    app.include_router(Health(config, store).router)
    app.include_router(Login(config.api, access).router)
    app.include_router(collector.router)
    v1 = make_v1()
    v1.state = app.state
    app.mount(PREFIX, v1)
    _add_dashboard(app, config, reader)
    app.add_middleware(Reports, intake=intake)
    app.add_middleware(Guard, access=access)
    app.add_middleware(Methods)
    app.add_middleware(problems.Catch)
    app.add_middleware(Cors, origins=config.media.origins)
    app.add_middleware(RawPaths)
    app.add_middleware(Headers)  # added last, so outermost: nothing is answered without them
    return app


def make_v1() -> FastAPI:
    """The API, an application of its own: what is not in it is not looked for among the dashboard's pages."""
    api = make_api("OpenSIPS Companion", __version__, PREFIX)
    problems.add_handlers(api)
    for part in (devices, calls, fleet, events):
        api.include_router(part.router)
    return api


def _add_dashboard(app: FastAPI, config: Config, reader: Reader) -> None:
    """The dashboard at /, or why there is none."""
    if not config.api.dashboard:
        _explain(app, "The dashboard is switched off.", "<code>[api] dashboard = true</code> switches it on.")
    elif not find_spec(EXTRA):
        install = "<code>pip install 'opensips-companion[dashboard]'</code>, then a restart."
        _explain(app, "The dashboard is not installed.", f"It comes with {install}")
    else:
        dashboard.mount(app, config, reader)


def _explain(app: FastAPI, why: str, remedy: str) -> None:
    page = pages.no_dashboard(why, remedy)

    @app.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        return HTMLResponse(page, 404)


class Api:
    """The HTTP application on its socket, until stopped."""

    def __init__(self, config: Config, store: Store) -> None:
        app = make_app(config, store)
        self._hub: Hub = app.state.hub
        self._server = Server(app, config.api, "api", config.api.proxies)

    async def run(self) -> None:
        await self._server.run()

    def stop(self) -> None:
        self._hub.close()
        self._server.stop()
