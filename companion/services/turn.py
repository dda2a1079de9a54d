"""Let one companion at a time run a job."""

import asyncio
from collections.abc import Awaitable, Callable
from threading import Lock as Mutex
from typing import Final

from companion.store.locks import HeldLock, acquire_lock
from companion.store.store import Store

TURN_SECONDS: Final = 7.0
"""How long a companion that is gone keeps a job from others."""
KEEP_SECONDS: Final = 2.0
"""How often a turn is renewed, or asked for: so another companion has it within ten seconds."""


class Turn:
    """Run a job only while we hold its lease. It is kept between the runs, so that others do not run in between.

    `keep` must be called every KEEP_SECONDS, also while the job runs.
    """

    def __init__(self, store: Store, name: str, run: Callable[[], Awaitable[object]]) -> None:
        self.name = name
        self._store = store
        self._key = store.keys.turn(name)
        self._run = run
        self._lock: HeldLock | None = None
        self._one_at_a_time = Mutex()

    async def run(self) -> bool:
        """Run the job once; return False when it is another companion's turn."""
        if not await asyncio.to_thread(self._hold):
            return False
        await self._run()
        return True

    def keep(self) -> bool:
        """Renew the lease, or take it where it is free; return whether the job becomes ours by that."""
        was_ours = self._lock is not None
        return self._hold() and not was_ours

    def release(self) -> None:
        """Let another companion go on at once."""
        if self._lock:
            self._lock.release()

    def _hold(self) -> bool:
        with self._one_at_a_time:
            if self._lock is None or not self._lock.renew():
                self._lock = acquire_lock(self._store, self._key, TURN_SECONDS)
            return self._lock is not None
