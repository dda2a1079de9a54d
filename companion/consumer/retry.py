"""Retry what Redis does not take at once."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final, TypeVar

from companion import log, metrics
from companion.store.connection import NotNowError, Unreachable

PAUSES_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses between attempts; the last one repeats."""

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
        self._episodes = log.Episodes(logger)

    async def run(self, call: Callable[[], T]) -> T:
        """Return the outcome of `call`.

        Raises GaveUpError when it still fails at `give_up_at`, and whatever else `call` raises.
        """
        for attempt in itertools.count():
            try:
                return await asyncio.to_thread(call)
            except (*Unreachable, NotNowError) as error:
                metrics.REDIS_ERRORS.inc()
                self._episodes.warn("Redis does not accept writes; events wait until it does", error=str(error)[:200])
                if time.monotonic() >= self.give_up_at:
                    raise GaveUpError(str(error)) from error
            await asyncio.sleep(PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)])
        raise AssertionError
