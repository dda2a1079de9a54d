"""Read something in one thread of its own, for any number of callers that will not wait for long."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleRead(Generic[T]):
    """Share one read among all who ask while it runs, or within `fresh_seconds` of its start.

    The patience counts from the start of the read: while one hangs, only the first caller waits at all.
    """

    def __init__(self, name: str, read: Callable[[], T], patience_seconds: float, fresh_seconds: float = 0.0) -> None:
        self._read = read
        self._patience_seconds = patience_seconds
        self._fresh_seconds = fresh_seconds
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, name)
        self._started_at = 0.0
        self._answer: Future[T] | None = None

    def start(self) -> tuple[Future[T], float]:
        """Return the running or fresh read, or a new one, and for how many seconds to wait for it."""
        with self._lock:
            now = time.monotonic()
            if self._answer is None or (self._answer.done() and now - self._started_at >= self._fresh_seconds):
                self._started_at = now
                self._answer = self._thread.submit(self._read)
            return self._answer, max(0.0, self._started_at + self._patience_seconds - now)

    def wait(self) -> T:
        """Return what was read. Raises TimeoutError when it takes too long, and what reading raised."""
        answer, seconds = self.start()
        return answer.result(seconds)

    async def wait_async(self) -> T:
        """Return what was read, as `wait` does."""
        answer, seconds = self.start()
        future = asyncio.wrap_future(answer)
        future.add_done_callback(_retrieve)
        await asyncio.wait([future], timeout=seconds)
        if not future.done():
            raise TimeoutError
        return future.result()


def _retrieve(future: "asyncio.Future[T]") -> None:
    """Take the error of a read that nobody waits for any more: asyncio would log it."""
    if not future.cancelled():
        future.exception()
