"""Put the HTTP application together, and run it as a service."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from companion import __version__, dashboard, log
from companion.config import Config
from companion.http import descriptors, problem_handlers
from companion.http.access import pages
from companion.http.access.guard import Access, Guard
from companion.http.access.hosts import Hosts
from companion.http.access.login import Login
from companion.http.api import calls, devices, events, fleet, traces
from companion.http.api.answers import Answers
from companion.http.api.openapi import make_api
from companion.http.connections import HttpLimits
from companion.http.device_pings import DevicePings
from companion.http.events.hub import Hub
from companion.http.middleware.body_limit import BodyLimit
from companion.http.middleware.head import Head
from companion.http.middleware.headers import Headers
from companion.http.middleware.options import Options
from companion.http.monitoring.health import Health
from companion.http.paths import PREFIX, RawPaths
from companion.http.reports import endpoint
from companion.http.reports.app import PATHS, make_reports
from companion.http.reports.intake import Intake
from companion.http.server import Listener, Server
from companion.http.siblings import Siblings
from companion.query.reader import Reader
from companion.recording.recordings import Recordings
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.store import Store

logger = log.get(__name__)

FOLLOW_SECONDS: Final = 1.0
EXTRA = "nicegui"
"""The package that the dashboard needs and that an installation may be without."""


def make_app(config: Config, store: Store, siblings: Siblings | None = None) -> Starlette:
    """Make the HTTP application: reports of other sites' pages beside the guard, all else behind it.

    It reads only the store, but for pings on request. API, streams and dashboard share one Reader, `state.reader`.
    `siblings` are the other processes that serve it.
    """
    hosts = (*config.api.hosts, config.api.host)
    intake = Intake(config, store)
    guarded = _make_guarded(config, store, intake, hosts, siblings or Siblings())
    reports = make_reports(intake, config.media.origins, hosts)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:  # of the dashboard: a mount gets none
        async with guarded.router.lifespan_context(guarded):
            yield

    app = Starlette(
        routes=[*(Route(path, reports) for path in PATHS), Mount("/", guarded)],
        middleware=[Middleware(Headers), Middleware(RawPaths), Middleware(Head), Middleware(Options)],
        lifespan=lifespan,
    )
    app.state = guarded.state
    return app


def _make_guarded(config: Config, store: Store, intake: Intake, hosts: Sequence[str], siblings: Siblings) -> FastAPI:
    """Make the application behind the guard: probes, login, API and dashboard."""
    access, reader = Access(config.api), Reader(config, store)
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,
        middleware=[
            Middleware(problem_handlers.Catch),
            Middleware(BodyLimit),
            Middleware(Hosts, names=hosts),
            Middleware(Guard, access=access),
        ],
    )
    app.state.reader, app.state.hub, app.state.intake = reader, Hub(reader), intake
    app.state.answers = Answers(reader)
    app.state.pings = DevicePings(config, store)
    app.state.recordings = Recordings(config, store)
    app.state.homer_url = config.trace.homer_url
    problem_handlers.add_handlers(app)
    app.state.health = Health(config, store, siblings)
    app.include_router(app.state.health.router)
    app.state.login = Login(config.api, access, siblings)
    app.include_router(app.state.login.router)
    v1 = make_v1()
    v1.state = app.state
    app.mount(PREFIX, v1)
    _add_dashboard(app, config, reader, siblings.name)
    return app


def make_v1() -> FastAPI:
    """Make the API, an application of its own: a path that it lacks is not searched among the dashboard's pages.

    It has the route of reports for its document; requests reach that route through the application beside the guard.
    """
    api = make_api("OpenSIPS Companion", __version__, PREFIX)
    problem_handlers.add_handlers(api)
    for part in (traces, devices, calls, endpoint, fleet, events):
        api.include_router(part.router)
    return api


def _add_dashboard(app: FastAPI, config: Config, reader: Reader, process: str) -> None:
    """Add the dashboard at /, or a page that says why there is none."""
    if not config.api.dashboard:
        _explain(app, "The dashboard is switched off.", "<code>[api] dashboard = true</code> switches it on.")
    elif not find_spec(EXTRA):
        install = "<code>pip install 'opensips-companion[dashboard]'</code>, then a restart."
        _explain(app, "The dashboard is not installed.", f"It comes with {install}")
    else:
        dashboard.mount(app, config, reader, app.state.pings, app.state.recordings)
        dashboard.name_process(process)


def _explain(app: FastAPI, why: str, remedy: str) -> None:
    page = pages.no_dashboard(why, remedy)

    @app.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        return HTMLResponse(page, 404)


def _limit_connections(most: int) -> HttpLimits:
    """Return the limits for so many connections, or for as many as the limit of open files allows."""
    allowed = descriptors.count_for_clients()
    if allowed < most:
        logger.warning("fewer connections are allowed than configured", most=allowed, remedy=descriptors.REMEDY)
    return HttpLimits(min(most, allowed))


class Api:
    """Run the HTTP application until stopped, on its socket or as one of several processes with a listener."""

    def __init__(self, config: Config, store: Store, listener: Listener | None = None) -> None:
        self._siblings = listener.siblings if listener else Siblings()
        app = make_app(config, store, self._siblings)
        self._hub: Hub = app.state.hub
        self._login: Login = app.state.login
        self._reader: Reader = app.state.reader
        self._health: Health = app.state.health
        self._pings: DevicePings = app.state.pings
        self._server = Server(
            app, config.api, "api", config.api.proxies, _limit_connections(config.api.max_connections)
        )
        if listener:
            self._server.join(listener)

    async def run(self) -> None:
        self._siblings.start()
        await self._login.load_ended_sessions()
        following = asyncio.create_task(self._follow())
        watching = asyncio.create_task(self._health.watch.run(logs_changes=self._siblings.logs_for_all))
        try:
            await self._server.run()
        finally:
            self._siblings.stop()
            following.cancel()
            watching.cancel()
            await self._pings.aclose()

    async def _follow(self) -> None:
        """Follow the fleet, so that a list need not wait for what changed since the last one."""
        while True:
            try:
                await asyncio.to_thread(self._reader.follow)
            except (*Unreachable, NotNowError, ResponseError):
                pass  # who asks for a list is told
            except Exception:
                logger.exception("the fleet could not be followed")
            await asyncio.sleep(FOLLOW_SECONDS)

    def stop(self) -> None:
        self._hub.close()
        self._server.stop()
