"""The capture of a running OpenSIPS, replayed: each device is in the state that its phone was in."""

from itertools import pairwise
from typing import Any

import pytest

from companion import sip
from companion.bridge.stamps import Stamps
from companion.opensips import events
from companion.query.pings import compute_statistics, merge_own_pings
from companion.usrloc import contact as contacts
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Clock, Device, Status
from companion.usrloc.ghosts import ghost_spans, is_ghost
from companion.usrloc.picture import Usrloc
from tests.unit.usrloc.world import INTERVAL_MS, LOST_AFTER, assert_consistent

T0 = 1_795_452_109_605
Capture = list[tuple[int, str, dict[str, Any]]]
DAVE, ALICE = (
    "dave/urn:uuid:9531985d-5d9d-c9f8-1818-e811892f902b",
    "alice/urn:uuid:6513270e-269e-0d37-f2a7-4de452e6b438",
)


class Replay:
    """The capture up to a second of it, stamped as a bridge stamps."""

    def __init__(self, capture: Capture, until: float) -> None:
        self.now = T0 + round(until * 1000)
        self.usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
        played = [event for event in capture if event[0] <= self.now]
        times = iter([at for at, _, _ in played])
        stamps = Stamps(lambda: next(times))
        for _, name, params in played:
            ts = stamps.next(params.get("aor"))
            self.usrloc.apply(events.parse(name, params), Stamp("n", "c", ts, 1))

    def device(self, name: str) -> Device:
        return next(device for device in self.usrloc.devices.by_id.values() if device.id.startswith(f"{name}/"))

    def statuses(self) -> dict[str, Status]:
        """Each device's status; alice has two."""
        clock = Clock(self.now, 5000, LOST_AFTER)
        return {
            device.id if device.aor == "alice" else device.aor: contacts.best(
                contacts.status(contact, clock, feed_alive=True) for contact in device.contacts
            )
            for device in self.usrloc.devices.by_id.values()
        }

    def statistics(self, device: Device) -> dict[str, Any]:
        changes = self.usrloc.changes
        ghosts = {c.number: ghost_spans(c, LOST_AFTER) for c in device.contacts}
        answers = [(ts, value) for owner, ts, value in changes.answered if owner == device.id]
        losses = [(ts, value) for owner, ts, value in changes.lost if owner == device.id]
        return compute_statistics(merge_own_pings(answers, losses, ghosts))

    def lines(self, name: str) -> list[str]:
        device = self.device(name)
        return [entry.event for entry in self.usrloc.changes.entries if entry.device == device.id]


@pytest.fixture(scope="module")
def middle(capture: Capture) -> Replay:
    return Replay(capture, 65)


@pytest.fixture(scope="module")
def end(capture: Capture) -> Replay:
    return Replay(capture, 130)


def count(capture: Capture, aor: str, attr: str, *, until: float) -> dict[str, Any]:
    """A device's pings, counted from the raw events. Dave's old contact is a ghost once his new one answered."""
    pings = [
        (at, params["uri"], params["latency"])
        for at, name, params in capture
        if name == "E_UL_LATENCY_UPDATE" and (params["aor"], params["attr"]) == (aor, attr) and at <= T0 + until * 1000
    ]
    new_answers = [at for at, uri, us in pings if us != 1800000000 and uri.startswith("sip:dave@383677bd891f")]
    ghost_from = min(new_answers, default=1 << 62)
    lost_pings = [
        at
        for at, uri, us in pings
        if us == 1800000000 and not (uri.startswith("sip:dave@ae97d0eda82f") and at > ghost_from)
    ]
    ms = [round(us / 1000) for _, _, us in pings if us != 1800000000]
    return {
        "average_ms": round(sum(ms) / len(ms), 1),
        "max_ms": max(ms),
        "min_ms": min(ms),
        "total": len(ms) + len(lost_pings),
        "answered": len(ms),
        "lost": len(lost_pings),
        "loss_ratio": round(len(lost_pings) / (len(ms) + len(lost_pings)), 4),
    }


@pytest.mark.parametrize("until", [10, 45, 65, 130])
def test_capture_statistics(capture: Capture, until: float) -> None:
    """Each device's numbers are those that a count of the raw events gives."""
    replay = Replay(capture, until)
    raw = {(params["aor"], params["attr"]) for _, name, params in capture if name == "E_UL_CONTACT_INSERT"}
    assert len(raw) == 10
    for aor, attr in raw:
        device = replay.usrloc.devices.by_id[f"{aor}/{attr.strip('<>') or aor}"]
        assert replay.statistics(device) == count(capture, aor, attr, until=until)


def test_capture_in_the_middle(middle: Replay) -> None:
    """At t = 65 each of the ten devices is in the state its phone was in."""
    expected = {
        ALICE: "online",
        "alice/urn:uuid:a170b338-3926-3059-f28c-105d1fb17c23": "online",
        "bob": "online",
        "carol": "offline",
        "dave": "online",
        "erin": "stale",
        "frank": "losing",
        "grace": "offline",
        "heidi": "offline",
        "ivan x": "online",
    }
    assert middle.statuses() == expected


def test_capture_at_the_end(end: Replay) -> None:
    """At the end who was still connected is stale, and who had gone is offline."""
    gone, stale = [ALICE, "carol", "erin", "frank", "heidi"], ["bob", "dave", "grace", "ivan x"]
    other_alice = "alice/urn:uuid:a170b338-3926-3059-f28c-105d1fb17c23"
    assert end.statuses() == dict.fromkeys(gone, "offline") | dict.fromkeys([*stale, other_alice], "stale")


def test_dave(middle: Replay, end: Replay) -> None:
    """Dave's page reload: two contacts of one device, the old one a ghost whose losses are not the device's."""
    device = middle.device("dave")
    old, new = device.contacts
    assert (device.id, is_ghost(old, LOST_AFTER), is_ghost(new, LOST_AFTER)) == (DAVE, True, False)
    assert (old.consecutive_lost, new.consecutive_lost, middle.statistics(device)["lost"]) == (3, 0, 0)
    assert end.statistics(end.device("dave"))["lost"] == 0
    assert new.registration.user_agent == 'Weird "UA" \\ \xe9 \t<b>x</b>'


def test_switch_over_of_dave(middle: Replay) -> None:
    """Dave was away for the second between his connection's death and his new page."""
    entries = [entry for entry in middle.usrloc.changes.entries if entry.event == "switched-over"]
    assert [entry.device for entry in entries] == [DAVE]
    assert [entry.fields["outage_ms"] for entry in entries] == [1002]


def test_bob(middle: Replay) -> None:
    """Bob has no instance, lost three pings and is back."""
    device = middle.device("bob")
    assert (device.id, device.instance, device.contacts[0].consecutive_lost) == ("bob/bob", "", 0)
    assert middle.lines("bob") == ["registered", "lost", "stale", "recovered"]


@pytest.mark.parametrize(
    ("name", "ended_by", "ended_at_s"),
    [
        ("heidi", "removed-after-lost-pings", 64.160),
        ("carol", "removed-after-lost-pings", 45.415),
        ("grace", "unregistered", 34.964),
    ],
)
def test_ends(middle: Replay, name: str, ended_by: str, ended_at_s: float) -> None:
    """What OpenSIPS removed for lost pings and what unregistered are told apart."""
    contact = middle.device(name).contacts[0]
    assert contact.ended_by == ended_by
    assert contact.ended_at == pytest.approx(T0 + ended_at_s * 1000, abs=2)


def test_heidi(middle: Replay) -> None:
    """Heidi's connection died, her pings got lost, OpenSIPS removed her; nobody switched over."""
    assert middle.lines("heidi") == ["registered", "disconnected", "lost", "stale", "removed-after-lost-pings"]


def test_grace(end: Replay) -> None:
    """Grace came back with another URI: one device, two contacts, no switch-over."""
    device = end.device("grace")
    assert [bool(contact.ended_at) for contact in device.contacts] == [True, False]
    assert len({contact.binding.uri for contact in device.contacts}) == 2
    assert end.lines("grace") == ["registered", "unregistered", "registered", "disconnected"]


def test_ivan(end: Replay) -> None:
    """An AOR with a space is an AOR."""
    assert end.device("ivan x").contacts[0].binding.uri.startswith("sip:ivan%20x@")


def test_push(end: Replay) -> None:
    """Carol and erin can be woken by push."""
    woken = {
        d.aor: d.contacts[0].push_provider for d in end.usrloc.devices.by_id.values() if d.contacts[0].push_provider
    }
    assert woken == {"carol": "fcm", "erin": "webpush"}


def test_capture_is_consistent(end: Replay) -> None:
    """The real stream leaves a consistent picture, and device times that rise."""
    assert_consistent(end.usrloc)
    for device in end.usrloc.devices.by_id.values():
        times = [entry.ts for entry in end.usrloc.changes.entries if entry.device == device.id]
        assert all(one <= other for one, other in pairwise(times))
        assert device.id == sip.device_id(device.aor, device.contacts[0].binding.uri, device.instance)
