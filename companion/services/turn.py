"""Let one companion at a time run a job."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from companion.store.connection import ResponseError, Unreachable
from companion.store.locks import HeldLock, acquire_lock
from companion.store.store import Store

RENEWALS: Final = 3
"""How often a lease is renewed in its time while the job runs."""


class Turn:
    """Run a job only while we hold its lease. It is kept between the runs, so that others do not run in between.

    `seconds` is the life of the lease: longer than from one run to the next. After that another companion takes over
    from one that is gone.
    """

    def __init__(self, store: Store, name: str, seconds: float, run: Callable[[], Awaitable[object]]) -> None:
        self._store = store
        self._key = store.keys.turn(name)
        self._seconds = seconds
        self._run = run
        self._lock: HeldLock | None = None

    async def run(self) -> bool:
        """Run the job once; return False when it is another companion's turn."""
        if not await asyncio.to_thread(self._hold):
            return False
        renewal = asyncio.create_task(self._renew())
        try:
            await self._run()
        finally:
            renewal.cancel()
        return True

    def release(self) -> None:
        """Let another companion go on at once."""
        if self._lock:
            self._lock.release()

    def _hold(self) -> bool:
        if self._lock is None or not self._lock.renew():
            self._lock = acquire_lock(self._store, self._key, self._seconds)
        return self._lock is not None

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / RENEWALS)
            with contextlib.suppress(*Unreachable, ResponseError):  # the next renewal may succeed
                await asyncio.to_thread(self._hold)
