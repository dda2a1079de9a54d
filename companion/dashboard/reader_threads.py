"""Call the Reader from an event loop, in threads of its own: a Redis that hangs does not hold up anything else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from companion.config import Config
from companion.errors import UnavailableError
from companion.http.device_pings import DevicePings
from companion.query.reader import Reader
from companion.recording.recordings import Recordings
from companion.store.connection import ResponseError, Unreachable

THREADS: Final = 8
T = TypeVar("T")


class ReaderThreads:
    """Hold the Reader of one application, the threads in which its pages call it, and what acts for them."""

    def __init__(self, config: Config, reader: Reader, pings: DevicePings, recordings: Recordings) -> None:
        self.config = config
        self.reader = reader
        self.pings = pings
        self.recordings = recordings
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dashboard")

    async def run(self, function: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Call a function in one of the threads, and return its result.

        Raises UnavailableError when Redis does not answer, and what the function raises (UsageError of the Reader).
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, partial(function, *arguments, **options))
        except (*Unreachable, ResponseError) as error:
            raise UnavailableError(type(error).__name__) from error
