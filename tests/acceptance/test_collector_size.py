"""Test how large the collector is when it is minified."""

from typing import Final

from tests.acceptance.receiver import COLLECTOR
from tests.npm.packages import install_packages, run_tool

MAX_BYTES: Final = 12_288
"""docs/media.md names it. In 2026 terser's output was 12,121 bytes."""


def test_size() -> None:
    """Minified by terser, the collector has no more bytes than docs/media.md says."""
    minified = run_tool(install_packages(), "terser", str(COLLECTOR), "--module", "--compress", "--mangle")
    print(f"\n{len(minified.encode())} bytes of {MAX_BYTES}")
    assert 0 < len(minified.encode()) <= MAX_BYTES
