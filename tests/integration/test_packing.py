"""A consumer that keeps nearly all devices packed stores what one stores that packs none."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import pytest

from companion import metrics
from companion.bus.envelope import Message
from companion.consumer import loader, memory
from companion.consumer.recorder import Recorder
from companion.opensips.events import DELETE, DISCONNECT, INSERT, LATENCY, LOST_PING_US, UPDATE
from companion.store.contacts import iterate_failing_contacts
from companion.text import Json
from tests.integration.conftest import MakeSetup, Setup, message, phone_event, record_batch

PHONES: Final = [f"phone{number}" for number in range(6)]
WS: Final = {"received": "sip:192.0.2.9:4321;transport=ws", "socket": "ws:127.0.0.1:8080"}
CUT: Final = {"src_ip": "192.0.2.9", "src_port": 4321, "dst_ip": "127.0.0.1", "dst_port": 8080, "proto": "ws"}
STORY: Final[Sequence[tuple[str, Sequence[Json]]]] = (
    (INSERT, [phone_event(phone) for phone in PHONES]),
    (INSERT, [phone_event("web", **WS)]),
    *[(LATENCY, [phone_event(phone, latency=20_000) for phone in PHONES])] * 2,
    *[(LATENCY, [phone_event(phone, latency=LOST_PING_US) for phone in PHONES[:3]])] * 3,
    (DISCONNECT, [CUT]),
    (LATENCY, [phone_event(PHONES[0], latency=30_000)]),
    (UPDATE, [phone_event(PHONES[1], cseq=2, received="sip:192.0.2.7:5060")]),
    (DELETE, [phone_event(phone) for phone in PHONES[3:5]]),
    (INSERT, [phone_event(PHONES[3], cseq=9, callid="again")]),
)


def tell(start: int, story: Sequence[tuple[str, Sequence[Json]]] = STORY) -> list[list[Message]]:
    """Return the messages of each step, each event a second later than the one before."""
    ts, seqs, batches = start, dict.fromkeys((name for name, _ in story), -1), []
    for name, steps in story:
        batch = []
        for params in steps:
            ts, seqs[name] = ts + 1000, seqs[name] + 1
            batch.append(message(name, params, ts, seqs[name]))
        batches.append(batch)
    return batches


async def record(setup: Setup, batches: Sequence[Sequence[Message]]) -> Recorder:
    recorder = Recorder(setup.config, setup.store)
    for batch in batches:
        await record_batch(recorder, batch)
    return recorder


def failing(setup: Setup) -> list[Any]:
    contacts = iterate_failing_contacts(setup.store)
    return sorted((one.binding.aor, one.consecutive_lost, one.disconnected_at) for one in contacts)


def test_packed_all_the_time(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registrations, pings, losses, a disconnect and ends are stored the same when each device is packed at once."""
    batches = tell(int(time.time() * 1000) - 60_000)
    whole, tight = make_setup(), make_setup()
    asyncio.run(asyncio.wait_for(record(whole, batches), 60))
    monkeypatch.setattr(memory, "UNPACKED_CONTACTS", 0)
    asyncio.run(asyncio.wait_for(record(tight, batches), 60))
    assert tight.pages() == whole.pages()
    assert failing(tight) == failing(whole)
    assert len(failing(whole)) == 2
    held = {form: metrics.DEVICES_HELD.labels(form)._value.get() for form in ("packed", "unpacked")}
    assert held == {"packed": len(PHONES) + 1, "unpacked": 0}


def test_ping_of_a_packed_contact(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping of a packed contact costs no question to Redis, and is stored."""
    setup = make_setup()
    monkeypatch.setattr(memory, "UNPACKED_CONTACTS", 0)
    story = [
        (INSERT, [phone_event(phone) for phone in PHONES]),
        (LATENCY, [phone_event(phone, latency=20_000) for phone in PHONES]),
    ]
    registered, pinged = tell(int(time.time() * 1000) - 60_000, story)

    async def run() -> None:
        recorder = await record(setup, [registered])
        monkeypatch.delattr(loader, "load_devices_of_bindings")
        await record_batch(recorder, pinged)

    asyncio.run(run())
    assert {page["contacts"][0]["last_latency_ms"] for page in setup.pages().values()} == {20}


def test_flood_of_pings_of_packed_contacts(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contacts that are packed and unpacked between their pings take in every ping, cached or not."""
    setup = make_setup()
    monkeypatch.setattr(memory, "UNPACKED_CONTACTS", 2)
    start = int(time.time() * 1000) - 60_000
    events = [
        (start + 1000 * turn + number, {**phone_event(phone), "expires": 0, "latency": 1000 * (turn + 1)})
        for turn in range(5)
        for number, phone in enumerate(PHONES[: 2 if turn % 2 else 6])
    ]
    encoded = [(ts, message(LATENCY, params, ts, 0).events[0][1]) for ts, params in events]
    batches = [[Message(LATENCY, "opensips", 1, seq, encoded[seq : seq + 3])] for seq in range(0, len(encoded), 3)]
    asyncio.run(asyncio.wait_for(record(setup, batches), 60))
    assert setup.samples() == len(events)
    last = {phone: setup.page(phone)["contacts"][0]["last_latency_ms"] for phone in PHONES}
    assert last == dict.fromkeys(PHONES, 5)
