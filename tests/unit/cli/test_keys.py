"""What a terminal sends becomes keys, in whatever pieces it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.cli.keys import KeyDecoder

PIECES = st.sampled_from(
    ["a", "ä", "/", "\x1b", "[", "O", "A", "\x1b[A", "\x1bOB", "\x1b[6~", "\x1b[1;5C", "~", "1", "\r"]
)


def decode(*pieces: bytes) -> list[str]:
    decoder = KeyDecoder()
    return [*(key for piece in pieces for key in decoder.feed(piece)), *decoder.flush()]


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"\x1b[A\x1bOB", ["up", "down"]),
        (b"\x1b[5~\x1b[6~", ["page-up", "page-down"]),
        (b"\x1b[H\x1b[4~", ["home", "end"]),
        (b"\r\x7f\x1b", ["enter", "backspace", "escape"]),
        ("sä/".encode(), ["s", "ä", "/"]),
        (b"\x1b[1;5Cq", ["q"]),
        (b"\x00\x01q\xff", ["q", "\ufffd"]),
    ],
)
def test_keys(sent: bytes, keys: list[str]) -> None:
    """Arrows, other named keys and characters are told apart; what has no name is left out."""
    assert keys == decode(sent)


@given(st.lists(PIECES, max_size=8).map("".join), st.integers(1, 5))
def test_in_pieces(sent: str, size: int) -> None:
    """A slow line that cuts a sequence or a character changes nothing."""
    data = sent.encode()
    assert decode(data) == decode(*(data[start : start + size] for start in range(0, len(data), size)))


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Whatever comes, keys are printable, and no more is kept than a control sequence is long."""
    decoder = KeyDecoder()
    for piece in pieces:
        assert all(key.isprintable() for key in decoder.feed(piece))
        assert len(decoder._text) < 24


def test_escape_alone() -> None:
    """The Escape key is known once nothing follows it."""
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b") == []
    assert decoder.is_waiting
    assert decoder.flush() == ["escape"]
    assert not decoder.is_waiting
