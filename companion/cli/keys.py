"""Decode what a terminal sends into keys. No I/O."""

import re
from codecs import getincrementaldecoder
from typing import Final

_NAMES: Final = {
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    **{f"\x1b{begin}{final}": name for begin in "[O" for final, name in zip("ABCDHF", (
        "up", "down", "right", "left", "home", "end",
    ), strict=True)},
    **{f"\x1b[{number}~": name for number, name in (
        (1, "home"), (4, "end"), (5, "page-up"), (6, "page-down"), (7, "home"), (8, "end"),
    )},
}  # fmt: skip
_KEY: Final = re.compile(r"\x1b(?:\[[0-?]{0,16}[ -/]{0,4}[@-~]|O[@-~])|.", re.DOTALL)
"""Matches one key: a control sequence (ECMA-48), as arrows send it, or one character."""
_BEGUN: Final = re.compile(r"\x1b(?:\[[0-?]{0,16}[ -/]{0,4}|O)?\Z")
"""Matches a control sequence of which more may come, or the Escape key alone."""


class KeyDecoder:
    """Decode the bytes of a terminal: names such as `up` and `enter`, and characters as they are.

    A slow line delivers a control sequence in pieces. `is_waiting` says that one may be under way; `flush` ends it.
    """

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._text = ""

    @property
    def is_waiting(self) -> bool:
        return bool(self._text)

    def feed(self, data: bytes) -> list[str]:
        """Return the keys that are complete. Control characters and sequences without a name are left out."""
        text = self._text + self._decoder.decode(data)
        begun = _BEGUN.search(text)
        end = begun.start() if begun else len(text)
        self._text = text[end:]
        return _name_keys(text[:end])

    def flush(self) -> list[str]:
        """Return the keys of what does not go on."""
        text, self._text = self._text, ""
        return _name_keys(text)


def _name_keys(text: str) -> list[str]:
    keys = (_NAMES.get(match[0], match[0]) for match in _KEY.finditer(text))
    return [key for key in keys if key.isprintable()]
