"""A companion's services, a process each, on a configuration of their own; and what their processes cost."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from companion.services.app import ServiceName
from companion.simulator.redis import _die_with_parent, free_port
from tests.benchmarks.processes import wait_until

STOP_SECONDS: Final = 20.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Running:
    """The services that run, by name; `port` is the API's, `endpoint` where the consumer listens to a publisher."""

    def __init__(self, folder: Path, redis_url: str, more: str) -> None:
        self.port = free_port()
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self._stack = ExitStack()
        self._config = folder / "companion.toml"
        self._config.write_text(
            f'[redis]\nurl = "{redis_url}"\n[consumer]\nsubscribe = ["{self.endpoint}"]\n'
            f'[api]\nlisten = "127.0.0.1:{self.port}"\n{more}'
        )

    def start(self, *names: ServiceName) -> None:
        for name in names:
            self.services[name] = self._stack.enter_context(self._service(name))

    def wait_until(self, done: Callable[[], bool], what: str) -> None:
        """Wait for a condition; a service that ends meanwhile is told of, with its last words."""

        def done_or_dead() -> bool:
            for name, child in self.services.items():
                if child.poll() is not None:
                    raise RuntimeError(f"{name} ended:\n{self._log(name).read_text()[-2000:]}")
            return done()

        wait_until(done_or_dead, what, pause=0.1)

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def _service(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Its log goes into a file: a pipe that nobody reads would bring it to a standstill. It ends when we do."""
        command = (sys.executable, "-m", "companion", "run", name, "-c", str(self._config))
        with self._log(name).open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # nothing else reaches a child whose parent was killed
                preexec_fn=_die_with_parent,  # noqa: PLW1509
            )
        try:
            yield child
        finally:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@contextmanager
def running(folder: Path, redis_url: str, more: str = "") -> Iterator[Running]:
    """A configuration, with `more` tables of TOML, and nothing that runs yet."""
    companion = Running(folder, redis_url, more)
    try:
        yield companion
    finally:
        companion.close()


class Processor:
    """How much of a core each of some processes took since this was made, and all others together; Linux only."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = self._seconds()

    def shares(self, seconds: float) -> dict[str, float]:
        """By name, in cores; `seconds` is how long it was looked at. "others" are the processes that were not named."""
        took = {name: (now - self._before[name]) / seconds for name, now in self._seconds().items()}
        everyone = took.pop("all")
        return {**took, "others": max(0.0, everyone - sum(took.values()))}

    def _seconds(self) -> dict[str, float]:
        return {**{name: processor_seconds(pid) for name, pid in self._pids.items()}, "all": _busy_seconds()}


def _busy_seconds() -> float:
    """Of all processors together, from proc(5): user, nice, system, and of interrupts; not idle, not stolen."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


def processor_seconds(pid: int) -> float:
    """Of user and system, from proc(5): fields 14 and 15; the second, a name in brackets, may hold spaces."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mb(pid: int) -> float:
    """The most memory a process ever had, in MB."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) / 1000
