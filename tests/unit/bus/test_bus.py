"""The bus' envelope takes any bytes, and its counting misses nothing."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.bus.envelope import Message, decode, decode_heartbeat
from companion.bus.publisher import Publisher
from companion.bus.sequences import SequenceCheck, Sequences
from companion.errors import InvalidEnvelopeError

ENVELOPE: dict[str, Any] = {"v": 1, "node": "n", "run": 5, "seq": 0, "ts": 1, "params": {"aor": "alice"}}
NOTHING = msgspec.Raw(b"\x80")
EVENTS = ("E_UL_LATENCY_UPDATE", "E_UL_CONTACT_INSERT")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=5,
)
near_envelopes = st.fixed_dictionaries({}, optional=dict.fromkeys(ENVELOPE, json_values)).map(
    lambda some: ENVELOPE | some
)


def make_message(seq: int, event: str = EVENTS[0], run: int = 5, node: str = "n", count: int = 1) -> Message:
    return Message(event, node, run, seq, [(1, NOTHING)] * count)


def refusal(body: bytes, topic: bytes = b"E_X") -> str:
    with pytest.raises(InvalidEnvelopeError) as error:
        decode(topic, body)
    return error.value.reason


def test_decode() -> None:
    """The two frames become one message."""
    message = decode(b"E_X", msgpack.packb(ENVELOPE))
    assert message[:4] == ("E_X", "n", 5, 0)
    assert [(ts, msgpack.unpackb(params)) for ts, params in message.events] == [(1, {"aor": "alice"})]


def test_decode_several() -> None:
    """Events that share a message have their own times and parameters."""
    message = decode(b"E_X", msgpack.packb({**ENVELOPE, "more": [[2, {"aor": "bob"}], [3, {}]]}))
    assert [(ts, msgpack.unpackb(params)) for ts, params in message.events] == [
        (1, {"aor": "alice"}),
        (2, {"aor": "bob"}),
        (3, {}),
    ]


@pytest.mark.parametrize("params", [b"\x81\xa4seqs\x81\xa1\xff\x01", b"\x81\xa1\xff\x01", b"\x91" * 5000, b"\xc1"])
def test_heartbeat_that_is_none(params: bytes) -> None:
    """Text that is not UTF-8, endless lists, and bytes without meaning are an invalid heartbeat."""
    with pytest.raises(InvalidEnvelopeError) as error:
        decode_heartbeat(params)
    assert error.value.reason == "heartbeat"


@given(st.binary(max_size=20), st.binary() | json_values.map(msgpack.packb) | near_envelopes.map(msgpack.packb))
@example(b"E_X", b"\xdd\xff\xff\xff\xff")
@example(b"E_X", b"\x91" * 100_000)
@example(b"E_X", b"\xc7\x0c\xff" + b"\xff" * 12)
@example(b"E_X", b"\xd6\xff\x00\x00\x00\x00")
@example(b"\xff", msgpack.packb(ENVELOPE))
def test_any_bytes(topic: bytes, body: bytes) -> None:
    """Any two frames are a message of the right types, or InvalidEnvelopeError."""
    try:
        message = decode(topic, body)
    except InvalidEnvelopeError as error:
        assert error.reason in {"msgpack", "version", "shape"}  # noqa: PT017 - not raising is fine too
        return
    assert [str, str, int, int] == [type(part) for part in message[:4]]
    assert min(message.run, message.seq, *(ts for ts, _ in message.events)) >= 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "version"),
        ({"v": "1"}, "shape"),
        ({"node": 5}, "shape"),
        ({"node": ""}, "shape"),
        ({"node": "a b"}, "shape"),
        ({"node": "n\n"}, "shape"),
        ({"node": "n" * 65}, "shape"),
        ({"run": -1}, "shape"),
        ({"seq": 1.0}, "shape"),
        ({"seq": True}, "shape"),
        ({"ts": None}, "shape"),
        ({"ts": -1}, "shape"),
        ({"more": [[-1, {}]]}, "shape"),
        ({"more": [[1]]}, "shape"),
        ({"more": {}}, "shape"),
    ],
)
def test_refusals(changes: dict[str, Any], reason: str) -> None:
    """What is not of this version and shape is refused; a node's name is fit for a key and a label."""
    assert reason == refusal(msgpack.packb(ENVELOPE | changes))


@pytest.mark.parametrize("key", ENVELOPE)
def test_incomplete(key: str) -> None:
    """Nothing of the envelope may be missing."""
    assert refusal(msgpack.packb({name: value for name, value in ENVELOPE.items() if name != key})) == "shape"


@given(st.binary() | json_values.map(msgpack.packb) | st.just({"seqs": {"E_X": 3}}).map(msgpack.packb))
def test_any_heartbeat(params: bytes) -> None:
    """Any bytes are a heartbeat of the right types, or InvalidEnvelopeError."""
    try:
        heartbeat = decode_heartbeat(params)
    except InvalidEnvelopeError as error:
        assert error.reason == "heartbeat"  # noqa: PT017 - not raising is fine too
        return
    assert all(isinstance(event, str) and isinstance(seq, int) for event, seq in heartbeat.seqs.items())


@given(st.integers(1, 30).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1)))))
def test_received_and_missed_make_all(size_and_arrived: tuple[int, set[int]]) -> None:
    """Whichever messages arrive: with the tail that a heartbeat tells, received + missed = published."""
    size, arrived = size_and_arrived
    sequences = Sequences()
    missed = sum(sequences.check(make_message(seq)).missed for seq in sorted(arrived))
    tail = sequences.check_tail("n", {EVENTS[0]: size - 1})
    assert len(arrived) + missed + sum(tail.values()) == size


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.sampled_from(["n", "m"]), st.booleans())))
def test_each_event_of_each_node_is_counted_alone(stream: list[tuple[str, str, bool]]) -> None:
    """Nodes and event names are counted apart: what one misses, the other does not."""
    sequences, last, missed = Sequences(), dict.fromkeys([(e, n) for e in EVENTS for n in "nm"], -1), 0
    lost_before_last = pending = 0
    waiting: dict[tuple[str, str], int] = {}
    for event, node, arrives in stream:
        last[event, node] += 1
        if not arrives:
            waiting[event, node] = waiting.get((event, node), 0) + 1
            continue
        lost_before_last += waiting.pop((event, node), 0)
        missed += sequences.check(make_message(last[event, node], event, node=node)).missed
    pending = sum(waiting.values())
    seqs = {node: {event: last[event, node] for event in EVENTS if last[event, node] >= 0} for node in "nm"}
    tail = sum(sum(sequences.check_tail(node, seqs[node]).values()) for node in "nm")
    assert (lost_before_last, pending) == (missed, tail)


def test_first_message() -> None:
    """Who joins late has missed all before; who joins at 0 nothing."""
    assert SequenceCheck(missed=7, new_run=True) == Sequences().check(make_message(7))
    assert SequenceCheck(missed=0, new_run=True) == Sequences().check(make_message(0))


def test_repeats() -> None:
    """What was seen, and what is older than that, is a repeat and changes nothing."""
    sequences = Sequences()
    sequences.check(make_message(3))
    assert [SequenceCheck(repeated=True)] * 2 == [sequences.check(make_message(seq)) for seq in (3, 1)]
    assert SequenceCheck() == sequences.check(make_message(4))


def test_repeats_in_part() -> None:
    """Of a message whose first events were seen the rest is new."""
    sequences = Sequences()
    sequences.check(make_message(3, count=2))
    assert SequenceCheck(repeated=2) == sequences.check(make_message(3, count=2))
    assert SequenceCheck(repeated=1) == sequences.check(make_message(4, count=3))
    assert SequenceCheck(missed=3) == sequences.check(make_message(10, count=16))
    assert SequenceCheck() == sequences.check(make_message(26))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.sets(st.integers(0, 19)))
def test_received_and_missed_make_all_of_several(sizes: list[int], lost: set[int]) -> None:
    """However many events share a message: with the tail, received + missed = published."""
    sequences, seq, received, missed = Sequences(), 0, 0, 0
    for number, size in enumerate(sizes):
        if number not in lost:
            missed += sequences.check(make_message(seq, count=size)).missed
            received += size
        seq += size
    tail = sequences.check_tail("n", {EVENTS[0]: seq - 1})
    assert received + missed + sum(tail.values()) == seq


def test_new_run() -> None:
    """A new run counts from 0 again; the old one's messages that come after are repeats."""
    sequences = Sequences()
    sequences.check(make_message(9))
    assert SequenceCheck(missed=1, new_run=True) == sequences.check(make_message(1, run=6))
    assert SequenceCheck(repeated=True) == sequences.check(make_message(10, run=5))
    assert SequenceCheck() == sequences.check(make_message(2, run=6))


def test_tail_is_counted_once() -> None:
    """What a heartbeat showed to be missing is not missing again, and comes late only as a repeat."""
    sequences = Sequences()
    sequences.check(make_message(0))
    seqs = {EVENTS[0]: 4, EVENTS[1]: 0}
    assert {EVENTS[0]: 4, EVENTS[1]: 1} == sequences.check_tail("n", seqs)
    assert sequences.check_tail("n", seqs) == {}
    assert SequenceCheck(repeated=True) == sequences.check(make_message(4))


def test_a_silent_node_may_go_back() -> None:
    """A bridge whose clock was set back before its start is heard again once the old run has fallen silent."""
    sequences = Sequences()
    sequences.check(make_message(9, run=6))
    assert SequenceCheck(repeated=True) == sequences.check(make_message(0, run=5))
    sequences.fell_silent("n")
    assert SequenceCheck(missed=0, new_run=True) == sequences.check(make_message(0, run=5))
    assert SequenceCheck() == sequences.check(make_message(1, run=5))


def test_resume() -> None:
    """Who takes over goes on where the other stopped; what is stored of an older run is not taken back."""
    sequences = Sequences()
    sequences.resume("n", 5, {EVENTS[0]: 9})
    assert [SequenceCheck(repeated=True), SequenceCheck(missed=1)] == [
        sequences.check(make_message(seq)) for seq in (9, 11)
    ]
    sequences.resume("n", 4, {EVENTS[0]: 0})
    assert SequenceCheck() == sequences.check(make_message(12))


def test_catching_up() -> None:
    """After a take-over, repeats are expected until the first new event, also those of an earlier run."""
    sequences = Sequences()
    assert not sequences.is_catching_up("n")
    sequences.resume("n", 5, {EVENTS[0]: 9, EVENTS[1]: 3})
    for late in (make_message(7, run=4), make_message(9), make_message(3, EVENTS[1])):
        assert sequences.check(late).repeated
        assert sequences.is_catching_up("n")
    assert SequenceCheck() == sequences.check(make_message(4, EVENTS[1]))
    assert not sequences.is_catching_up("n")


def test_runs_grow_while_the_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher's next run is later than its last one, whatever the clock says: else all of it would be a repeat."""
    publisher = Publisher("inproc://runs", "n", high_water_mark=10)
    try:
        before = publisher.run
        monkeypatch.setattr("time.time_ns", lambda: 0)
        publisher.new_run()
        assert publisher.run > before
    finally:
        publisher.close()
