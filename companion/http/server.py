"""Serve an ASGI application on its socket, within the event loop of the process."""

import asyncio
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from companion import log
from companion.config import ListenSection
from companion.errors import UnavailableError
from companion.http import descriptors
from companion.http.connections import HttpConnections, HttpLimits
from companion.http.middleware.body_limit import MAX_SOCKET_BODY
from companion.http.protocol import HttpProtocol

BACKLOG: Final = 128
"""How many connections the kernel may accept for us: what we do not manage to take soon is better told so."""
LOOK_SECONDS: Final = 1.0
"""How often it is looked for clients that are too slow."""
GRACE_SECONDS: Final = 3
"""How long requests may go on when the server stops."""

logger = log.get(__name__)


class _Uvicorn(uvicorn.Server):
    """Leave signals to the owner of the event loop."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Server:
    """Serve until stopped. `table` is the section of the configuration that errors name."""

    def __init__(
        self, app: ASGIApp, at: ListenSection, table: str, proxies: Sequence[str] = (), limits: HttpLimits | None = None
    ) -> None:
        self._connections = HttpConnections(limits or HttpLimits(), proxies)
        self._episodes = log.Episodes(logger)
        self._where = f"{at.listen}; see [{table}] listen"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                host=at.host,
                port=at.port,
                http=partial(HttpProtocol, connections=self._connections),  # type: ignore[arg-type]  # it makes one
                backlog=BACKLOG,
                ws_max_size=MAX_SOCKET_BODY,
                log_config=None,
                access_log=False,
                server_header=False,
                forwarded_allow_ips=list(proxies),
                timeout_keep_alive=math.ceil(self._connections.limits.idle),
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            UnavailableError: The address can not be had.

        """
        watch = asyncio.create_task(self._watch())
        try:
            await self._uvicorn.serve()
        except SystemExit:  # uvicorn's way to say that the address is taken
            raise UnavailableError(f"can not listen on {self._where}") from None
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._connections.expire()
            if not descriptors.is_one_left():
                self._episodes.warn("no file descriptor is left: connections are cut", remedy=descriptors.REMEDY)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
