"""Collect garbage rarely, and give memory that is not used any more back to the system.

The C library keeps freed memory between blocks that are in use. A consumer would else grow with each outage of Redis,
whose backlog it holds and frees.
"""

import asyncio
import ctypes
import gc
from collections.abc import Callable
from typing import Final

EVERY_SECONDS: Final = 30.0
"""It takes 30 to 80 ms for each GB of the process, in a thread of its own."""


def _find_trim() -> Callable[[int], int] | None:
    """Return malloc_trim, which glibc has; other C libraries give memory back by themselves."""
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


_trim: Final = _find_trim()


def relax_garbage_collection() -> None:
    """Collect garbage rarely: events make no cycles, and searching for some costs a third of the throughput."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def give_back() -> None:
    """Give freed memory back to the system. Blocking; the GIL is free meanwhile."""
    if _trim:
        _trim(0)


async def give_back_regularly() -> None:
    """Give freed memory back until cancelled."""
    while True:
        await asyncio.sleep(EVERY_SECONDS)
        await asyncio.to_thread(give_back)
