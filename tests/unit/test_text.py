"""Test text from the network."""

import re

from hypothesis import given
from hypothesis import strategies as st

from companion.text import SAFE_TEXT, printable


@given(st.text())
def test_printable(text: str) -> None:
    """What is shown has nothing that a terminal could act on, and as many characters as before."""
    safe = printable(text)
    assert len(safe) == len(text)
    assert safe.replace("\t", "").isprintable()
    assert printable(safe) == safe


def test_printable_keeps_text() -> None:
    """Text of any script stays, a tab stays, an escape sequence does not."""
    assert printable("Zoë\t東京") == "Zoë\t東京"
    assert printable("\x1b[2J") == "\ufffd[2J"


def test_shown() -> None:
    """A field that people see takes text of any script, and no control character or change of direction."""
    assert re.fullmatch(SAFE_TEXT, "Zoë 東京")
    assert not re.search(SAFE_TEXT, "a\u202eb")
    assert not re.search(SAFE_TEXT, "a\nb")
