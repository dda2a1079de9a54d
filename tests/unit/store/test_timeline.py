"""Test how an entry of a timeline is written."""

from hypothesis import given
from hypothesis import strategies as st

from companion.store.timeline import decode_entry, encode_entry
from tests.unit.store.contacts import texts

names = st.sampled_from(["address", "from", "to", "by", "after", "reason"])
numbers = st.sampled_from(["lost", "attempt", "after_ms", "outage_ms"])


@given(st.dictionaries(names, texts), st.dictionaries(numbers, st.integers()), st.none() | texts)
def test_an_entry_comes_back(texts: dict[str, str], numbers: dict[str, int], contact: str | None) -> None:
    """Whatever the network put into it, an entry is one line of ASCII, and reads as it was written."""
    fields: dict[str, str | int] = {**({} if contact is None else {"contact": contact}), **texts, **numbers}
    line = encode_entry("registered", fields)
    assert {"event": "registered", **fields} == decode_entry(line)
    assert line.isascii()
    assert line.isprintable()


def test_an_entry_is_readable() -> None:
    """An entry names its event, its contact, and its other fields with their values."""
    line = encode_entry("re-registered", {"contact": "2d6269f2cbf6700f", "address": "10.11.122.133:38566"})
    assert line == "re-registered 2d6269f2cbf6700f address=10.11.122.133:38566"
    assert encode_entry("recording-started", {"by": "Ann B."}) == "recording-started by=Ann%20B."
