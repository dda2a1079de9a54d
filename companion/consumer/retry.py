"""Retry what Redis does not take at once."""

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from companion import log, metrics
from companion.store.connection import NotNowError, Unreachable
from companion.store.redis_errors import explain

PAUSES_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts; the last one repeats."""

RECENT_SECONDS: Final = 10.0
"""Reads may succeed between writes that fail: an error is over when none came for so long."""
THREADS: Final = 4
"""Threads of the recorder alone, to read, write, report and renew: it never waits behind readers and jobs."""

logger = log.get(__name__)
T = TypeVar("T")


class GaveUpError(Exception):
    """Report that Redis did not take something before the deadline."""


class RedisRetry:
    """Run blocking calls of Redis in a thread and repeat them until Redis takes them.

    Only what waits for Redis runs in a thread: pyzmq releases the GIL at each message, and two busy threads would spend
    their time passing it back and forth.
    """

    def __init__(self) -> None:
        self.give_up_at = float("inf")
        """Time of the monotonic clock after which a failed call is not repeated."""
        self._error: Exception | None = None
        self._failed_at = float("-inf")
        self._episodes = log.Episodes(logger)
        self._threads = ThreadPoolExecutor(THREADS, "recorder")

    async def run(self, call: Callable[[], T]) -> T:
        """Return the outcome of `call`.

        Raises GaveUpError when it still fails at `give_up_at`, and whatever else `call` raises.
        """
        for attempt in itertools.count():
            try:
                return await self.run_once(call)
            except (*Unreachable, NotNowError) as error:
                metrics.REDIS_ERRORS.inc()
                self._error, self._failed_at = error, time.monotonic()
                self._episodes.warn("Redis does not accept writes; events wait until it does", **explain(error))
                if time.monotonic() >= self.give_up_at:
                    raise GaveUpError(str(error)) from error
            await asyncio.sleep(PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)])
        raise AssertionError

    async def run_once(self, call: Callable[[], T]) -> T:
        """Return the outcome of `call`, without another attempt."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def current_error(self) -> Exception | None:
        """Return why Redis did not take something within the last seconds, None if it took all."""
        return self._error if time.monotonic() - self._failed_at < RECENT_SECONDS else None
