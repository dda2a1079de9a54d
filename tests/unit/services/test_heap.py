"""Memory that is not used any more goes back to the system."""

import subprocess
import sys

import pytest

from companion.services import heap

PROGRAM = """
from pathlib import Path
from companion.services import heap
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
blocks = [bytes(3000) for _ in range(20_000)]
kept, full = blocks[::40], resident()
del blocks
heap.give_back()
print(full - resident())
"""


@pytest.mark.skipif(heap._trim is None, reason="this C library has no malloc_trim")
def test_memory_between_blocks_in_use_goes_back() -> None:
    """Of 60 MB in blocks of which one in forty stays in use, most leaves the process."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 30e6
