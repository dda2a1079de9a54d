"""What the benchmarks measure with is what they say it is: the large fleet, and the candidates of a sweep."""

import asyncio
import time
from collections import Counter

import pytest

from companion.opensips.events import LATENCY, UPDATE, ContactEvent, Registration, parse
from companion.query.listing import Query
from companion.query.reader import Reader
from companion.store.devices import load_device
from companion.store.nodes import Feed, prepare_feed
from tests.benchmarks import sweep
from tests.benchmarks.history import fill
from tests.benchmarks.phones import LOSSES, STATUS, WEEK_SAMPLES, Fleet, Phone, phone
from tests.benchmarks.pinger import pinger
from tests.benchmarks.processes import bench_redis
from tests.benchmarks.publisher import NODE
from tests.integration.conftest import MakeSetup, Setup, until

FLEET = Fleet(devices=100, weeklong=2, expires=int(time.time()) + 3600)
LOSSES_AT_ONCE = FLEET.devices
PHONES = [phone(number) for number in range(FLEET.devices)]


@pytest.fixture
def filled(make_setup: MakeSetup) -> Setup:
    """A store with the fleet, whose bridge has just been heard."""
    setup = make_setup()
    assert FLEET.devices == sum(fill(setup.store, FLEET))
    feed = Feed(NODE, NODE, heartbeat_at=int(time.time() * 1000))
    setup.store.connection.pipeline(prepare_feed(setup.store.keys, feed, {}))
    return setup


def test_devices_are_found(filled: Setup) -> None:
    """Every phone is a device under its id and its AOR, with its make, its status and its way to be woken."""
    reader = Reader(filled.config, filled.store)
    pages = [reader.device(name, 3_600_000) for one in PHONES for name in (one.device, one.aor)]
    expected = [
        (one.device, STATUS[one.kind], one.model.user_agent, bool(one.model.push)) for one in PHONES for _ in range(2)
    ]
    assert expected == [(page["device"], page["status"], page["user_agent"], page["push"]) for page in pages]


def test_every_status_has_devices(filled: Setup) -> None:
    """A list by status has something to show, of each."""
    reader = Reader(filled.config, filled.store)
    counted = Counter(STATUS[one.kind] for one in PHONES)
    assert set(STATUS.values()) == set(counted)
    assert counted == {status: reader.devices(Query(status=(status,)))["total"] for status in counted}


def test_samples(filled: Setup) -> None:
    """Each phone has as many answered pings as it is said to have, and those that it lost."""
    read, connection, keys = filled.store.series.read, filled.store.connection, filled.store.keys
    until_ms = int(time.time() * 1000)
    counts = [
        tuple(len(read(connection, key(one.device), 0, until_ms)) for key in (keys.latency, keys.lost))
        for one in PHONES
    ]
    assert [(FLEET.samples(one.number), LOSSES[one.kind]) for one in PHONES] == counts
    assert counts[0][0] == WEEK_SAMPLES
    assert FLEET.all_samples == sum(answered for answered, _ in counts)


def test_pings_change_no_registration(filled: Setup) -> None:
    """What a ping says of a registration is what is stored of it: no benchmark measures how it is rewritten."""
    for one in FLEET.pinged():
        device = load_device(filled.store, one.device)
        assert device is not None
        published = parse(LATENCY, one.params(one.ping_us(1), FLEET.expires))
        assert isinstance(published, ContactEvent)
        assert [published.registration] == [contact.registration for contact in device.contacts]


def test_pings_are_counted(filled: Setup) -> None:
    """The publisher says how many pings it published: so many are stored, and none while its pace is 0."""
    before = filled.samples() + _lost(filled)
    with filled.process("consumer"), pinger(f"tcp://127.0.0.1:{filled.publish}", FLEET) as publisher:
        assert publisher.pace(5000) == 0
        until(lambda: filled.events_done(NODE) > 500)
        published = publisher.pace(0)
        until(lambda: filled.events_done(NODE) == published)
        stored = filled.samples() + _lost(filled) - before
        # flat out, a contact's losses of a second may count as one that came twice
        assert published - LOSSES_AT_ONCE <= stored <= published
        assert published == publisher.pace(0)


def test_registrations_are_renewed(filled: Setup) -> None:
    """A phone that registers again has a later expiry, and its pings from then on tell of it."""
    with filled.process("consumer"), pinger(f"tcp://127.0.0.1:{filled.publish}", FLEET) as publisher:
        publisher.pace(500, UPDATE)
        until(lambda: filled.events_done(NODE) > FLEET.devices)
        registered = publisher.pace(0)
        until(lambda: filled.events_done(NODE) == registered)
        renewed = [_registration(filled, one) for one in FLEET.registering()]
        assert all(one.cseq > 1 and one.expires_at > FLEET.expires * 1000 for one in renewed)
        publisher.pace(500)
        until(lambda: filled.events_done(NODE) > registered + FLEET.devices)
        assert renewed == [_registration(filled, one) for one in FLEET.registering()]


def _registration(setup: Setup, one: Phone) -> Registration:
    device = load_device(setup.store, one.device)
    assert device is not None
    (contact,) = device.contacts
    return contact.registration


def test_a_sweep_decides() -> None:
    """By the rules of today each candidate is decided, and nothing else."""
    contacts, candidates = 60, 20
    with bench_redis() as (_, redis, _):
        sweep.fill(redis, contacts, candidates)
        with sweep.prepared_sweeper(redis.url, contacts, candidates) as (sweeper, store):
            asyncio.run(sweeper.run())
            assert candidates == sweep.count_decisions(store)


def _lost(setup: Setup) -> int:
    read, keys, until_ms = setup.store.series.read, setup.store.keys, int(time.time() * 1000) + 60_000
    return sum(len(read(setup.store.connection, keys.lost(one.device), 0, until_ms)) for one in PHONES)
