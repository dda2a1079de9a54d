"""Write the filters of the call list into a page's address, and read them back."""

from dataclasses import dataclass, replace
from typing import Final, Self
from urllib.parse import urlencode

from companion.dashboard.filters import devices
from companion.dashboard.filters.paging import CHUNK, PAGE, collect_page
from companion.media.e_model import BAND_NAMES, mos_band
from companion.query.reader import Reader
from companion.text import Json
from companion.times import WINDOWS_MS

MAX_CHUNKS: Final = 20
"""One search reads at most this much; further calls are on the next page."""
WORST: Final = (*BAND_NAMES, "unknown")
"""The bands that the worst second of a call may be in; unknown when no second could be scored."""


@dataclass(frozen=True, slots=True)
class CallFilters:
    """Hold which calls to show.

    `text` is contained in device, peer, Call-ID or why; `since` is where an earlier page ended.
    """

    text: str = ""
    worst: tuple[str, ...] = ()
    window: str = devices.DEFAULT_WINDOW
    since: str = ""

    @classmethod
    def read(cls, query: str) -> Self:
        """Read filters from the query of an address, and ignore what is not one of the choices."""
        fields = devices.fields(query)
        texts = {name: fields[name][0][: devices.MAX_TEXT] for name in ("text", "since") if name in fields}
        worst = tuple(band for band in WORST if band in fields.get("worst", ()))
        return cls(worst=worst, window=devices.window(query), **texts)

    def address(self) -> str:
        """Return the address of the page with these filters, without those that have their default."""
        window = self.window if self.window != devices.DEFAULT_WINDOW else ""
        fields = [("text", self.text), *(("worst", band) for band in self.worst)]
        fields += [("window", window), ("since", self.since)]
        query = urlencode([(name, value) for name, value in fields if value])
        return f"/calls?{query}" if query else "/calls"

    def changed(self, name: str, value: str) -> Self:
        """Return filters with another text, from the newest call on; the same for any other name."""
        return replace(self, text=value[: devices.MAX_TEXT], since="") if name == "text" else self

    def toggled(self, band: str) -> Self:
        """Return filters with one band more or less, from the newest call on."""
        worst = tuple(name for name in WORST if (name in self.worst) != (name == band))
        return replace(self, worst=worst, since="")

    def within(self, window: str) -> Self:
        return replace(self, window=window, since="")

    def at(self, since: str) -> Self:
        return replace(self, since=since)

    @property
    def any(self) -> bool:
        return bool(self.text or self.worst)

    def fit(self, row: Json) -> bool:
        """Return whether a call is one of those to show."""
        band = "unknown" if row["mos_min"] is None else mos_band(row["mos_min"])
        if self.worst and band not in self.worst:
            return False
        names = ("device", "peer", "call_id", "why")
        return not self.text or any(self.text.lower() in str(row[name]).lower() for name in names)


def find_calls(reader: Reader, filters: CallFilters) -> tuple[list[Json], str | None]:
    """Return a page of the calls that fit, newest first, and where the next page begins; None on the last page."""

    def read(cursor: str) -> tuple[list[Json], str | None]:
        answer = reader.fleet_calls(WINDOWS_MS[filters.window], cursor, CHUNK if filters.any else PAGE)
        return answer["calls"], answer["next"]

    return collect_page(read, filters.fit, filters.since, MAX_CHUNKS)
