"""Corrections on their way: whatever goes in comes out, and what is none is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidInputError
from companion.opensips.events import Registration
from companion.store.corrections import (
    KINDS,
    Correction,
    Gone,
    Identified,
    Present,
    decode_correction,
    encode_correction,
)
from companion.usrloc.contact import Binding

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
times = st.integers(0, 1 << 52)
bindings = st.builds(Binding, texts, texts, texts, texts)
registrations = st.builds(Registration, texts, texts, texts, texts, times, times, texts, times, texts)
corrections = st.one_of(
    st.builds(Gone, bindings, times),
    st.builds(Present, bindings, times, registrations, texts, st.none() | st.integers(0, 600_000)),
    st.builds(Identified, bindings, texts),
)


@given(corrections)
def test_there_and_back(correction: Correction) -> None:
    """Every correction is the same after its way through the stream, of the same type all the way down."""
    kind, text = encode_correction(correction)
    back = decode_correction(kind, text.decode())
    assert back == correction
    assert type(back) is type(correction)
    assert type(back.binding) is Binding


@given(
    st.sampled_from([*KINDS, "other", ""]),
    st.text() | corrections.map(lambda correction: encode_correction(correction)[1].decode()),
)
def test_anything_is_read_or_refused(kind: str, text: str) -> None:
    """What is no correction of its kind is refused, never anything else."""
    try:
        correction = decode_correction(kind, text)
    except InvalidInputError:
        return
    assert type(correction) is KINDS[kind]


@pytest.mark.parametrize("value", [[], {}, [["c", "d", "a"], 1], [["c", "d", "a", "u"], "1"], None])
def test_half_a_correction(value: object) -> None:
    """Missing or wrongly typed parts are refused."""
    with pytest.raises(InvalidInputError, match="correction: "):
        decode_correction("gone", msgspec.json.encode(value))
