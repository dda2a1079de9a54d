"""The framer: the same objects however the bytes are cut, and no input that harms it."""

import json
import time
from collections.abc import Iterable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.bridge.framer import Framer

CAPTURE = Path(__file__).parents[2] / "captures" / "opensips-3.6.8"
STREAM = (CAPTURE / "event_stream.bin").read_bytes()
EVENT = b'{"jsonrpc":"2.0","method":"E_UL_AOR_INSERT","params":{"domain":"location","aor":"alice"}}'

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
objects = st.dictionaries(st.text(), values, max_size=5)
gaps = st.text(alphabet=" \t\r\n", max_size=3)


def feed(framer: Framer, chunks: Iterable[bytes]) -> list[bytes]:
    return [frame for chunk in chunks for frame in framer.feed(chunk)]


def every(size: int, data: bytes) -> list[bytes]:
    return [data[first : first + size] for first in range(0, len(data), size)]


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    return [data[a:b] for a, b in pairwise([0, *sorted(cuts), len(data)])]


def captured_events() -> list[bytes]:
    lines = (CAPTURE / "event_datagram.jsonl").read_text().splitlines()
    return [json.loads(line)["payload"].encode() for line in lines]


def captured_reads() -> list[bytes]:
    lines = (CAPTURE / "event_stream.reads.jsonl").read_text().splitlines()
    sizes = [json.loads(line)["bytes"] for line in lines]
    return split(STREAM, list(accumulate(sizes))[:-1])


def test_capture_in_the_reads_it_came_in() -> None:
    """What OpenSIPS sent on TCP, in its own chunks, is what it sent on UDP at the same time."""
    assert sorted(captured_events()) == sorted(feed(Framer(), captured_reads()))


@pytest.mark.parametrize("size", [1, 7, 1460, len(STREAM)])
def test_capture_in_chunks(size: int) -> None:
    """The capture gives the same objects in the same order in chunks of any size, and nothing is left over."""
    framer = Framer()
    frames = feed(framer, every(size, STREAM))
    assert (len(frames), b"".join(frames)) == (247, STREAM)
    assert (framer.pending_bytes, framer.garbage_bytes, framer.truncated, framer.oversized) == (0, 0, 0, 0)


@given(st.sets(st.integers(0, len(STREAM)), max_size=50))
def test_capture_split_anywhere(cuts: set[int]) -> None:
    """Where the network cuts the capture makes no difference."""
    assert Framer().feed(STREAM) == feed(Framer(), split(STREAM, cuts))


@given(st.data(), st.lists(st.tuples(objects, gaps, st.booleans()), max_size=5))
def test_any_objects_split_anywhere(data: st.DataObject, sent: list[tuple[object, str, bool]]) -> None:
    """Any JSON objects, with any strings, back to back or with white space between, come out as they went in."""
    texts = [json.dumps(value, ensure_ascii=ascii_only).encode() for value, _, ascii_only in sent]
    stream = b"".join(text + gap.encode() for text, (_, gap, _) in zip(texts, sent, strict=True))
    cuts = data.draw(st.sets(st.integers(0, len(stream)), max_size=20))
    framer = Framer()
    assert texts == feed(framer, split(stream, cuts))
    assert (framer.pending_bytes, framer.garbage_bytes) == (0, 0)


@given(st.lists(st.binary(max_size=30) | st.sampled_from([EVENT, b'{"jsonrpc"', b'{"a":', b'"', b"\\", b"}}"])))
def test_any_bytes(chunks: list[bytes]) -> None:
    """Whatever arrives, every byte is accounted for: in a frame, dropped as garbage, white space, or kept."""
    framer = Framer(max_bytes=100)
    frames = feed(framer, chunks)
    arrived = b"".join(chunks)
    kept = len(framer._buffer)
    space = len(arrived) - len(arrived.translate(None, b" \t\r\n"))
    accounted = sum(map(len, frames)) + framer.garbage_bytes + kept
    assert len(arrived) - space <= accounted <= len(arrived)
    assert kept <= 100
    assert all(len(frame) <= 100 for frame in frames)


@given(st.integers(1, len(EVENT) - 1), st.integers(1, 200))
def test_truncated_object(length: int, size: int) -> None:
    """An object cut short anywhere costs itself, never the good ones behind it."""
    framer = Framer()
    frames = feed(framer, every(size, EVENT[:length] + EVENT * 3))
    assert frames == [EVENT] * 3
    assert (1, length) == (framer.truncated, framer.garbage_bytes)


@given(st.lists(st.integers(1, len(EVENT) - 1), min_size=1, max_size=20), st.integers(1, 200))
def test_many_truncated_objects(lengths: list[int], size: int) -> None:
    """A row of objects cut short still ends with the good ones behind it."""
    cut = b"".join(EVENT[:length] for length in lengths)
    assert feed(Framer(), every(size, cut + EVENT * 3)) == [EVENT] * 3


@pytest.mark.parametrize("size", [1, 9, 1000])
def test_garbage_between_objects(size: int) -> None:
    """Bytes outside an object are dropped and counted; white space is not garbage."""
    framer = Framer()
    assert feed(framer, every(size, b"HTTP/1.1\r\n" + EVENT + b' ]}"\xff\x00\n' + EVENT)) == [EVENT, EVENT]
    assert framer.garbage_bytes == 8 + 5


def test_invalid_utf8_stays_inside_its_object() -> None:
    """Text that is not UTF-8 is the parser's business: it does not disturb the framing."""
    bad = b'{"jsonrpc":"2.0","x":"\xff\xfe\xc3"}'
    assert [EVENT, bad, EVENT] == Framer().feed(EVENT + bad + EVENT)


@pytest.mark.parametrize("size", [1, 64, 10_000])
def test_oversized_object(size: int) -> None:
    """An object over the limit is given up, one at the limit is not, and the next good one is found."""
    framer = Framer(max_bytes=len(EVENT))
    large = EVENT[:-3] + b'x"}}'
    assert feed(framer, every(size, EVENT + large + EVENT)) == [EVENT, EVENT]
    assert (framer.oversized, framer.truncated) == (1, 0)


def test_oversized_object_hides_no_good_one() -> None:
    """An object that never ends is given up at the limit; the events it swallowed by then come out."""
    framer = Framer(max_bytes=1000)
    frames = feed(framer, every(64, b'{"jsonrpc":[' + b",".join([EVENT] * 20)))
    assert frames == [EVENT] * 20
    assert (framer.oversized, framer.truncated) == (1, 0)


HOSTILE = {
    "braces": b"{" * 10_000_000,
    "nested objects": b'{"":' * 2_500_000,
    "nested markers": b'{"jsonrpc":' * 900_000,
    "markers that end and do not": b'{"jsonrpc":{"jsonrpc":1},' * 400_000,
    "markers broken late": (b'{"jsonrpc":{"jsonrpc":1},' * 3000 + b"x") * 130,
    "nested arrays": b'{"a":' + b"[" * 10_000_000,
    "a string without end": b'{"a":"' + b"x" * 10_000_000,
    "backslashes": b'{"a":"' + b"\\" * 10_000_000,
    "strings": b'{"a":[' + b'"a",' * 2_500_000,
    "white space": b'{"a":' + b" " * 10_000_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_input(data: bytes) -> None:
    """10 MB meant to harm take seconds at most, little memory, and the next event is found."""
    framer = Framer()
    largest = 0
    started = time.process_time()
    for chunk in every(1 << 16, data):
        framer.feed(chunk)
        largest = max(largest, len(framer._buffer))
    assert time.process_time() - started < 20  # 2 s where this was written; quadratic would be minutes
    assert largest <= (1 << 20)
    assert EVENT in feed(framer, every(1 << 16, b"x" + EVENT + b"x" * (2 << 20) + EVENT))


def test_one_byte_at_a_time_is_linear() -> None:
    """An object of a megabyte that comes in single bytes is not read again at each of them."""
    framer = Framer()
    large = b'{"jsonrpc":"' + b"x" * 300_000 + b'"}'
    started = time.process_time()
    assert [large] == feed(framer, every(1, large))
    assert time.process_time() - started < 10
