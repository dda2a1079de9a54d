"""Which calls somebody looks for, in a page's address and back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self
from urllib.parse import urlencode

from companion.dashboard.filters import devices
from companion.media.e_model import BAND_NAMES, mos_band
from companion.query.reader import Reader
from companion.times import WINDOWS_MS

PAGE: Final = 50
CHUNK: Final = 200
MOST_CHUNKS: Final = 20
"""So much one question goes through; further calls are on the next page."""
WORST: Final = (*BAND_NAMES, "unknown")
"""The bands a call's worst second may be in; unknown when none could be scored."""


@dataclass(frozen=True, slots=True)
class Filters:
    """`text` is contained in device, peer, Call-ID or why; `since` is where an earlier page ended."""

    text: str = ""
    worst: tuple[str, ...] = ()
    window: str = devices.DEFAULT_WINDOW
    since: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """From the part of an address behind its ?; what is no choice is left out."""
        said = devices.fields(text)
        words = {name: said[name][0][: devices.MAX_TEXT] for name in ("text", "since") if name in said}
        worst = tuple(word for word in WORST if word in said.get("worst", ()))
        return cls(worst=worst, window=devices.window(text), **words)

    def address(self) -> str:
        said = [("text", self.text), *(("worst", word) for word in self.worst)]
        said += [("window", self.window if self.window != devices.DEFAULT_WINDOW else ""), ("since", self.since)]
        told = [(name, value) for name, value in said if value]
        return f"/calls?{urlencode(told)}" if told else "/calls"

    def saying(self, text: str) -> Self:
        return replace(self, text=text[: devices.MAX_TEXT], since="")

    def toggled(self, word: str) -> Self:
        """With one band more, or less; from the newest call on."""
        return replace(self, worst=tuple(each for each in WORST if (each in self.worst) != (each == word)), since="")

    def within(self, window: str) -> Self:
        return replace(self, window=window, since="")

    def at(self, since: str) -> Self:
        return replace(self, since=since)

    @property
    def any(self) -> bool:
        return bool(self.text or self.worst)

    def fit(self, row: Mapping[str, Any]) -> bool:
        if self.worst and (mos_band(row["mos_min"]) if row["mos_min"] is not None else "unknown") not in self.worst:
            return False
        names = ("device", "peer", "call_id", "why")
        return not self.text or any(self.text.lower() in str(row[name]).lower() for name in names)


def find(reader: Reader, wanted: Filters) -> tuple[list[dict[str, Any]], str | None]:
    """At least a page of the calls that fit, newest first, and where the next page begins; None on the last."""
    found: list[dict[str, Any]] = []
    since: str | None = wanted.since
    for _ in range(MOST_CHUNKS):
        answer = reader.fleet_calls(WINDOWS_MS[wanted.window], since or "", CHUNK if wanted.any else PAGE)
        found += filter(wanted.fit, answer["calls"])
        since = answer["next"]
        if since is None or len(found) >= PAGE:
            break
    return found, since
