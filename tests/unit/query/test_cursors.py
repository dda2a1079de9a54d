"""Test the cursors of lists."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import UsageError
from companion.query.cursors import (
    DevicePosition,
    decode_call_cursor,
    decode_device_cursor,
    encode_call_cursor,
    encode_device_cursor,
)
from companion.query.listing import SORTS
from companion.store.calls import CallPosition, call_ref

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
device_positions = st.builds(DevicePosition, st.booleans(), st.integers(0, 1 << 52) | texts, texts)
call_positions = st.builds(CallPosition, st.integers(0, 10**16 - 1), texts.map(lambda text: call_ref("a/b", text)))


@given(st.sampled_from(SORTS), device_positions)
def test_device_cursor(sort: str, position: DevicePosition) -> None:
    """A cursor of a list of devices is read as the position it was made of."""
    assert decode_device_cursor(encode_device_cursor(sort, position), sort) == position


def test_device_cursor_of_another_sort() -> None:
    """A cursor of one order is refused in another."""
    cursor = encode_device_cursor("device", DevicePosition(is_missing=False, value="a", device="a/b"))
    with pytest.raises(UsageError, match="begin with the first page"):
        decode_device_cursor(cursor, "lost")


@given(call_positions)
def test_call_cursor(position: CallPosition) -> None:
    """A cursor of the list of calls is read as the position it was made of."""
    assert decode_call_cursor(encode_call_cursor(position)) == position


@given(texts)
def test_any_text(text: str) -> None:
    """Any text is read as a cursor or refused with a UsageError, and nothing else is raised."""
    for decode in (decode_call_cursor, lambda cursor: decode_device_cursor(cursor, "status")):
        with suppress(UsageError):
            decode(text)
