"""Test that a fleet that moves on step by step says what a naive computation over all devices says."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.quality import Bounds, nearest_rank
from companion.query.fleet import OVERTAKEN_MS, PERCENTILES, LiveFleet, compute_percentiles
from companion.query.now import View
from companion.query.row import make_glance_of
from companion.store.nodes import DEAD_AFTER_MS, Feed
from companion.text import Json
from companion.usrloc.brief import BriefContact, BriefDevice
from companion.usrloc.contact import STATUSES, Clock, Status, best, status
from tests.unit.store.contacts import NOW

INTERVAL_MS = 30_000
NODES = ("one", "two")
NETWORKS = ("192.0.2.0/24", "2001:db8:1::/48", "")
moments = st.just(0) | st.integers(-3 * INTERVAL_MS, INTERVAL_MS).map(lambda ms: NOW + ms)


@st.composite
def contacts(draw: st.DrawFn, contact_id: str) -> BriefContact:
    is_pinged = draw(st.booleans())
    return BriefContact(
        contact_id,
        draw(st.sampled_from(NODES)),
        draw(st.sampled_from(["A", "B"])),
        draw(st.sampled_from(NETWORKS)),
        draw(st.booleans()),
        draw(moments),
        draw(moments),
        draw(st.integers(0, 500)) if is_pinged else None,
        draw(moments) if is_pinged else 0,
        draw(st.integers(0, 4)),
        draw(moments),
        draw(st.sampled_from([0, 0, NOW])),
        draw(st.sampled_from([0, 0, NOW])),
    )


@st.composite
def devices(draw: st.DrawFn) -> BriefDevice:
    name = draw(st.sampled_from("abc"))
    numbers = draw(st.lists(st.integers(0, 2), max_size=3, unique=True))
    return BriefDevice(f"{name}/x", tuple(draw(contacts(f"{name}{number}")) for number in numbers))


@dataclass
class Naive:
    """Keep all devices, and compute everything from all of them."""

    view: View
    devices: dict[str, BriefDevice] = field(default_factory=dict)

    def answer(self, contact_id: str, at: int, latency_ms: int) -> None:
        for device in self.devices.values():
            for contact in device.contacts:
                if contact.id == contact_id and at > contact.last_latency_at:
                    contact.last_latency_at, contact.last_latency_ms = at, latency_ms

    def status(self, contact: BriefContact) -> Status:
        feed = self.view.feeds.get(contact.node)
        return status(contact, self.view.clock, feed_alive=feed is not None and feed.is_alive(self.view.clock.now))

    def summarise(self) -> Json:
        contacts = [(contact, self.status(contact)) for device in self.devices.values() for contact in device.contacts]
        live = [contact for contact, own in contacts if own != "offline"]
        pinged = [contact for contact in live if contact.last_latency_at or contact.consecutive_lost]
        latencies = sorted(contact.last_latency_ms for contact in live if contact.last_latency_ms is not None)
        nodes = {contact.node for contact, _ in contacts}
        return {
            "devices": by_status([best(map(self.status, device.contacts)) for device in self.devices.values()]),
            "contacts": by_status([own for _, own in contacts]),
            "contacts_by_node": {
                node: by_status([own for contact, own in contacts if contact.node == node]) for node in nodes
            },
            "latency": {f"p{percent}_ms": nearest_rank(latencies, percent) for percent in PERCENTILES},
            "loss_ratio": round(sum(c.consecutive_lost > 0 for c in pinged) / len(pinged), 4) if pinged else None,
        }

    def glances(self) -> list[Any]:
        return [
            make_glance_of(device, [self.status(contact) for contact in device.contacts], self.view.bounds)
            for device in self.devices.values()
        ]

    def networks(self) -> dict[str, int]:
        live = (c for device in self.devices.values() for c in device.contacts if self.status(c) != "offline")
        return {network: count for network, count in Counter(c.network for c in live).items() if network and count > 1}


def by_status(statuses: list[Any]) -> Json:
    counts = Counter(statuses)
    return {one: counts[one] for one in STATUSES} | {"total": len(statuses)}


def make_view(now: int, heartbeats: dict[str, int]) -> View:
    feeds = {node: Feed(node, heartbeat_at=at) for node, at in heartbeats.items()}
    return View(Clock(now, INTERVAL_MS, 3), feeds, Bounds())


def put(fleet: LiveFleet, naive: Naive, device: BriefDevice) -> None:
    fleet.put(copy(device))
    naive.devices[device.id] = copy(device)


def drop(fleet: LiveFleet, naive: Naive, device_id: str) -> None:
    fleet.drop(device_id)
    naive.devices.pop(device_id, None)


def answer(fleet: LiveFleet, naive: Naive, contact_id: str, at: int, latency_ms: int) -> None:
    fleet.answer(contact_id, at, latency_ms)
    naive.answer(contact_id, at, latency_ms)


def advance(fleet: LiveFleet, naive: Naive, ms: int, ages: dict[str, int]) -> None:
    now = naive.view.clock.now + ms
    view = make_view(now, {node: now - age for node, age in ages.items()})
    fleet.reassess(fleet.advance(view))
    if not -OVERTAKEN_MS <= ms < 0:
        naive.view = view


def copy(device: BriefDevice) -> BriefDevice:
    return BriefDevice(device.id, tuple(map(msgspec.structs.replace, device.contacts)))


steps = st.one_of(
    st.tuples(st.just(put), devices()),
    st.tuples(st.just(drop), st.sampled_from(["a/x", "b/x", "c/x"])),
    st.tuples(st.just(answer), st.sampled_from(["a0", "a1", "b0", "c2"]), moments, st.integers(0, 500)),
    st.tuples(
        st.just(advance),
        st.integers(-3 * INTERVAL_MS, INTERVAL_MS) | st.integers(0, 20 * INTERVAL_MS),
        st.dictionaries(st.sampled_from(NODES), st.sampled_from([0, DEAD_AFTER_MS, DEAD_AFTER_MS + 1])),
    ),
)


@settings(max_examples=300)
@given(st.lists(steps, max_size=25))
def test_as_a_naive_computation(some_steps: list[tuple[Any, ...]]) -> None:
    """After each step counts, statuses, percentiles and glances are those of all devices computed anew."""
    view = make_view(NOW, {"one": NOW})
    fleet, naive = LiveFleet(view), Naive(view)
    for take, *arguments in some_steps:
        take(fleet, naive, *arguments)
        summary = fleet.summarise()
        assert {name: summary[name] for name in naive.summarise()} == naive.summarise()
        assert fleet.glances(fleet.entries()) == sorted(naive.glances(), key=lambda glance: glance.device)
        assert fleet.networks(2) == naive.networks()
        assert len(fleet) == len(naive.devices)


def test_a_device_that_is_put_again_and_again() -> None:
    """However often a device changes, it is due once."""
    fleet = LiveFleet(make_view(NOW, {"n": NOW}))
    contact = BriefContact("a0", "n", "", "", False, 0, NOW, None, 0, 0, 0, 0, 0)
    for second in range(100):
        fleet.put(BriefDevice("a/x", (msgspec.structs.replace(contact, last_register_at=NOW + second * 1000),)))
    later = NOW + 99_000 + 2 * INTERVAL_MS
    fleet.reassess(fleet.advance(make_view(later, {"n": later})))
    assert fleet.summarise()["devices"]["online"] == 1
    fleet.reassess(fleet.advance(make_view(later + 1, {"n": later})))
    assert fleet.summarise()["devices"]["unknown"] == 1


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_percentiles(latencies: list[int]) -> None:
    """At least p percent are not above the p-th percentile, and it is the lowest of them for which that is so."""
    percentiles = compute_percentiles(Counter(latencies))
    for p in (50, 95, 99):
        value = percentiles[f"p{p}_ms"]
        assert value in latencies
        assert sum(latency <= value for latency in latencies) * 100 >= p * len(latencies)
        assert sum(latency < value for latency in latencies) * 100 < p * len(latencies)


def test_percentiles_of_nothing() -> None:
    """Nothing has no percentiles."""
    assert compute_percentiles(Counter()) == {"p50_ms": None, "p95_ms": None, "p99_ms": None}
