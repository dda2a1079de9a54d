"""What machines ask over HTTP: alive, ready, metrics."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from companion import __version__, metrics
from companion.config import Config
from companion.errors import UnavailableError
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.store import Store
from companion.view import view


def make_app(config: Config, store: Store) -> FastAPI:
    """The HTTP application; it reads only the store."""
    app = FastAPI(title="OpenSIPS Companion", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Tells that the process answers."""
        return {"status": "alive"}

    @app.get("/readyz")
    def readyz(response: Response) -> dict[str, Any]:
        """Redis answers and every node's feed lives; 503 with the reasons otherwise."""
        reasons = _unready(config, store)
        response.status_code = 503 if reasons else 200
        return {"status": "not ready" if reasons else "ready", "reasons": reasons}

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)

    return app


def _unready(config: Config, store: Store) -> list[str]:
    try:
        seen = view(config, store)
    except (*Unreachable, NotNowError, ResponseError) as error:
        return [f"Redis does not answer: {type(error).__name__}"]
    if not seen.feeds:
        return ["no bridge has been heard of"]
    return [f"the feed of node {feed.node} is silent" for feed in seen.feeds.values() if not feed.alive(seen.clock.now)]


class _Server(uvicorn.Server):
    """Leaves signals to who runs the event loop."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Api:
    """The HTTP application on its socket, until stopped."""

    def __init__(self, config: Config, store: Store) -> None:
        self._listen = config.api.listen
        self._server = _Server(
            uvicorn.Config(
                make_app(config, store),
                host=config.api.host,
                port=config.api.port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=3,
            )
        )

    async def run(self) -> None:
        try:
            await self._server.serve()
        except SystemExit:  # uvicorn's way to say that the address is taken
            raise UnavailableError(f"can not listen on {self._listen}; see [api] listen") from None

    def stop(self) -> None:
        self._server.should_exit = True
