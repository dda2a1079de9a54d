"""An HTTP application on its socket, within the event loop of the process."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from companion.config import ListenSection
from companion.errors import UnavailableError

KEEP_ALIVE_SECONDS: Final = 15
"""A page that tells of its call every five seconds keeps its connection."""
GRACE_SECONDS: Final = 3
"""So long requests that are under way may go on when the server stops."""


class _Uvicorn(uvicorn.Server):
    """Leaves signals to who runs the event loop."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


class Server:
    """Serves until stopped. `table` is the section of the configuration that says where, as errors name it."""

    def __init__(self, app: ASGIApp, at: ListenSection, table: str, proxies: Sequence[str] = ()) -> None:
        self._where = f"{at.listen}; see [{table}] listen"
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                app,
                host=at.host,
                port=at.port,
                http="h11",  # the same one with and without the dashboard, whose packages bring another
                log_config=None,
                access_log=False,
                server_header=False,
                forwarded_allow_ips=list(proxies),
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )

    async def run(self) -> None:
        """Raises UnavailableError when the address can not be had."""
        try:
            await self._uvicorn.serve()
        except SystemExit:  # uvicorn's way to say that the address is taken
            raise UnavailableError(f"can not listen on {self._where}") from None

    def stop(self) -> None:
        self._uvicorn.should_exit = True
