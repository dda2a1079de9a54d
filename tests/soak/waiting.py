"""Wait for conditions while everything else runs on."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


async def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait for a condition that is asked in a thread. Raises TimeoutError that names it when it does not come."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        await asyncio.sleep(0.1)
