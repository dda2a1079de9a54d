"""A thousand real phones on OpenSIPS, RabbitMQ as the bus, and a consumer that is away for ten minutes."""

import asyncio
import os
import statistics
import time
from itertools import cycle
from pathlib import Path
from typing import Final

import pytest

from companion.simulator.redis import EmbeddedRedis
from tests.acceptance.conftest import Build, eventually
from tests.acceptance.edge import INTERVAL, LOST_AFTER, Edge, device_of, edge_with, settled, stop_pings
from tests.acceptance.test_cluster_load import Record, mute_for_a_while
from tests.acceptance.test_opensips_cfg import started
from tests.acceptance.test_rabbitmq import bridge_process
from tests.integration.conftest import Setup
from tests.integration.rabbitmq_process import RabbitServer, find_rabbitmq
from tests.sip_phone.phone import Phone
from tests.sip_phone.udp_phone import UdpPhone

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not os.environ.get("ACCEPTANCE_LARGE"), reason="takes 12 minutes: set ACCEPTANCE_LARGE=1"),
    pytest.mark.skipif(find_rabbitmq() is None, reason="rabbitmq-server is missing"),
]

PHONES: Final = 200 * INTERVAL
SECONDS: Final = 600
DELAYS: Final = (0.02, 0.05, 0.1, 0.2)
"""How long phones wait with their answers, in seconds."""
MUTED: Final = 20
"""Of so many phones one does not answer for a while, three times in the ten minutes."""
SPREAD: Final = {'"natping_partitions", 4': '"natping_partitions", 8'}
"""All phones are in one process, which answers one ping after the other: not too many at a time."""
LATE_MS: Final = 1000 * INTERVAL / 2
"""An event that is nearer to its ping than to any other has its own time."""
SLACK_MS: Final = 2
"""Clocks are read in whole milliseconds."""
MEDIAN_MS: Final = 50
Points = list[tuple[int, int]]


async def test_ten_minutes_away(build: Build, tmp_path: Path, record_property: Record) -> None:
    """What happened meanwhile is stored at its own time: answers, their latencies, and losses are the phones' own."""
    with (
        RabbitServer(tmp_path / "rabbitmq") as rabbit,
        EmbeddedRedis(tmp_path / "redis") as redis,
        edge_with(build, tmp_path, **SPREAD) as edge,
        bridge_process(tmp_path, edge.datagram, rabbit.url),
    ):
        setup = Setup(
            redis,
            tmp_path,
            bridge={"datagram": "", "publish": rabbit.url},
            consumer={"subscribe": [rabbit.url]},
            pings={"interval": INTERVAL, "lost_after": LOST_AFTER},
        )
        await eventually(lambda: "publishing into RabbitMQ" in (tmp_path / "bridge.log").read_text())
        urls, delays = cycle([edge.server.ws_url, f"udp://127.0.0.1:{edge.server.udp_port}"]), cycle(DELAYS)
        phones = [make_phone(next(urls), f"phone{n}", next(delays)) for n in range(PHONES)]
        async with started(phones):
            with setup.process("consumer"):
                await settled(lambda: setup.events_done() > 3 * PHONES)
            away_at = time.monotonic()
            for turn in range(3):
                await mute_for_a_while(phones[turn::MUTED])
                await asyncio.sleep(away_at + (turn + 1) * SECONDS / 3 - time.monotonic())
            await settled(lambda: all(phone.answered[-1] > phone.ignored[-1] for phone in phones if phone.ignored))
            await stop_pings(edge.server)
            waiting, _ = await rabbit.read_queue()
            with setup.process("consumer"):
                back_at = time.monotonic()
                await settled(lambda: not differences(setup, edge, phones), 300)
                took = time.monotonic() - back_at
        deviations = [late for phone in phones for late in deviations_ms(setup, edge, phone)]
        excesses = [excess for phone in phones for excess in excesses_ms(setup, edge, phone)]
        feed = setup.feed()
        setup.store.close()
    record_property("answered", sum(len(phone.answered) for phone in phones))
    record_property("lost", sum(len(phone.ignored) for phone in phones))
    record_property("events", feed.received)
    record_property("messages in the queue", waiting)
    record_property("seconds until all was stored", round(took, 1))
    record_property("stored times after the phones', ms", _describe(deviations))
    record_property("latencies above the phones' delay, ms", _describe(excesses))
    assert (feed.invalid, feed.kernel_drops, feed.gaps, feed.missed) == (0, 0, 0, 0)
    assert max(map(abs, deviations)) < LATE_MS
    assert min(deviations) > -SLACK_MS
    assert min(excesses) > -SLACK_MS
    assert statistics.median(excesses) < MEDIAN_MS


def make_phone(url: str, name: str, delay: float) -> Phone:
    made = UdpPhone if url.startswith("udp:") else Phone
    return made(url, f"{name}@127.0.0.1", answer_delay=delay, timeout=30)


def read_points(setup: Setup, edge: Edge, phone: Phone) -> tuple[Points, Points]:
    """Return the answered and the lost pings of a phone as stored."""
    keys, store, device = setup.store.keys, setup.store, device_of(edge.server, phone)
    both = (keys.latency(device), keys.lost(device))
    answered, lost = (store.series.read(store.connection, key, 0, 1 << 52) for key in both)
    return answered, lost


def differences(setup: Setup, edge: Edge, phones: list[Phone]) -> list[str]:
    """Return the phones that counted other answers or losses than are stored."""
    return [
        phone.aor
        for phone in phones
        if tuple(map(len, read_points(setup, edge, phone))) != (len(phone.answered), len(phone.ignored))
    ]


def deviations_ms(setup: Setup, edge: Edge, phone: Phone) -> list[float]:
    """Return how much later each answer is stored than its phone sent it."""
    answered, _ = read_points(setup, edge, phone)
    own = sorted(1000 * (at + phone.answer_delay) for at in phone.answered)
    return [at - expected for (at, _), expected in zip(answered, own, strict=True)]


def excesses_ms(setup: Setup, edge: Edge, phone: Phone) -> list[float]:
    """Return how much longer each latency is than the phone's own delay."""
    answered, _ = read_points(setup, edge, phone)
    return [latency_ms - 1000 * phone.answer_delay for _, latency_ms in answered]


def _describe(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100)
    return f"min {min(values):.0f}, median {cuts[49]:.0f}, p99 {cuts[98]:.0f}, max {max(values):.0f}"
