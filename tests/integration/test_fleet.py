"""The fleet that readers hold: read once, and then moved on by what the consumer tells of."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from companion.consumer.recorder import Recorder
from companion.opensips.events import DELETE, INSERT, LATENCY, LOST_PING_US, UPDATE
from companion.query import fleet_follower, shared_listing
from companion.query.devices import iterate_devices
from companion.query.fleet_follower import FleetFollower
from companion.query.listing import Query
from companion.query.now import View, load_view
from companion.query.reader import Reader
from companion.query.row import make_glance
from companion.query.shared_listing import SharedListing
from companion.query.summary import compute_summary, load_fleet
from companion.simulator.redis import EmbeddedRedis
from companion.store import fleet_changes
from companion.store.devices import forget_vanished_devices, load_brief_devices, scan_device_ids
from companion.store.store import Store
from companion.times import iso, now_ms
from companion.usrloc.brief import BriefDevice
from tests.integration.conftest import MakeSetup, Setup, message, phone_event, record_batch, until
from tests.integration.web import FLEET, client, fill

NODES = ("opensips", "second")


def now(setup: Setup, later_ms: int = 0) -> View:
    view = load_view(setup.config, setup.store)
    clock = view.clock._replace(now=view.clock.now + later_ms)
    return View(clock, view.feeds, view.bounds)


def check(follower: FleetFollower, setup: Setup, view: View) -> None:
    """Compare what a follower says with what all devices say that are stored."""
    follower.catch_up(lambda: view)
    devices = list(iterate_devices(setup.store))
    glances = [make_glance(device, view) for device in devices]
    statuses = Counter(view.status(contact) for device in devices for contact in device.contacts)
    summary = follower.summarise()
    assert follower.glances() == sorted(glances, key=lambda glance: glance.device)
    assert summary == compute_summary(setup.store, view)
    assert {status: n for status, n in summary["contacts"].items() if n and status != "total"} == statuses
    assert summary["devices"]["total"] == len(devices)


@pytest.mark.parametrize("seed", range(4))
async def test_as_all_devices_say(make_setup: MakeSetup, seed: int) -> None:
    """Events and the clock at random: counts, statuses, lists and percentiles are those of all devices each time."""
    setup = make_setup(pings={"interval": 20})
    random_, follower, recorder = random.Random(seed), FleetFollower(setup.store), Recorder(setup.config, setup.store)
    seqs: Counter[tuple[str, str]] = Counter()
    start = at = now_ms() - 600_000
    for _ in range(25):
        batch = []
        for _ in range(random_.randrange(1, 12)):
            at += random_.randrange(1, 3000)
            node, event = random_.choice(NODES), random_.choice((INSERT, UPDATE, DELETE, LATENCY, LATENCY, LATENCY))
            batch.append(message(event, make_params(random_, event, at), at, seqs[node, event], node))
            seqs[node, event] += 1
        await record_batch(recorder, batch)
        for node in NODES:
            heard_at = at - random_.choice((0, 0, 20_000))
            setup.store.connection.call("HSET", setup.store.keys.node(node), "heartbeat_at", heard_at)
        view = now(setup)
        check(follower, setup, View(view.clock._replace(now=at), view.feeds, view.bounds))
        at += random_.choice((0, 0, 0, 45_000))
    assert at > start
    await recorder.tenure.close()


def make_params(random_: random.Random, event: str, at: int) -> dict[str, object]:
    name, number = random_.choice("abcde"), random_.randrange(3)
    params = {
        "uri": f"sip:{name}@192.0.2.{number};transport=udp",
        "attr": f"<urn:uuid:00000000-0000-0000-0000-00000000000{number // 2}>",
        "expires": at // 1000 + random_.choice((5, 60, 3600)),
    }
    if event == LATENCY:
        params["latency"] = random_.choice((LOST_PING_US, random_.randrange(1, 400_000)))
    return phone_event(name, **params)


def test_what_the_store_forgets(make_setup: MakeSetup) -> None:
    """A device whose data have expired leaves the list with its index entry."""
    setup = make_setup()
    fill(setup)
    follower = FleetFollower(setup.store)
    follower.catch_up(partial(now, setup))
    assert len(follower) == 4
    gone = "ann/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001"
    setup.store.connection.call("DEL", setup.store.keys.device(gone))
    setup.store.connection.call("ZADD", setup.store.keys.devices(setup.store.keys.shard("ann")), 1, gone)
    assert forget_vanished_devices(setup.store, now_ms()) == 1
    check(follower, setup, now(setup))
    assert len(follower) == 3


def test_batches_that_are_gone(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that slept too long, or whose Redis lost what it had, reads the fleet anew."""
    setup = make_setup()
    monkeypatch.setattr(fleet_changes, "MAX_BATCHES", 1)
    fill(setup)
    follower = FleetFollower(setup.store)
    follower.catch_up(partial(now, setup))
    fill(setup, [*FLEET, (INSERT, "zoe", {})])
    setup.store.connection.call("XTRIM", setup.store.keys.fleet_changes(), "MAXLEN", 0)
    check(follower, setup, now(setup))
    assert len(follower) == 5
    setup.store.connection.call("FLUSHDB")
    check(follower, setup, now(setup))
    assert len(follower) == 0


def test_a_batch_of_another(make_setup: MakeSetup) -> None:
    """An entry that is no batch of the companion has the fleet read anew, and stops nothing."""
    setup = make_setup()
    fill(setup)
    follower = FleetFollower(setup.store)
    follower.catch_up(partial(now, setup))
    for fields in (("b", "no msgpack"), ("other", "field")):
        setup.store.connection.call("XADD", setup.store.keys.fleet_changes(), "*", *fields)
        fill(setup, [*FLEET, (INSERT, "zoe", {})])
        check(follower, setup, now(setup))
    assert len(follower) == 5


def test_what_no_batch_told(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that died before it told of its batch: the devices are found nevertheless."""
    setup = make_setup()
    monkeypatch.setattr(fleet_follower, "DIFFERENCE_SECONDS", 0.0)
    monkeypatch.setattr(fleet_follower, "REVIEWED_SECONDS", 0.0)
    fill(setup)
    follower = FleetFollower(setup.store)
    follower.catch_up(partial(now, setup))
    position = setup.store.connection.call("XINFO", "STREAM", setup.store.keys.fleet_changes())["last-generated-id"]
    fill(setup, [*FLEET, (INSERT, "zoe", {})])
    for entry, _ in setup.store.connection.call("XRANGE", setup.store.keys.fleet_changes(), f"({position}", "+"):
        setup.store.connection.call("XDEL", setup.store.keys.fleet_changes(), entry)
    for _ in range(2):
        follower.catch_up(partial(now, setup))
    check(follower, setup, now(setup))
    assert len(follower) == 5


def test_a_fleet_that_takes_long_to_read(make_setup: MakeSetup) -> None:
    """Answers are as of the end of the reading: meanwhile time goes on, and nodes come back."""
    setup = make_setup()
    fill(setup)
    first = now(setup)
    later = replace(first, clock=first.clock._replace(now=first.clock.now + 100_000))
    views = [first, later]
    follower = FleetFollower(setup.store)
    assert follower.catch_up(lambda: views.pop(0)) == later
    assert (follower.summarise()["at"], views) == (iso(later.clock.now), [])


def total(listing: SharedListing) -> int:
    """How many devices there are, once no newer listing is being made any more."""
    listing.begin().result()
    return listing.page(Query())[0].total


def test_a_large_fleet_is_listed_now_and_then(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large fleet the listing of a moment ago serves, but its rows are as of now."""
    setup = make_setup(api={"dashboard": False})
    monkeypatch.setattr(shared_listing, "SMALL", 0)
    monkeypatch.setattr(shared_listing, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(shared_listing, "RESTS", 1e9)
    monkeypatch.setattr(shared_listing, "LONGEST_SECONDS", 1e9)
    fill(setup)
    listing = SharedListing(setup.store, partial(now, setup))
    assert total(listing) == 4
    fill(setup, [*FLEET, (INSERT, "zoe", {}), (DELETE, "eve%2F", {"uri": "sip:e%2Fve@192.0.2.4"})])
    assert total(listing) == 4
    page, glances = listing.page(Query(aor="eve"))
    assert (len(page.devices), glances[0].status) == (1, "offline")
    monkeypatch.setattr(listing, "_due_at", time.monotonic())
    assert total(listing) == 5


def test_a_fleet_is_read_once(make_setup: MakeSetup) -> None:
    """After the first page none reads the devices again that did not change."""
    setup = make_setup(api={"dashboard": False})
    fill(setup)
    api = client(setup)
    api.get("/api/v1/devices")
    reads = setup.store.connection.call("INFO", "commandstats").get("cmdstat_mget", {}).get("calls")
    assert len(api.get("/api/v1/devices").json()["devices"]) == 4
    again = setup.store.connection.call("INFO", "commandstats").get("cmdstat_mget", {}).get("calls")
    assert again - reads <= 2  # the review of a device


def test_a_glance_is_the_same_either_way(make_setup: MakeSetup) -> None:
    """What a contact in brief says of a device is what all that is known of it says."""
    setup = make_setup()
    fill(setup)
    view = now(setup)
    fleet = load_fleet(setup.store, view)
    assert {make_glance(device, view) for device in iterate_devices(setup.store)} == set(fleet.glances(fleet.entries()))


def test_redis_is_away(make_setup: MakeSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis a list is a problem that says so, and soon no old list."""
    monkeypatch.setattr(shared_listing, "SMALL", 0)
    server = EmbeddedRedis(tmp_path / "redis")
    with server:
        setup = make_setup(server=server, api={"dashboard": False})
        fill(setup)
        api = client(setup)
        assert api.get("/api/v1/devices").status_code == 200
    until(lambda: api.get("/api/v1/devices").status_code == 503)


def test_a_fleet_that_is_still_read(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a list while a large fleet is read for the first time is told so, and may come again."""
    setup = make_setup(api={"dashboard": False})
    fill(setup)
    monkeypatch.setattr(shared_listing, "FIRST_SECONDS", 0.01)
    may_read = threading.Event()
    load = load_brief_devices

    def load_late(*arguments: Any) -> list[BriefDevice]:
        may_read.wait(60)
        return load(*arguments)

    monkeypatch.setattr(fleet_follower, "load_brief_devices", load_late)
    api = client(setup)
    problem = api.get("/api/v1/devices")
    assert (problem.status_code, problem.json()["detail"]) == (
        503,
        "the fleet is being read: 0 of 4 devices: try again in a moment",
    )
    assert problem.headers["retry-after"]
    may_read.set()
    until(lambda: api.get("/api/v1/devices").status_code == 200)


def test_what_is_read_so_far(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can do with less than all gets the devices that are read so far, with their number and that of all."""
    setup = make_setup()
    fill(setup)
    may_read, scan = threading.Event(), scan_device_ids

    def scan_haltingly(store: Store) -> Iterator[list[str]]:
        for ids in scan(store):
            yield ids[:3]
            may_read.wait(60)
            yield ids[3:]

    monkeypatch.setattr(fleet_follower, "scan_device_ids", scan_haltingly)
    reader = Reader(setup.config, setup.store)
    until(lambda: reader.devices_so_far(Query())["total"] == 3)
    so_far = reader.devices_so_far(Query(sort="device", limit=2))
    assert (len(so_far["devices"]), so_far["counts"]["total"], so_far["stored"]) == (2, 3, 4)
    assert not so_far["is_read"]
    may_read.set()
    until(lambda: reader.devices_so_far(Query())["is_read"])
    assert reader.devices_so_far(Query())["counts"]["total"] == 4


def test_a_listing_does_not_grow_old(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a listing took to make, the next one is not put off for longer than the bound."""
    setup = make_setup(api={"dashboard": False})
    for name, value in (("SMALL", 0), ("LOOK_SECONDS", 0.0), ("RESTS", 1e9)):
        monkeypatch.setattr(shared_listing, name, value)
    fill(setup)
    listing = SharedListing(setup.store, partial(now, setup))
    assert total(listing) == 4
    assert listing._due_at <= time.monotonic() + shared_listing.LONGEST_SECONDS


def test_rows_are_read_while_all_are_looked_at(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the rows of a page gets them after a part of a large fleet, and not after the whole."""
    setup = make_setup(api={"dashboard": False})
    fill(setup)
    follower = FleetFollower(setup.store)
    follower.catch_up(partial(now, setup))
    ids = [glance.device for glance in follower.glances()]
    rows: list[int] = []

    def pause(_: float) -> None:
        with ThreadPoolExecutor(1) as reader:
            rows.append(len(reader.submit(follower.glances_of, ids).result(5)))

    monkeypatch.setattr(fleet_follower, "LOOK", 1)
    monkeypatch.setattr(fleet_follower, "_never", SimpleNamespace(wait=pause))
    follower.glances()
    assert rows == [len(ids)] * len(ids)
