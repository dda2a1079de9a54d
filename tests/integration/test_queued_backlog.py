"""A backlog out of a queue is stored at its own times, and is no evidence for an end or a removal."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from companion.bus.envelope import HEARTBEAT, Message
from companion.consumer.recorder import Recorder
from companion.opensips.events import INSERT, LATENCY, LOST_PING_US, UPDATE
from companion.remediation.candidates import Sweep, collect_fleet
from companion.remediation.safety import find_trouble
from companion.store.locks import acquire_dump_lock
from companion.store.nodes import load_feeds
from companion.times import MINUTE_MS, now_ms
from tests.integration.conftest import MakeSetup, Setup, message, phone_event, record_batch

AGO = [now_ms() - minutes * MINUTE_MS for minutes in range(20)]
"""Times by how many minutes ago they are."""


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    return make_setup(pings={"interval": 30})


def queued_recorder(setup: Setup) -> Recorder:
    """Make a recorder to which RabbitMQ brings the events of the node."""
    recorder = Recorder(setup.config, setup.store)
    recorder.note_queued("opensips")
    return recorder


def beat(seq: int, ts: int) -> Message:
    return message(HEARTBEAT, {"seqs": {}}, ts, seq)


def candidates(setup: Setup) -> list[str]:
    """Return the AORs of contacts that a sweep would act on, by their pings alone."""
    turn = acquire_dump_lock(setup.store, f"test-{time.monotonic_ns()}", 60)
    assert turn
    sweep = Sweep(turn, now_ms(), "enforce", load_feeds(setup.store), frozenset())
    fleet = collect_fleet(setup.config, setup.store, sweep)
    return [candidate.contact.binding.aor for group in fleet.candidates.values() for candidate in group]


def trouble(setup: Setup) -> str:
    return find_trouble(setup.feed(), setup.config.remediation, setup.config.pings, now_ms())


def losses(times: Sequence[int]) -> list[Message]:
    lost = phone_event("a", latency=LOST_PING_US)
    return [message(LATENCY, lost, ts, seq) for seq, ts in enumerate(times)]


def test_lost_pings_before_late_answers(setup: Setup) -> None:
    """Lost pings out of a backlog make no contact a candidate, before and after its answer is read."""
    recorder = queued_recorder(setup)
    asyncio.run(record_batch(recorder, [message(INSERT, phone_event("a"), AGO[12], 0), beat(0, AGO[12])]))
    recorder._memory.feeds.held["opensips"].steady_since = AGO[15]  # as if it had run for long
    asyncio.run(record_batch(recorder, [*losses(AGO[10:4:-1]), beat(1, AGO[5])]))
    assert (candidates(setup), trouble(setup)) == ([], "its feed is silent")
    asyncio.run(record_batch(recorder, [beat(2, now_ms())]))
    assert candidates(setup) == []
    assert trouble(setup)
    answer = message(LATENCY, phone_event("a", latency=20_000), AGO[4], 6)
    asyncio.run(record_batch(recorder, [answer, beat(3, now_ms())]))
    assert candidates(setup) == []
    assert trouble(setup)


def test_expiry_waits_for_the_queue(setup: Setup) -> None:
    """A contact that expired while the consumer was away is not ended before its next REGISTER is read."""
    first = queued_recorder(setup)
    expires = AGO[5] // 1000
    asyncio.run(record_batch(first, [message(INSERT, phone_event("a", expires=expires), AGO[12], 0), beat(0, AGO[12])]))
    asyncio.run(first.tenure.close())
    second = queued_recorder(setup)
    asyncio.run(record_batch(second, [message(LATENCY, phone_event("b", latency=20_000), AGO[9], 0)]))
    asyncio.run(record_batch(second, [message(UPDATE, phone_event("a", cseq=2), AGO[6], 0), beat(1, now_ms())]))
    assert setup.page("a")["contacts"][0]["ended_at"] is None
