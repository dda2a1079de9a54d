"""How much a cluster and a companion in mode enforce bear: phones by the thousand, and a hundred dead ones at once."""

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from companion.opensips.mi import Mi
from companion.remediation import audit
from companion.store.devices import load_device
from companion.store.nodes import load_feeds
from tests.acceptance.cluster import Cluster, Setting, cluster_with
from tests.acceptance.conftest import Build
from tests.acceptance.crowd import device_of, phone_at
from tests.acceptance.edge import Companion, Edge, edge_with, settled, stop_pings
from tests.acceptance.test_opensips_cfg import started
from tests.sip_phone.phone import Phone

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("ACCEPTANCE_LARGE"), reason="takes minutes: set ACCEPTANCE_LARGE=1"),
]

PHONES: Final = 2000
SECONDS: Final = 300
PING_SECONDS: Final = 10
DEAD: Final = 100
WITNESSES: Final = 20
LOOK_SECONDS: Final = 0.02

Record = Callable[[str, object], None]


async def test_counts(build: Build, tmp_path: Path, record_property: Record) -> None:
    """Of 2,000 phones on two nodes the companion counts what each one itself does: answers, losses, REGISTERs."""
    sections = {"pings": {"interval": PING_SECONDS}}
    with cluster_with(build, tmp_path, Setting("ownership", interval=PING_SECONDS), **sections) as cluster:
        urls = [url for node in cluster.nodes for url in node.urls]
        phones = [phone_at(urls[number % len(urls)], expires=240, timeout=30) for number in range(PHONES)]
        async with phone_at(urls[0]) as pilot:
            await cluster.join(cluster.nodes[1], pilot)
            await pilot.unregister()
        async with started(phones):
            started_at, cpu = time.monotonic(), cluster.companion.cpu_seconds()
            await mute_for_a_while(phones[::20])
            await settled(lambda: time.monotonic() - started_at >= SECONDS, SECONDS + 30)
            used, took = cluster.companion.cpu_seconds() - cpu, time.monotonic() - started_at
            for node in cluster.nodes:
                await stop_pings(node)
            with contextlib.suppress(TimeoutError):
                await settled(lambda: not differences(cluster, phones))
            assert differences(cluster, phones) == []

        feeds = load_feeds(cluster.companion.store)
        record_property("answered", sum(len(phone.answered) for phone in phones))
        record_property("lost", sum(len(phone.ignored) for phone in phones))
        record_property("registrations", sum(len(phone.registered) for phone in phones))
        record_property("companion_cpu", f"{100 * used / took:.1f} % of one core")
        record_property("companion_memory", f"{cluster.companion.memory_bytes() >> 20} MB")
        record_property("events", {node: feed.received for node, feed in feeds.items()})
        for feed in feeds.values():
            assert (feed.invalid, feed.kernel_drops, feed.gaps, feed.missed) == (0, 0, 0, 0)
        assert [row for row in cluster.audit() if row["result"] == "removed"] == []


async def mute_for_a_while(phones: Sequence[Phone]) -> None:
    """Let phones ignore one ping at least, and fewer than make a candidate."""
    for phone in phones:
        phone.mute()
    await settled(lambda: all(phone.ignored for phone in phones))
    for phone in phones:
        phone.unmute()


def differences(cluster: Cluster, phones: Sequence[Phone]) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """Return the phones of which the companion counts something else than they do, with both counts."""
    counts = ((phone.aor, stored_counts(cluster.companion, phone), own_counts(phone)) for phone in phones)
    return [row for row in counts if row[1] != row[2]]


def own_counts(phone: Phone) -> tuple[int, int, int]:
    return len(phone.answered), len(phone.ignored), len(phone.registered)


def stored_counts(companion: Companion, phone: Phone) -> tuple[int, int, int]:
    """Return answered and lost pings, and the CSeq of the last REGISTER, which counts them."""
    device = load_device(companion.store, device_of(phone))
    cseq = device.contacts[-1].registration.cseq if device else 0
    return (*companion.counts(device_of(phone)), cseq)


@contextmanager
def eager_companion(edge: Edge, folder: Path) -> Iterator[Companion]:
    """Run a companion that neither a breaker nor a cap holds back."""
    eager = {
        "breaker_share": 1,
        "breaker_calm": 1,
        "disconnect_grace": 1,
        "max_per_minute": 100_000,
        "suspects_per_hour": 1000,
    }
    with Companion(folder, edge.datagram, edge.server.mi_url, edge.server.probe_url, remediation=eager) as companion:
        yield companion


async def test_removals_a_minute(build: Build, tmp_path: Path, record_property: Record) -> None:
    """A hundred dead contacts are removed after a question to each, and MI answers others quickly meanwhile."""
    with edge_with(build, tmp_path) as edge, eager_companion(edge, tmp_path) as companion:
        live = [Phone(edge.server.ws_url, f"live{number}@127.0.0.1") for number in range(WITNESSES)]
        dead = [Phone(edge.server.ws_url, f"dead{number}@127.0.0.1") for number in range(DEAD)]
        async with started([*live, *dead]):
            await settled(lambda: all(companion.counts(device_of(phone))[0] for phone in [*live, *dead]))
            quiet_until = _in(5)
            quiet = await look_until(edge, live[0], lambda: time.monotonic() >= quiet_until, quiet_until)
            await asyncio.gather(*(phone.die() for phone in dead))
            looks = await look_until(edge, live[0], lambda: len(removals(companion)) >= DEAD, _in(200))
            rows = removals(companion)
            assert {row["device"] for row in rows} == {device_of(phone) for phone in dead}
            began_at = min(row["at"] - row["duration_ms"] for row in rows)
            busy = [look for look in looks if look.at_ms >= began_at]
            seconds = (rows[-1]["at"] - began_at) / 1000
            record_property("removals_a_minute", f"{60 * DEAD / seconds:.0f} ({DEAD} in {seconds:.1f} s)")
            record_property("mi_ms_quiet", describe(quiet))
            record_property("mi_ms_busy", describe(busy))
            assert percentile(busy, 50) < 100


def _in(seconds: float) -> float:
    return time.monotonic() + seconds


def removals(companion: Companion) -> list[dict[str, Any]]:
    return [row for _, row in audit.read(companion.store) if row["result"] == "removed"]


class MiLook(NamedTuple):
    """Hold when MI was asked (epoch ms) and how many milliseconds its answer took."""

    at_ms: float
    took_ms: float


async def look_until(edge: Edge, phone: Phone, is_over: Callable[[], bool], deadline: float) -> list[MiLook]:
    """Look at a contact through MI again and again until something holds."""
    looks = []
    async with Mi(edge.server.mi_url) as mi:
        while not await asyncio.to_thread(is_over):
            assert time.monotonic() < deadline + 1, "it did not happen in time"
            at_ms, started_at = 1000 * time.time(), time.monotonic()
            assert await mi.show_contact("location", phone.aor)
            looks.append(MiLook(at_ms, 1000 * (time.monotonic() - started_at)))
            await asyncio.sleep(LOOK_SECONDS)
    return looks


def percentile(looks: Sequence[MiLook], percent: int) -> float:
    return statistics.quantiles((look.took_ms for look in looks), n=100)[percent - 1]


def describe(looks: Sequence[MiLook]) -> str:
    slowest = max(look.took_ms for look in looks)
    return f"p50 {percentile(looks, 50):.1f}, p99 {percentile(looks, 99):.1f}, max {slowest:.1f} of {len(looks)}"
