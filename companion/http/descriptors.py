"""Share out the file descriptors of the process: connections of clients must leave some for Redis, MI and the bus."""

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import Final

REMEDY: Final = "raise the limit of open files: LimitNOFILE= in the systemd unit, ulimits in a compose file"

_SHARE: Final = 0.75
"""Clients may have this part of what is left at the start."""


def raise_limit() -> None:
    """Raise the limit of open files as far as the process may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems bound it further
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def count_for_clients() -> int:
    """Return how many connections of clients the process can bear."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    used = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return max(1, int((limit - used) * _SHARE))


def is_one_left() -> bool:
    """Return whether a file could be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True
