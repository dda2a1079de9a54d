"""Run a bounded number of tasks at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class TaskPool:
    """Run some tasks at once; the first error ends all of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: set[asyncio.Task[None]] = set()

    async def wait_for_room(self) -> None:
        """Wait until fewer tasks run than may. Raises what one of them raised."""
        while len(self._tasks) >= self._size:
            await self._wait(asyncio.FIRST_COMPLETED)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        self._tasks.add(asyncio.create_task(work))

    async def finish(self) -> None:
        """Wait for all tasks. Raises what one of them raised."""
        while self._tasks:
            await self._wait(asyncio.FIRST_EXCEPTION)

    async def _wait(self, until: str) -> None:
        done, self._tasks = await asyncio.wait(self._tasks, return_when=until)
        try:
            for task in done:
                task.result()
        except BaseException:
            await self._cancel()
            raise

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = set()
