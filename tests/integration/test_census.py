"""Lists of a large fleet: read from the census that a scheduler takes, never from the devices themselves."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from companion.opensips.events import INSERT
from companion.query import census, shared_listing
from companion.query.devices import iterate_devices, iterate_statuses
from companion.query.listing import Query
from companion.query.now import View, load_view
from companion.query.row import make_glance, make_glance_of
from companion.query.shared_listing import SharedListing
from companion.simulator.redis import EmbeddedRedis
from companion.store.census import load_census_header
from companion.store.contacts import encode_contact
from companion.store.devices import load_device
from companion.usrloc.contact import Contact
from tests.integration.conftest import MakeSetup, Setup
from tests.integration.web import FLEET, client, fill


@pytest.fixture
def large(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    """A setup for which a handful of devices is a large fleet, and that looks for a newer census with each question."""
    monkeypatch.setattr(shared_listing, "SMALL", 0)
    monkeypatch.setattr(shared_listing, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(census, "PART", 2)
    setup = make_setup(api={"dashboard": False})
    fill(setup)
    yield setup
    setup.store.close()


def now(setup: Setup, later_ms: int = 0) -> View:
    view = load_view(setup.config, setup.store)
    clock = view.clock._replace(now=view.clock.now + later_ms)
    return View(clock, view.feeds, view.bounds)


def share(setup: Setup) -> census.Census:
    new_census = census.take_census(setup.store, now(setup))
    census.share_census(setup.store, new_census, 60_000)
    return new_census


def total(listing: SharedListing, view: View) -> tuple[int, int]:
    """How many devices there are, and when they were counted, once no newer census is being read any more."""
    page = listing.page(Query(), view)
    while listing._taking and not listing._taking.done():
        time.sleep(0.001)
    return page.total, page.as_of


def test_there_and_back(large: Setup) -> None:
    """A census in parts is read as it was shared."""
    shared_census = share(large)
    header = load_census_header(large.store)
    assert header == (shared_census.at, 2)
    assert list(shared_census.glances) == [
        glance for part in census.load_glances(large.store, header) for glance in part
    ]
    assert shared_census.summary["devices"]["total"] == len(shared_census.glances) == 4


def test_the_shared_census_is_listed(large: Setup) -> None:
    """A large fleet is listed as it was when a scheduler counted it, and anew once that has counted again."""
    first = share(large)
    listing = SharedListing(large.store)
    assert total(listing, now(large)) == (4, first.at)
    fill(large, [*FLEET, (INSERT, "zoe", {})])
    assert total(listing, now(large)) == (4, first.at)
    second = share(large)
    total(listing, now(large))  # begins to read it
    assert total(listing, now(large)) == (5, second.at)


def test_without_a_scheduler(large: Setup) -> None:
    """Where nobody counts, who is asked does, once a minute."""
    listing, view = SharedListing(large.store), now(large)
    assert total(listing, view) == (4, view.clock.now)
    fill(large, [*FLEET, (INSERT, "zoe", {})])
    soon, later = now(large, 1000), now(large, 61_000)
    total(listing, soon)
    assert total(listing, soon) == (4, view.clock.now)
    total(listing, later)
    assert total(listing, later) == (5, later.clock.now)


def test_without_a_scheduler_after_a_step_back(large: Setup) -> None:
    """A list is counted anew once the machine's clock was set back behind it."""
    listing, earlier = SharedListing(large.store), now(large, -3_600_000)
    total(listing, now(large))
    total(listing, earlier)
    assert total(listing, earlier) == (4, earlier.clock.now)


def test_a_census_that_is_gone(large: Setup) -> None:
    """Parts that vanished while they were read lose nobody: the devices are counted."""
    shared_census = share(large)
    large.store.connection.call("DEL", large.store.keys.census_part(shared_census.at, 1))
    view = now(large, 5)
    assert total(SharedListing(large.store), view) == (4, view.clock.now)


def test_rows_are_as_of_now(large: Setup) -> None:
    """The list is the census', but what it says of each device is true now."""
    share(large)
    api = client(large)
    before = api.get("/api/v1/devices?aor=ann").json()["devices"][0]
    contact = _contact_of(large)
    contact.ended_at = 1
    large.store.connection.call("SET", large.store.keys.contact("ann", contact.id), encode_contact(contact))
    after = api.get("/api/v1/devices?aor=ann").json()["devices"][0]
    assert (before["status"], after["status"]) == ("online", "offline")


def _contact_of(setup: Setup) -> Contact:
    device = load_device(setup.store, "ann/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001")
    assert device is not None
    return device.contacts[0]


def test_a_glance_is_the_same_either_way(large: Setup) -> None:
    """What is read for a census says of a device what all that is known of it says."""
    view = now(large)
    assert {make_glance(device, view) for device in iterate_devices(large.store)} == {
        make_glance_of(device, statuses, view.bounds) for device, statuses in iterate_statuses(large.store, view)
    }


def test_redis_is_away(make_setup: MakeSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis a list is a problem that says so, and no old list."""
    monkeypatch.setattr(shared_listing, "SMALL", 0)
    server = EmbeddedRedis(tmp_path / "redis")
    with server:
        setup = make_setup(server=server, api={"dashboard": False})
        fill(setup)
        api = client(setup)
        assert api.get("/api/v1/devices").status_code == 200
    assert api.get("/api/v1/devices").status_code == 503
