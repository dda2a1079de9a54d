"""Run a companion's services, a process each, and measure the CPU time and memory of processes."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from companion.services.app import ServiceName
from companion.simulator.redis import _die_with_parent, find_free_port
from tests.benchmarks.processes import WAIT_SECONDS, wait_until

STOP_SECONDS: Final = 20.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Services:
    """Hold the running services by name; `port` is the API's, `endpoint` the bus that the consumer reads."""

    def __init__(self, folder: Path, redis_url: str, more: str) -> None:
        self.port = find_free_port()
        self.endpoint = f"tcp://127.0.0.1:{find_free_port()}"
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self._folder = folder
        self._stack = ExitStack()
        self._config = folder / "companion.toml"
        self._config.write_text(
            f'[redis]\nurl = "{redis_url}"\n[consumer]\nsubscribe = ["{self.endpoint}"]\n'
            f'[api]\nlisten = "127.0.0.1:{self.port}"\n{more}'
        )

    def start(self, *names: ServiceName, **environment: str) -> None:
        """Start services with these environment variables."""
        for name in names:
            self.services[name] = self._stack.enter_context(self._service(name, environment))

    def stop(self, name: ServiceName) -> None:
        """Stop a service, which may be started again."""
        child = self.services.pop(name)
        child.send_signal(signal.SIGTERM)
        child.wait(STOP_SECONDS)

    def wait_until(self, done: Callable[[], bool], what: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait for a condition.

        Raises RuntimeError with the end of its log when a service ends meanwhile.
        """

        def done_or_dead() -> bool:
            for name, child in self.services.items():
                if child.poll() is not None:
                    raise RuntimeError(f"{name} ended:\n{self._log(name).read_text()[-2000:]}")
            return done()

        wait_until(done_or_dead, what, pause=0.1, seconds=seconds)

    def pids(self) -> dict[str, int]:
        """Return the processes of the running services, each of the API by its number."""
        own = {name: child.pid for name, child in self.services.items()}
        workers = find_children(own["api"]) if "api" in own else []
        return own | {f"api-{number}": pid for number, pid in enumerate(workers, 1)}

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def _service(self, name: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a service that ends with this process; it logs to a file, because a full pipe would block it."""
        command = (sys.executable, "-m", "companion", "run", name, "-c", str(self._config))
        with self._log(name).open("wb") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
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
def open_services(folder: Path, redis_url: str, more: str = "") -> Iterator[Services]:
    """Write a configuration, with `more` tables of TOML, for services to start on."""
    companion = Services(folder, redis_url, more)
    try:
        yield companion
    finally:
        companion.close()


class Processor:
    """Measure the CPU time of some processes since this object was made, and that of all others; Linux only."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._before = self._seconds()
        self._all_before = _busy_seconds()

    def used(self) -> dict[str, float]:
        """Return the CPU seconds of each process."""
        return {name: now - self._before[name] for name, now in self._seconds().items()}

    def shares(self, seconds: float) -> dict[str, float]:
        """Return the cores used by each process over `seconds`; "others" are all other processes."""
        took, everyone = self.used(), _busy_seconds() - self._all_before
        others = max(0.0, everyone - sum(took.values()))
        return {name: used / seconds for name, used in (took | {"others": others}).items()}

    def _seconds(self) -> dict[str, float]:
        return {name: processor_seconds(pid) for name, pid in self._pids.items()}


def find_children(pid: int) -> list[int]:
    """Return the ids of the processes that a process started from its first thread."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _busy_seconds() -> float:
    """Return the busy seconds of all processors, by proc(5): user, nice, system and interrupts."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


def processor_seconds(pid: int) -> float:
    """Return user and system time, fields 14 and 15 in proc(5); field 2, a name in brackets, may hold spaces."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return 1024 * int(re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0])


def peak_mb(pid: int) -> float:
    """Return the largest resident memory of a process so far, in MB."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[0]) / 1000
