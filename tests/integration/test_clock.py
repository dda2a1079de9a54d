"""The machine's clock is set while the companion runs, in a process of its own under libfaketime."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from companion.config import Config
from companion.services.app import ServiceName
from companion.usrloc.contact import FOR_EVER
from tests.fake_clock import LIBRARY, Clock
from tests.integration.conftest import MakeSetup, Process, Setup, Udp, eventually, notification, phone_event

LATENCY = "E_UL_LATENCY_UPDATE"
SECONDS = 60.0
HOUR = 3600
TEN_YEARS = 315_360_000
QUICK = {"sweep_interval": 0.25, "warm_up": 0.3}
MAX_GROWTH_BYTES = 40 << 20

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="no libfaketime here: apt-get install faketime")

READ_CLOCKS = """
import sys, time
monotonic = time.monotonic()
print(time.time()); sys.stdout.flush(); sys.stdin.readline()
print(time.time(), time.monotonic() - monotonic)
"""


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "faketime")


@contextmanager
def companion(setup: Setup, clock: Clock, *services: ServiceName) -> Iterator[Process]:
    setup.tables["remediation"] = QUICK
    setup.config = Config.model_validate(setup.tables)
    with setup.process(*services, **clock.environment) as process:
        yield process


def count_sweeps(setup: Setup) -> int:
    return int(setup.store.connection.call("GET", setup.store.keys.fence()) or 0)


def count_samples(setup: Setup, device: str) -> int:
    """Return how many answered pings are stored, also those of a time that is yet to come."""
    return len(setup.store.series.read(setup.store.connection, setup.store.keys.latency(device), 0, FOR_EVER))


async def wait_for_sweeps(setup: Setup, count: int = 4) -> None:
    last = count_sweeps(setup) + count
    await eventually(lambda: count_sweeps(setup) >= last, SECONDS)


def resident_bytes(process: Process) -> int:
    pages = int(Path(f"/proc/{process.popen.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_clock_can_be_set(clock: Clock) -> None:
    """The library moves the machine's clock and not the monotonic one: otherwise the tests below prove nothing."""
    with subprocess.Popen(
        [sys.executable, "-c", READ_CLOCKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | clock.environment,
    ) as reader:
        assert reader.stdout is not None
        before = float(reader.stdout.readline())
        clock.set(-HOUR)
        after, elapsed = map(float, reader.communicate("\n")[0].split())
    assert -HOUR - 30 < after - before < -HOUR + 30
    assert 0 <= elapsed < 30


@pytest.mark.parametrize("seconds", [-HOUR, -60, HOUR, TEN_YEARS])
async def test_jobs_go_on(make_setup: MakeSetup, clock: Clock, seconds: int) -> None:
    """Jobs run by elapsed time after a step either way, and make up for no missed run."""
    setup = make_setup()
    with companion(setup, clock, "consumer", "scheduler") as process:
        await wait_for_sweeps(setup)
        before = resident_bytes(process)
        clock.set(seconds)
        await wait_for_sweeps(setup, 12)
        assert resident_bytes(process) - before < MAX_GROWTH_BYTES
        assert process.popen.poll() is None


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
async def test_no_event_is_lost(make_setup: MakeSetup, clock: Clock, seconds: int) -> None:
    """Each ping around the step is stored, and none is refused because it comes from the future."""
    setup = make_setup()
    with companion(setup, clock, "bridge", "consumer", "scheduler") as process, Udp(setup.datagram) as udp:
        await eventually(lambda: setup.feed().heartbeat_at, SECONDS)
        for number in range(200):
            if number == 100:
                clock.set(seconds)
            udp.send(notification(LATENCY, phone_event("web", latency=20_000 + number * 1000)))
            await asyncio.sleep(0.03)
        await eventually(lambda: count_samples(setup, "web/web") == 200, SECONDS)
        assert [line for line in process.log() if line["level"] == "error"] == []
    assert "future" not in process.log_file.read_text()
