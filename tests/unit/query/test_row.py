"""Test the rows of devices."""

import json

from hypothesis import given
from hypothesis import strategies as st

from companion.quality import Bounds
from companion.query.now import View
from companion.query.row import make_glance, render_row
from companion.store.nodes import Feed
from companion.times import iso
from companion.usrloc.contact import Clock, Contact, Device
from tests.unit.store.contacts import NOW, contacts, some_contact


def make_view(*, heartbeat_at: int = NOW) -> View:
    return View(Clock(NOW, 5000, 3), {"n": Feed("n", "c", heartbeat_at=heartbeat_at)}, Bounds())


def test_row() -> None:
    """A device has the row of its best contact; its latency is the last one any contact had."""
    ended = some_contact("sip:a@1", ended_at=NOW, last_latency_at=NOW - 3000, last_latency_ms=900)
    stale = some_contact("sip:a@2", disconnected_at=NOW, last_latency_at=NOW - 10, last_latency_ms=217)
    current = some_contact("sip:a@3;pn-provider=fcm;pn-prid=x", last_register_at=NOW - 1000)
    row = render_row(make_glance(Device("alice/x", "alice", "x", NOW, [ended, stale, current]), make_view()))
    expected = {
        "device": "alice/x",
        "aor": "alice",
        "node": "n",
        "status": "online",
        "user_agent": "sip:a@3;pn-provider=fcm;pn-prid=x",
        "push": True,
        "last_latency_ms": 217,
        "quality": "poor",
        "last_latency_at": iso(NOW - 10),
        "last_register_at": iso(NOW - 1000),
        "consecutive_lost": 0,
        "contacts": 2,
    }
    assert expected == row


def test_row_of_a_dead_feed() -> None:
    """A silent bridge makes a device unknown, not lost."""
    device = Device("alice/x", "alice", "x", NOW, [some_contact(last_latency_at=NOW, last_latency_ms=40)])
    assert [
        render_row(make_glance(device, view))["status"]
        for view in (make_view(), make_view(heartbeat_at=NOW - 10_001), View(make_view().clock, {}, Bounds()))
    ] == ["online", "unknown", "unknown"]


def test_row_of_nothing() -> None:
    """A device without contacts is offline, and of a latency nobody knows there is no quality."""
    row = render_row(make_glance(Device("alice/x", "alice", "x", NOW), make_view()))
    assert (row["status"], row["last_latency_ms"], row["quality"], row["contacts"]) == ("offline", None, None, 0)


@given(st.lists(contacts, max_size=3))
def test_row_of_anything(some: list[Contact]) -> None:
    """Whatever is stored can be shown."""
    json.dumps(render_row(make_glance(Device("alice/x", "alice", "x", NOW, some), make_view())))
