"""The packer makes msgpack that others read, from any bytes of the network."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from companion.bus.envelope import decode
from tests.unit.bus.golden import GoldenHeartbeat, GoldenMessage, read_golden, read_golden_heartbeats
from tests.unit.event_zeromq.library import Library

ALMOST_UTF8 = st.lists(
    st.sampled_from([b"a", b"\xc3\xa4", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"\xf4\x90", b"\xff"])
    | st.binary(max_size=4)
).map(b"".join)
NAMES = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=40)
VALUES = st.integers(-(2**63), 2**63 - 1) | st.none() | ALMOST_UTF8


@given(st.dictionaries(NAMES, VALUES, max_size=20))
@example({f"p{number}": b"x" * number for number in range(300)})
@example({"long": b"\xff" * 70_000})
def test_any_parameters(library: Library, params: dict[str, int | bytes | None]) -> None:
    """Whatever OpenSIPS raises is msgpack: text ends at NUL, and what is not UTF-8 becomes U+FFFD as in Python."""
    packed = library.params(list(params.items()))
    assert packed is not None
    texts = {
        name: value.partition(b"\0")[0].decode("utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in params.items()
    }
    assert msgspec.msgpack.decode(packed) == texts
    assert packed == msgpack.packb(texts)


@given(st.dictionaries(NAMES, VALUES, max_size=5), st.integers(0, 60))
def test_a_small_buffer(library: Library, params: dict[str, int | bytes | None], size: int) -> None:
    """What does not fit is told, and never written."""
    whole = library.params(list(params.items()))
    assert whole is not None
    assert library.params(list(params.items()), size) == (whole if len(whole) <= size else None)


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.lists(
        st.tuples(st.integers(0, 2**53), st.dictionaries(NAMES, st.integers(0, 9), max_size=3)), min_size=1, max_size=16
    ),
)
def test_messages(library: Library, run: int, seq: int, events: list[tuple[int, dict[str, Any]]]) -> None:
    """A message is read by the consumer as it was meant."""
    body = library.message("sip1", run, seq, [(ts, msgpack.packb(params)) for ts, params in events])
    assert body is not None
    message = decode(b"E_X", body)
    assert message[:4] == ("E_X", "sip1", run, seq)
    assert [(ts, msgspec.msgpack.decode(params)) for ts, params in message.events] == events


@pytest.mark.parametrize("golden", read_golden(), ids=lambda golden: golden.title)
def test_golden_messages(library: Library, golden: GoldenMessage) -> None:
    """What OpenSIPS raises becomes the message as it stands in the table, byte for byte."""
    packed = [library.params(event.params) for event in golden.events]
    events = [(event.ts, params) for event, params in zip(golden.events, packed, strict=True) if params is not None]
    assert library.message(golden.node, golden.run, golden.seq, events) == golden.body


@pytest.mark.parametrize(
    "golden", [one for one in read_golden_heartbeats() if one.is_common], ids=lambda golden: golden.title
)
def test_golden_heartbeats(library: Library, golden: GoldenHeartbeat) -> None:
    """A heartbeat stands in the table, byte for byte."""
    assert library.heartbeat(*golden[2:7]) == golden.body
