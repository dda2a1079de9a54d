"""Text from the network, made safe to show. No I/O."""

from typing import Final


def printable(text: str) -> str:
    """`text` with each character that a terminal could act on replaced by U+FFFD; a tab stays a tab."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)


SHOWN: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"
"""A text without control characters, nor what turns its direction: it is shown to people."""
