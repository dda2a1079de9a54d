"""Serve an ASGI application on its socket, within the event loop of the process."""

import asyncio
import math
import socket
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple

import uvicorn
from starlette.types import ASGIApp

from companion import log
from companion.config import ListenSection
from companion.errors import UnavailableError
from companion.http import descriptors
from companion.http.connections import HttpConnections, HttpLimits
from companion.http.listeners import BACKLOG
from companion.http.middleware.body_limit import MAX_SOCKET_BODY
from companion.http.protocol import HttpProtocol
from companion.http.siblings import Siblings

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


class Listener(NamedTuple):
    """Hold sockets that are bound already, and the other processes that listen at their address."""

    sockets: list[socket.socket]
    siblings: Siblings


class Server:
    """Serve until stopped. `table` is the section of the configuration that errors name."""

    def __init__(
        self, app: ASGIApp, at: ListenSection, table: str, proxies: Sequence[str] = (), limits: HttpLimits | None = None
    ) -> None:
        self._connections = HttpConnections(limits or HttpLimits(), proxies)
        self._listener: Listener | None = None
        self._episodes = log.Episodes(logger)
        self._where = f"{at.listen}; see [{table}] listen"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                host=at.host,
                port=at.port,
                http=self._make_protocol,  # type: ignore[arg-type]  # it makes one
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

    def join(self, listener: Listener) -> None:
        """Serve as one of several processes, with the sockets of ours, and the connections that others hand over."""
        self._listener = listener
        listener.siblings.on_connection(self._adopt)

    def _make_protocol(self, **options: Any) -> HttpProtocol:
        siblings = self._listener.siblings if self._listener else Siblings()
        return HttpProtocol(connections=self._connections, siblings=siblings, **options)

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            UnavailableError: The address can not be had.

        """
        watch = asyncio.create_task(self._watch())
        try:
            await self._uvicorn.serve(self._listener.sockets if self._listener else None)
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

    async def _adopt(self, connection: socket.socket, received: bytes) -> None:
        """Serve a connection that another process handed over, with the bytes that it read from it."""
        server, loop = self._uvicorn, asyncio.get_running_loop()
        protocol = partial(
            self._make_protocol,
            config=server.config,
            server_state=server.server_state,
            app_state=server.lifespan.state,
            received=received,
            _loop=loop,
        )
        await loop.connect_accepted_socket(protocol, connection)

    def stop(self) -> None:
        self._uvicorn.should_exit = True
