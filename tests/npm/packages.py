"""Install the packages of package-lock.json once, and run their commands."""

import contextlib
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

LISTS: Final = Path(__file__).parent
CACHE: Final = Path(__file__).parents[2] / ".npm"
NPM_CI: Final = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def install_packages() -> Path:
    """Return the folder that has node_modules; skip the test without npm, or where npm cannot fetch a package."""
    lock = (LISTS / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.blake2b(lock, digest_size=8).hexdigest()
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, ignore_cleanup_errors=True) as draft:
            for file in ("package.json", "package-lock.json"):
                shutil.copy(LISTS / file, draft)
            _run_or_skip(Path(draft), *NPM_CI)
            with contextlib.suppress(OSError):  # another process was faster
                Path(draft).rename(folder)
    return folder


def run_tool(folder: Path, tool: str, *arguments: str) -> str:
    """Return the output of a package's command, which must succeed."""
    done = _run(folder, f"node_modules/.bin/{tool}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _run_or_skip(folder: Path, *command: str) -> None:
    try:
        done = _run(folder, *command)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"no packages from npm here: {error}")
    if done.returncode:
        pytest.skip(f"no packages from npm here: {command[0]} failed: {' '.join(done.stderr.split())[:150]}")


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
