"""What keeps remediation from doing harm, as far as it needs no server."""

from typing import Any

import pytest

from companion.config import PingsSection, RemediationSection
from companion.opensips.events import LATENCY, LOST_PING_US, UPDATE, ContactEvent, Registration
from companion.remediation import audit, policy, push, safety
from companion.remediation.audit import AuditEntry, Outcome, Result
from companion.remediation.policy import Candidate, Decision, Push
from companion.store.nodes import Feed
from companion.store.pushes import DAY_MS
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding, Contact, Device, contact_id
from companion.usrloc.evidence import NodeEvidence
from companion.usrloc.picture import Usrloc

NOW = 1_795_452_109_605
SECOND = 1000
PINGS = PingsSection(interval=120)
DEFAULTS = RemediationSection()
STEADY: dict[str, Any] = {
    "heartbeat_at": NOW - SECOND,
    "said_at": NOW - SECOND,
    "last_event_at": NOW - 5 * SECOND,
    "steady_since": NOW - 900 * SECOND,
}
SILENT, MUTE, LATE = "its feed is silent", "OpenSIPS says nothing", "its events come late, or a clock is wrong"


def contact(number: int = 1, **fields: Any) -> Contact:
    binding = Binding("c", "location", "alice", f"sip:alice@192.0.2.{number}")
    registration = Registration("", "", "", "", 0, 0, "call", 7, "")
    own = NodeEvidence(fields.get("last_latency_at", 0), fields.get("consecutive_lost", 0))
    values: dict[str, Any] = {"holder": "n", "evidence": {"n": own}} | fields
    return Contact(binding, contact_id(binding), "alice/alice", "n", registration, **values)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"heartbeat_at": NOW - 10_001}, SILENT),
        ({"heartbeat_at": NOW - 10_000, "said_at": NOW - 10_000}, ""),
        ({"heartbeat_at": 0}, SILENT),
        ({"said_at": NOW - 10_001}, LATE),
        ({"said_at": NOW + 10_001}, LATE),
        ({"heartbeat_at": NOW + 10_001}, LATE),
        ({"last_event_at": NOW - 240_000}, ""),
        ({"last_event_at": NOW - 240_001}, MUTE),
        ({"steady_since": NOW - 240_000}, ""),
        ({"steady_since": NOW - 239_000}, "warming up for 1 s more"),
        ({"steady_since": NOW}, "warming up for 240 s more"),
    ],
)
def test_trouble(fields: dict[str, int], expected: str) -> None:
    """A node is acted on only while its bridge beats, OpenSIPS speaks, its words are fresh and none were missing."""
    assert safety.find_trouble(Feed("n", **STEADY | fields), DEFAULTS, PINGS, NOW) == expected


def test_no_feed() -> None:
    """A node nobody heard of is not acted on."""
    assert safety.find_trouble(None, DEFAULTS, PINGS, NOW) == SILENT


def test_a_node_without_contacts_may_say_nothing() -> None:
    """The standby of a cluster pings nobody: its silence is no trouble, that of its bridge is."""
    standby = Feed("n", **STEADY | {"last_event_at": 0})
    assert safety.find_trouble(standby, DEFAULTS, PINGS, NOW) == MUTE
    assert safety.find_trouble(standby, DEFAULTS, PINGS, NOW, is_idle=True) == ""
    standby.heartbeat_at = NOW - 60 * SECOND
    assert safety.find_trouble(standby, DEFAULTS, PINGS, NOW, is_idle=True) == SILENT


@pytest.mark.parametrize(
    ("contacts", "interval_ms", "expected"), [(0, 0, True), (0, 30_000, True), (9, 0, True), (9, 30_000, False)]
)
def test_idle(contacts: int, interval_ms: int, expected: bool) -> None:  # noqa: FBT001
    """A node that has contacts and pinged them must go on; one that never pinged may be silent."""
    assert safety.is_idle(Feed("n", **STEADY | {"interval_ms": interval_ms}), contacts) is expected


def test_another_warm_up() -> None:
    """The warm-up may be set by hand."""
    feed = Feed("n", **STEADY | {"steady_since": NOW - 9 * SECOND})
    assert safety.find_trouble(feed, RemediationSection(warm_up=10), PINGS, NOW) == "warming up for 1 s more"


@pytest.mark.parametrize("step", [-3600.0, -1.5, 1.5, 3600.0])
def test_a_clock_that_was_set(step: float) -> None:
    """After a step of the machine's clock in either direction its times are not believed for the warm-up."""
    steady, offset = 100.0, 1_795_452_000.0
    watch = safety.ClockWatch(lambda: steady + offset, lambda: steady)
    assert not watch.distrusts(240)
    offset += step
    assert watch.distrusts(240)
    steady += 239
    assert watch.distrusts(240)
    steady += 1
    assert not watch.distrusts(240)


def test_a_clock_that_runs() -> None:
    """A clock that is steered slowly is believed."""
    steady, offset = 100.0, 1_795_452_000.0
    watch = safety.ClockWatch(lambda: steady + offset, lambda: steady)
    for _ in range(1000):
        steady, offset = steady + 15, offset + 0.0075
        assert not watch.distrusts(240)


# Those who begin to fail


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"consecutive_lost": 1, "lost_since": NOW, "last_latency_at": 1}, True),
        ({"consecutive_lost": 1, "lost_since": NOW}, False),
        ({"consecutive_lost": 9, "lost_since": NOW - 61 * SECOND, "last_latency_at": 1}, False),
        ({"disconnected_at": NOW}, True),
        ({"disconnected_at": NOW, "ended_at": NOW}, False),
        ({"last_latency_at": NOW}, False),
    ],
)
def test_beginning(fields: dict[str, int], expected: bool) -> None:  # noqa: FBT001
    """Who lost a first ping or the connection lately counts for the breaker; who never answered or is long dead not."""
    assert policy.begins_to_fail(contact(**fields), NOW - 60 * SECOND) is expected


def test_a_register_that_was_missed() -> None:
    """A ping that tells of a REGISTER nobody told of shows life since: the losses before it are of another run."""
    usrloc = Usrloc(lost_after=3, interval_ms=1000)
    first = Registration("", "", "", "", 14, 0, "call", 7, "")

    def say(name: str, registration: Registration, latency_us: int, at: int) -> None:
        event = ContactEvent(name, "location", "alice", "sip:alice@192.0.2.1", registration, latency_us)
        usrloc.apply(event, Stamp("n", "c", NOW + at, 1))

    say(UPDATE, first, 0, 0)
    say(LATENCY, first, 30_000, 1)
    for at in (2, 3):
        say(LATENCY, first, LOST_PING_US, at)
    say(LATENCY, first._replace(cseq=8), LOST_PING_US, 4)

    (contact,) = usrloc.devices.contacts.values()
    assert (contact.consecutive_lost, contact.lost_since) == (1, NOW + 4)


# What was decided before


LOST = Candidate(contact(lost_since=5), "lost-pings", 5)
PUSH, REMOVE = Decision("push", ""), Decision("remove", "")


def note(candidate: Candidate, decision: Decision, mode: str, result: Result) -> str:
    return audit.make_mark(AuditEntry(candidate, decision, Outcome(result), mode))


@pytest.mark.parametrize(
    ("mark", "decision", "expected"),
    [
        ("", REMOVE, False),
        (note(LOST, REMOVE, "enforce", "removed"), REMOVE, True),
        (note(LOST, REMOVE, "enforce", "came-back"), REMOVE, False),
        (note(LOST, REMOVE, "enforce", "already-gone"), REMOVE, False),
        (note(LOST, REMOVE, "enforce", "not-alone"), REMOVE, False),
        (note(LOST, REMOVE, "enforce", "answered"), REMOVE, False),
        (note(LOST, REMOVE, "observe", "observed"), REMOVE, False),
        (note(LOST._replace(since=4), REMOVE, "enforce", "removed"), REMOVE, False),
        (note(LOST, REMOVE, "enforce", "mi-unreachable"), REMOVE, False),
        (note(LOST, PUSH, "enforce", "pushed"), PUSH, False),
        (note(LOST, PUSH, "enforce", "woken"), PUSH, True),
        (note(LOST, PUSH, "enforce", "pushed"), REMOVE, False),
    ],
)
def test_what_stands(mark: str, decision: Decision, expected: bool) -> None:  # noqa: FBT001
    """A decision is made once for each failure and mode; pushes, failures of MI and what MI shows do not settle it."""
    assert audit.is_done(mark, LOST, decision, "enforce") is expected


def test_an_observed_push_stands() -> None:
    """Observing, pushes do not add up: one is written down."""
    assert audit.is_done(note(LOST, PUSH, "observe", "observed"), LOST, PUSH, "observe")


@pytest.mark.parametrize("reason", ["ghost", "disconnected", "lost-pings"])
def test_a_mark_tells_of_the_failure(reason: policy.Reason) -> None:
    """What a contact failed by can be read from its mark after it came back; older marks do not have all of it."""
    failed = Candidate(contact(consecutive_lost=4, lost_since=5), reason, 5)
    mark = audit.read_mark(note(failed, PUSH, "enforce", "pushed"))
    assert mark == audit.DecisionMark(5, "enforce", "push", "pushed", reason, 4)
    assert audit.read_mark("5 enforce push pushed") == audit.DecisionMark(5, "enforce", "push", "pushed")


def test_a_failure_of_mi_is_written_once() -> None:
    """MI that fails again for the same contact is no new decision, though pings were lost meanwhile."""
    entry = AuditEntry(LOST, REMOVE, Outcome("mi-unreachable"), "enforce", lost=3)
    assert audit.is_repeated(entry._replace(lost=4), audit.make_mark(entry))
    assert not audit.is_repeated(entry._replace(mode="observe"), audit.make_mark(entry))


# Who was woken


def woken(device: Device, push_since: int, now: int = NOW) -> push.Woken | None:
    return push.find_woken(device.contacts[0], device, Push(since=push_since, attempts=1, last_at=push_since), now)


def test_woken_by_itself() -> None:
    """A contact that answers or registers after its push came back; the time counts from the first push."""
    for field in ("last_latency_at", "last_register_at"):
        device = Device("alice/alice", "alice", "", 0, [contact(**{field: NOW - 1000})])
        waking = woken(device, NOW - 3000)
        assert waking is not None
        assert (waking.after_ms, waking.elsewhere) == (2000, False)


def test_woken_elsewhere() -> None:
    """A device that comes back with a new contact was woken; the old contact is not pushed again for that failure."""
    asleep, new = contact(1, lost_since=NOW - 9000, last_latency_at=NOW - 20_000), contact(2, registered_at=NOW - 1000)
    waking = woken(Device("alice/alice", "alice", "", 0, [asleep, new]), NOW - 3000)
    assert waking is not None
    assert (waking.after_ms, waking.elsewhere) == (2000, True)


def test_another_that_lives_on() -> None:
    """A second contact that answers all along does not count as the answer to a push."""
    asleep = contact(1, lost_since=NOW - 9000, last_latency_at=NOW - 20_000)
    other = contact(2, registered_at=NOW - 90_000, last_latency_at=NOW, last_register_at=NOW)
    assert woken(Device("alice/alice", "alice", "", 0, [asleep, other]), NOW - 3000) is None


def test_a_push_in_vain() -> None:
    """A flag goes, without a time to wake, when its contact ended or a day has passed."""
    ended = woken(Device("a/a", "a", "", 0, [contact(ended_at=NOW)]), NOW - 3000)
    assert ended is not None
    assert ended.after_ms is None
    waiting = Device("a/a", "a", "", 0, [contact()])
    assert woken(waiting, NOW - DAY_MS) is None
    assert woken(waiting, NOW - DAY_MS - 1) is not None
