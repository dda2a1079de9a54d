"""Run a demo, and read where it is."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx2

from companion.text import Json

COMPANION: Final = str(Path(sys.executable).with_name("companion"))
PATIENCE_SECONDS: Final = 120.0


class Demo(NamedTuple):
    """The site of a running demo, the token to log in with, and its configuration."""

    site: str
    secret: str
    config: Path

    def get(self, path: str, **query: str | int) -> Json:
        """What the API says."""
        answer = httpx2.get(f"{self.site}/api/v1/{path}", params=query, timeout=PATIENCE_SECONDS)
        document: Json = answer.raise_for_status().json()
        return document

    def print(self, *words: str, columns: int = 80) -> str:
        """What a command prints in a terminal, with its colours."""
        done = subprocess.run(
            [COMPANION, *words, "-c", str(self.config)],
            capture_output=True,
            text=True,
            check=True,
            env={"FORCE_COLOR": "1", "COLUMNS": str(columns), "TERM": "xterm-256color", "PATH": "/usr/bin:/bin"},
        )
        return done.stdout


@contextmanager
def run_demo(folder: Path) -> Iterator[Demo]:
    """Start a demo with a week behind it, and end it."""
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen([COMPANION, "demo", "--folder", str(folder / "data")], stdout=printed)
    try:
        yield _wait_for(process, folder)
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], folder: Path) -> Demo:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        printed = dict(re.findall(r"^  (\S[^:]*?) +(\S+)$", (folder / "printed").read_text(), re.MULTILINE))
        if "the log" in printed:
            return Demo(printed["in a browser"].rstrip("/"), printed["log in with"], folder / "data/config.toml")
        time.sleep(0.1)
    raise RuntimeError("the demo did not start")
