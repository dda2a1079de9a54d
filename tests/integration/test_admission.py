"""A flood of strangers: what it costs, and that known devices go on; with a real Redis."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from companion import metrics
from companion.bus.envelope import Message
from companion.consumer.recorder import Recorder
from companion.doctor import feeds
from companion.doctor.facts import Facts, RedisFacts
from companion.opensips.events import DELETE, INSERT, LATENCY
from companion.query.reader import Reader
from companion.simulator.redis import EmbeddedRedis
from companion.store.contacts import iterate_failing_contacts
from companion.store.devices import count_devices, forget_vanished_devices, load_device, load_devices_of_aors
from companion.store.nodes import load_feeds
from tests.integration.conftest import MakeSetup, Setup, message, phone_event, record_batch
from tests.integration.media import keys

SMALL = {"contacts_per_aor": 5, "devices_per_aor": 5, "new_aors_per_minute": 10, "max_stored_devices": 60}


class Feed:
    """The events of one node, each later than the one before, recorded by one consumer after another."""

    def __init__(self, setup: Setup, ago_ms: int = 0) -> None:
        self.setup = setup
        self.ts = int(time.time() * 1000) - 20_000 - ago_ms
        self.seqs: dict[str, int] = {}

    def say(self, name: str, aor: str, **params: Any) -> Message:
        self.ts += 1
        self.seqs[name] = self.seqs.get(name, -1) + 1
        return message(name, phone_event(aor, **params), self.ts, self.seqs[name])

    def record(self, *batches: Sequence[Message]) -> None:
        """Store batches, as a consumer that starts before the first and stops after the last."""

        async def run() -> None:
            recorder = Recorder(self.setup.config, self.setup.store)
            for batch in batches:
                await record_batch(recorder, batch)
            await recorder.tenure.close()

        asyncio.run(run())

    def settle(self) -> None:
        """Let an hour have passed since the node was first heard of."""
        node = self.setup.store.keys.node("opensips")
        self.setup.store.connection.call("HSET", node, "known_since", self.ts - 4_000_000)


def instance(number: int) -> dict[str, str]:
    return {"attr": f"<urn:uuid:{number}>", "uri": f"sip:eve@192.0.2.{number % 250}:{5000 + number}"}


def test_a_flood_of_aors(make_setup: MakeSetup) -> None:
    """Strangers come in at the pace that is allowed; known phones go on, and summary, doctor and metrics tell it."""
    setup = make_setup(consumer=SMALL)
    feed = Feed(setup)
    feed.record([feed.say(INSERT, f"known-{n}") for n in range(30)])
    feed.settle()
    before = metrics.total(metrics.LEFT_OUT, node="opensips", why="new_aors")
    flood = [feed.say(INSERT, f"stranger-{n}") for n in range(300)]
    feed.record(flood, [feed.say(LATENCY, f"known-{n}", latency=40_000) for n in range(30)])
    assert 40 <= count_devices(setup.store) <= 50  # the flood may have come in two minutes
    assert setup.page("known-29")["last_latency_ms"] == 40
    (node,) = Reader(setup.config, setup.store).summary()["nodes"]
    assert (node["left_out"], node["left_out_aor"], node["left_out_of_aor"]) == (
        300 - (count_devices(setup.store) - 30),
        "stranger-299",
        1,
    )
    assert metrics.total(metrics.LEFT_OUT, node="opensips", why="new_aors") - before == node["left_out"]
    stored = {name: replace(own, heartbeat_at=feed.ts) for name, own in load_feeds(setup.store).items()}
    facts = Facts(now=feed.ts, config=setup.config, redis=RedisFacts(place=""), feeds=stored)
    assert "left out, 1 of them of AOR stranger-299: new_aors" in str(feeds.check(facts))
    assert "1 contact of AOR stranger-299 left out (new_aors)" in " ".join(setup.cli("summary").stdout.split())
    assert not list(iterate_failing_contacts(setup.store))


def test_a_cold_start(make_setup: MakeSetup) -> None:
    """A companion that just began to hear of a node takes in its whole fleet at once, also across a restart."""
    setup = make_setup(consumer=SMALL | {"max_stored_devices": 1000})
    feed = Feed(setup)
    fleet = [feed.say(LATENCY, f"phone-{n}", latency=40_000) for n in range(200)]
    feed.record(fleet[:100])
    feed.record(fleet[100:])
    assert count_devices(setup.store) == 200
    assert setup.feed().left_out == 0


def test_a_fleet_that_registers_again(make_setup: MakeSetup) -> None:
    """After a restart of OpenSIPS all known phones register at once: none is left out, though few are in memory."""
    setup = make_setup(consumer=SMALL | {"max_devices": 20, "max_stored_devices": 100})
    feed = Feed(setup)
    feed.record([feed.say(INSERT, f"phone-{n}") for n in range(100)])
    feed.settle()
    new_call = [feed.say(INSERT, f"phone-{n}", callid="new", cseq=1) for n in range(100)]
    feed.record(new_call[:50], new_call[50:])
    assert count_devices(setup.store) == 100
    assert setup.feed().left_out == 0
    assert (
        setup.page("phone-7")["contacts"][0]["last_register_at"] > setup.page("phone-7")["contacts"][0]["registered_at"]
    )


def test_one_account_that_invents_instances(make_setup: MakeSetup) -> None:
    """However many devices an account invents, Redis keeps a few of them, and nothing of the others."""
    setup = make_setup(consumer=SMALL)
    feed = Feed(setup)
    feed.record([feed.say(INSERT, "alice")])
    life = [
        (
            feed.say(INSERT, "eve", **instance(n)),
            feed.say(LATENCY, "eve", latency=1, **instance(n)),
            feed.say(DELETE, "eve", **instance(n)),
        )
        for n in range(60)
    ]
    events = [event for events in life for event in events]
    feed.record(*(events[n : n + 30] for n in range(0, len(events), 30)))
    ids = [f"eve/urn:uuid:{n}" for n in range(55, 60)]
    assert sorted(device.id for device in load_devices_of_aors(setup.store, ["eve"])) == ids
    kept = [key for key in keys(setup) if "eve" in key]
    assert not [key for key in kept if not any(device in key for device in (*ids, ":aor:eve"))]
    contacts = [key for key in keys(setup) if ":contact:" in key]
    assert len(contacts) == 1 + 5
    assert setup.store.connection.call("ZCARD", setup.store.keys.devices(0)) == 6
    assert len([key for key in keys(setup) if ":instance:" in key]) == 5
    assert load_device(setup.store, "alice/alice")


def test_a_contact_of_a_deleted_device_comes_back(make_setup: MakeSetup) -> None:
    """A phone that takes over the URI of a device that makes room in the same moment is stored, and nothing else is."""
    setup = make_setup(consumer=SMALL | {"devices_per_aor": 2})
    feed = Feed(setup)
    uri = instance(0)["uri"]
    feed.record([feed.say(INSERT, "eve", **instance(n)) for n in range(2)], [feed.say(DELETE, "eve", **instance(0))])
    newer = feed.say(INSERT, "eve", **instance(2))
    feed.record([newer, feed.say(INSERT, "eve", **instance(2) | {"uri": uri})])
    (page,) = [device for device in load_devices_of_aors(setup.store, ["eve"]) if device.id == "eve/urn:uuid:2"]
    assert [(one.binding.uri, bool(one.ended_at)) for one in page.contacts][-1] == (uri, False)
    assert load_device(setup.store, "eve/urn:uuid:0") is None


def test_ended_contacts_leave_redis(make_setup: MakeSetup) -> None:
    """A phone that makes a new contact each time it comes leaves the last ones in Redis, not all of a week."""
    setup = make_setup()
    feed = Feed(setup)
    uris = [f"sip:web@{n}.invalid" for n in range(80)]
    events = [feed.say(name, "web", uri=uri) for uri in uris for name in (INSERT, DELETE)]
    feed.record(*(events[n : n + 20] for n in range(0, len(events), 20)))
    assert len([key for key in keys(setup) if ":contact:" in key]) == 51


@pytest.fixture
def small_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis", modules=False) as redis:
        yield redis


def test_a_redis_that_fills_up(make_setup: MakeSetup, small_redis: EmbeddedRedis) -> None:
    """Near the end of its memory Redis gets no new devices, so that known ones can be written: they go on."""
    setup = make_setup(server=small_redis)
    feed = Feed(setup)
    feed.record([feed.say(INSERT, f"known-{n}") for n in range(20)])
    setup.store.connection.call("SET", "ballast", "x" * 20_000_000)  # beside it what a batch itself needs is little
    used = setup.store.connection.call("INFO", "memory")["used_memory"]
    setup.store.connection.call("CONFIG SET", "maxmemory", round(used * 1.08))
    flood = [feed.say(INSERT, f"stranger-{n}") for n in range(50)]
    feed.record(flood, [feed.say(LATENCY, f"known-{n}", latency=40_000) for n in range(20)])
    assert count_devices(setup.store) == 20
    assert (setup.feed().left_out, setup.feed().left_out_why) == (50, "redis_full")
    assert setup.page("known-0")["last_latency_ms"] == 40


def test_ids_of_vanished_devices_leave_all_lists(make_setup: MakeSetup) -> None:
    """A device whose keys have expired is on no list of its AOR and instance, which others keep alive."""
    setup = make_setup()
    feed = Feed(setup)
    feed.record([feed.say(INSERT, "eve", **instance(n)) for n in range(3)])
    feed.record([feed.say(INSERT, f"other-{n}", attr="<urn:uuid:1>", uri=f"sip:o@192.0.2.9:{n + 1}") for n in range(2)])
    call, names = setup.store.connection.call, setup.store.keys
    call("DEL", names.device("eve/urn:uuid:1"))
    call("ZADD", names.devices(0), 1, "eve/urn:uuid:1")
    assert forget_vanished_devices(setup.store, feed.ts) == 1
    assert call("SMEMBERS", names.aor("eve")) == {"eve/urn:uuid:0", "eve/urn:uuid:2"}
    assert call("SMEMBERS", names.instance("urn:uuid:1")) == {"other-0/urn:uuid:1", "other-1/urn:uuid:1"}
