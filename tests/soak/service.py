"""Run one service of the companion in a process, kill it, freeze it, and read its metrics."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx2

from companion.services.app import ServiceName
from companion.simulator.redis import _die_with_parent, find_free_port
from tests.soak.redis_pair import frozen

STOP_SECONDS: Final = 30.0
SCRAPE_SECONDS: Final = 5.0
_SAMPLE: Final = re.compile(r"^opensips_companion_(\S+) (\S+)$", re.MULTILINE)
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Rss(NamedTuple):
    """Hold the resident memory of a process at a time of the monotonic clock."""

    at: float
    pid: int
    size: int


class Service:
    """Run `companion run NAME`, again after each end, with one log for all its lives."""

    def __init__(self, name: str, kind: ServiceName, config: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.kind = kind
        self.log_file = config.with_name(f"{name}.log")
        self.rss: list[Rss] = []
        self.unexpected_ends: list[str] = []
        self._command = (sys.executable, "-m", "companion", "run", kind, "-c", str(config))
        self._metrics_port = find_free_port()
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("COMPANION_")},
            **environment,
            "COMPANION_METRICS__LISTEN": f"127.0.0.1:{self._metrics_port}",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # nothing else reaches a child whose parent was killed
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """Return its process id, 0 while there is no process."""
        return self._process.pid if self._process else 0

    async def kill(self, seconds: float) -> None:
        """End it as kill -9 does, and start it again after a while."""
        if process := self._take():
            process.kill()
            await asyncio.to_thread(process.wait)
        await asyncio.sleep(seconds)
        self.start()

    async def restart(self, seconds: float) -> None:
        """End it as an operator does, and start it again after a while."""
        await self.stop()
        await asyncio.sleep(seconds)
        self.start()

    async def freeze(self, seconds: float) -> None:
        with self.frozen():
            await asyncio.sleep(seconds)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        with frozen(self.pid):
            yield

    async def stop(self) -> None:
        """End it as an operator does; anything but a clean end within STOP_SECONDS is noted."""
        if not (process := self._take()):
            return
        process.terminate()
        try:
            code = await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            self._note_end(f"did not stop within {STOP_SECONDS:g} s")
        else:
            if code:
                self._note_end(f"stopped with code {code}")

    def observe(self) -> None:
        """Note its memory, and whether it ended by itself; then it is started again."""
        if self._process is None:
            return
        if (code := self._process.poll()) is not None:
            self._note_end(f"ended by itself with code {code}")
            self.start()
            return
        size = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        self.rss.append(Rss(time.monotonic(), self.pid, size))

    async def read_metrics(self, client: httpx2.AsyncClient) -> dict[str, float]:
        """Return its counters, by name and labels without the common prefix; none when it does not answer."""
        try:
            answer = await client.get(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=SCRAPE_SECONDS)
        except httpx2.HTTPError:
            return {}
        return {name: float(value) for name, value in _SAMPLE.findall(answer.text)}

    def _take(self) -> "subprocess.Popen[bytes] | None":
        process, self._process = self._process, None
        return process

    def _note_end(self, how: str) -> None:
        self.unexpected_ends.append(f"{self.name} {how}")
