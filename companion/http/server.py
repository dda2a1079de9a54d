"""Serve an ASGI application on its socket, within the event loop of the process."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from companion.config import ListenSection
from companion.errors import UnavailableError
from companion.http.protocol import HttpProtocol

KEEP_ALIVE_SECONDS: Final = 15
"""A page that reports its call every five seconds keeps its connection."""
GRACE_SECONDS: Final = 3
"""How long requests may go on when the server stops."""


class _Uvicorn(uvicorn.Server):
    """Leave signals to the owner of the event loop."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Server:
    """Serve until stopped. `table` is the section of the configuration that errors name."""

    def __init__(self, app: ASGIApp, at: ListenSection, table: str, proxies: Sequence[str] = ()) -> None:
        self._where = f"{at.listen}; see [{table}] listen"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                host=at.host,
                port=at.port,
                http=HttpProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                forwarded_allow_ips=list(proxies),
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            UnavailableError: The address can not be had.

        """
        try:
            await self._uvicorn.serve()
        except SystemExit:  # uvicorn's way to say that the address is taken
            raise UnavailableError(f"can not listen on {self._where}") from None

    def stop(self) -> None:
        self._uvicorn.should_exit = True
