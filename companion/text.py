"""Make text from the network safe to show. No I/O."""

from typing import Any, Final

import msgspec

UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for input that is not msgpack or JSON, or not of the expected shape."""

Json = dict[str, Any]
"""A JSON object: what is read off a wire, or ready to be written."""


REPLACEMENT: Final = "\ufffd"


def printable(text: str) -> str:
    """Replace each character that a terminal could act on by U+FFFD; a tab stays a tab."""
    return "".join(c if c.isprintable() or c == "\t" else REPLACEMENT for c in text)


def is_exact(text: str) -> bool:
    """Return whether no character was replaced: only then can a text be sent back to where it came from."""
    return REPLACEMENT not in text


SAFE_TEXT: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"
"""Matches text without control characters and changes of direction, which is safe to show to people."""


def times(number: int, word: str) -> str:
    """Format a number with its word: `1 contact`, `2 contacts`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
