"""The parts of the store that need no Redis: key names, hashes there and back, rows, numbers."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import sip
from companion.opensips.events import MAX_EXPIRES, Registration
from companion.quality import Bounds
from companion.query.now import View
from companion.query.pings import compute_statistics, merge_own_pings, put_in_buckets
from companion.query.row import make_glance, render_row
from companion.query.summary import compute_percentiles
from companion.store.contacts import decode_contact, encode_answer, encode_contact
from companion.store.devices import encode_device
from companion.store.keys import Keys
from companion.store.nodes import Feed
from companion.times import iso
from companion.usrloc.contact import Binding, Clock, Contact, Device, Ping, contact_id

NOW = 1_795_452_109_605
UNSET = Registration("", "", "", "", 0, 0, "", 0, "")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.just(0) | st.integers(0, MAX_EXPIRES * 1000)
registrations = st.builds(
    Registration, *[texts] * 4, st.integers(0, 1 << 52), times, texts, st.integers(0, 1 << 52), texts
)
contacts = st.builds(
    Contact,
    st.builds(Binding, *[texts] * 4),
    texts,
    texts,
    texts,
    registrations,
    *[times] * 2,
    st.none() | st.integers(0, 600_000),
    times,
    st.integers(0, 1 << 40),
    *[times] * 5,
    ended_by=texts,
    changed_at=times,
    run=st.integers(0, (1 << 64) - 1),
)


def stored(fields: dict[str, str | int]) -> dict[str, str]:
    """As Redis gives it back: all text."""
    return {name: str(value) for name, value in fields.items()}


def state(contact: Contact) -> dict[str, Any]:
    return {name: getattr(contact, name) for name in Contact.__slots__}


# Hashes


@given(contacts)
def test_contact_there_and_back(contact: Contact) -> None:
    """A contact read from Redis is the one that was written, in every field."""
    assert state(contact) == state(decode_contact(stored(encode_contact(contact))))


@given(contacts, st.integers(1, NOW), st.integers(0, 600_000))
def test_later_answer(contact: Contact, later_ms: int, latency_ms: int) -> None:
    """The answers hash knows of later pings than the contact's own hash."""
    fields = stored(encode_contact(contact))
    contact.last_latency_at += later_ms
    contact.last_latency_ms = latency_ms
    contact.changed_at = max(contact.changed_at, contact.last_latency_at)
    assert state(contact) == state(decode_contact(fields, encode_answer(contact)))


def test_older_answer() -> None:
    """An answer that is older than what the contact's own hash says does not go before it."""
    contact = some_contact(last_latency_at=NOW, last_latency_ms=40, changed_at=NOW)
    decoded = decode_contact(stored(encode_contact(contact)), f"{NOW - 1} 99")
    assert (decoded.last_latency_ms, decoded.last_latency_at) == (40, NOW)


def test_device_fields() -> None:
    """A device's hash names its contacts, oldest first."""
    device = Device("alice/x", "alice", "x", NOW, [some_contact("sip:a@1"), some_contact("sip:a@2")])
    ids = [contact.id for contact in device.contacts]
    expected = {"id": "alice/x", "aor": "alice", "instance": "x", "first_seen_at": NOW, "contacts": " ".join(ids)}
    assert expected == encode_device(device)


# Keys


@given(texts, texts, st.sampled_from([1, 2, 256]))
def test_keys_of_a_device_are_in_one_slot(aor: str, uri: str, shards: int) -> None:
    """All that is of one AOR carries one hash tag, so that a Redis Cluster has it in one slot."""
    keys = Keys("companion:", shards)
    device = sip.device_id(aor, uri, "")
    names = [keys.device(device), keys.latency(device), keys.lost(device), keys.timeline(device)]
    names += [keys.contact(aor, "0123"), keys.aor(aor)]
    tag = f"companion:{{{keys.shard(aor)}}}:"
    assert all(name.startswith(tag) for name in names)
    assert len(set(names)) == len(names)
    assert 0 <= keys.shard(aor) < shards


def test_keys_differ() -> None:
    """No two kinds of key have one name, and each is under the prefix."""
    keys = Keys("p:", 1)
    names = [
        *(name("a/b") for name in (keys.device, keys.latency, keys.lost, keys.timeline, keys.aor, keys.instance)),
        *(keys.contact("a", "b"), keys.connection("a", "b"), keys.nodes(), keys.summary()),
        *(name(0) for name in (keys.devices, keys.answers, keys.expires, keys.failing)),
        *(name("a/b") for name in (keys.node, keys.seqs, keys.lease)),
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith("p:") for name in names)


@given(st.lists(texts, min_size=50, max_size=50, unique=True))
def test_shards_are_stable(aors: list[str]) -> None:
    """An AOR is in the same shard whoever asks."""
    assert [Keys("a", 16).shard(aor) for aor in aors] == [Keys("b", 16).shard(aor) for aor in aors]


# Numbers

points = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 400)), max_size=30).map(sorted)


@given(points, st.lists(st.tuples(st.integers(0, 100), st.sampled_from([1, 2, 3]))).map(sorted), st.integers(0, 101))
def test_own_pings(answered: list[tuple[int, int]], lost: list[tuple[int, int]], since: int) -> None:
    """Both series in order; of a contact only the losses outside the times it was a ghost."""
    pings = merge_own_pings(answered, lost, {2: [(since, 60), (80, 1 << 53)]})
    assert sorted(ping.ts for ping in pings) == [ping.ts for ping in pings]
    assert [ping for ping in pings if ping.latency_ms is not None] == [
        Ping(ts, ms) for ts, ms in sorted(answered, key=lambda p: p[0])
    ]
    own = sum(number != 2 or not (since <= ts <= 60 or ts >= 80) for ts, number in lost)
    assert own == sum(ping.latency_ms is None for ping in pings)


@given(points, points)
def test_statistics(answered: list[tuple[int, int]], lost: list[tuple[int, int]]) -> None:
    """Losses count as losses and never as latencies."""
    told = compute_statistics(merge_own_pings(answered, lost, {}))
    ms = [latency for _, latency in answered]
    assert (len(ms), len(lost), len(ms) + len(lost)) == (told["answered"], told["lost"], told["total"])
    assert (max(ms, default=None), min(ms, default=None)) == (told["max_ms"], told["min_ms"])
    assert told["average_ms"] == (pytest.approx(sum(ms) / len(ms), abs=0.051) if ms else None)
    assert told["loss_ratio"] == (pytest.approx(len(lost) / told["total"], abs=0.000051) if told["total"] else None)


@given(points, points, st.integers(1, 150))
def test_buckets_of_pings(answered: list[tuple[int, int]], lost: list[tuple[int, int]], width: int) -> None:
    """Each ping is counted in the bucket it is of; lost ones are no latencies, and empty buckets are left out."""
    pings = merge_own_pings(answered, lost, {})
    told = put_in_buckets(pings, width)
    starts = sorted({ping.ts // width * width for ping in pings})
    assert [bucket.start for bucket in told] == starts
    for bucket in told:
        values = [ping.latency_ms for ping in pings if bucket.start <= ping.ts < bucket.start + width]
        ms = [value for value in values if value is not None]
        average = round(sum(ms) / len(ms), 1) if ms else None
        expected = (min(ms, default=None), average, max(ms, default=None), len(ms), len(values) - len(ms))
        assert bucket[1:] == expected


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_percentiles(latencies: list[int]) -> None:
    """At least p percent are not above the p-th percentile, and it is the lowest of them for which that is so."""
    told = compute_percentiles(latencies)
    for p in (50, 95, 99):
        value = told[f"p{p}_ms"]
        assert value in latencies
        assert sum(each <= value for each in latencies) * 100 >= p * len(latencies)
        assert sum(each < value for each in latencies) * 100 < p * len(latencies)


def test_percentiles_of_nothing() -> None:
    """Nothing has no percentiles."""
    assert compute_percentiles([]) == {"p50_ms": None, "p95_ms": None, "p99_ms": None}


@given(st.integers(1, 7_000_000_000_000))
def test_iso(at: int) -> None:
    """A time as text is the same millisecond, in UTC."""
    text = iso(at)
    assert text is not None
    assert text.endswith("Z")
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    assert at == round(since.total_seconds() * 1000)


def test_iso_of_never() -> None:
    """Never is no time."""
    assert iso(0) is None
    assert iso(NOW) == "2026-11-23T16:41:49.605Z"


# Rows


def some_contact(uri: str = "sip:alice@192.0.2.1", *, expires_at: int = 0, **fields: Any) -> Contact:
    binding = Binding("c", "location", "alice", uri)
    registration = UNSET._replace(expires_at=expires_at, user_agent=uri)
    return Contact(binding, contact_id(binding), "alice/x", "n", registration, **fields)


def view(*, heartbeat_at: int = NOW) -> View:
    return View(Clock(NOW, 5000, 3), {"n": Feed("n", "c", heartbeat_at=heartbeat_at)}, Bounds())


def test_row() -> None:
    """A device is told by its best contact; its latency is the last one any contact had."""
    ended = some_contact("sip:a@1", ended_at=NOW, last_latency_at=NOW - 3000, last_latency_ms=900)
    stale = some_contact("sip:a@2", disconnected_at=NOW, last_latency_at=NOW - 10, last_latency_ms=217)
    current = some_contact("sip:a@3;pn-provider=fcm;pn-prid=x", last_register_at=NOW - 1000)
    told = render_row(make_glance(Device("alice/x", "alice", "x", NOW, [ended, stale, current]), view()))
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
    assert expected == told


def test_row_of_a_dead_feed() -> None:
    """A silent bridge makes a device unknown, not lost."""
    device = Device("alice/x", "alice", "x", NOW, [some_contact(last_latency_at=NOW, last_latency_ms=40)])
    assert [
        render_row(make_glance(device, each))["status"]
        for each in (view(), view(heartbeat_at=NOW - 10_001), View(view().clock, {}, Bounds()))
    ] == ["online", "unknown", "unknown"]


def test_row_of_nothing() -> None:
    """A device without contacts is offline, and of a latency nobody knows there is no quality."""
    told = render_row(make_glance(Device("alice/x", "alice", "x", NOW), view()))
    assert (told["status"], told["last_latency_ms"], told["quality"], told["contacts"]) == ("offline", None, None, 0)


@given(st.lists(contacts, max_size=3))
def test_row_of_anything(some: list[Contact]) -> None:
    """Whatever is stored can be shown."""
    json.dumps(render_row(make_glance(Device("alice/x", "alice", "x", NOW, some), view())))
