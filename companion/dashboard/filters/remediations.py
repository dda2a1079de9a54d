"""Write the filters of the list of decisions into a page's address, and read them back."""

from dataclasses import asdict, dataclass, replace
from typing import Final, Self, get_args
from urllib.parse import urlencode

from companion.dashboard.filters import devices
from companion.dashboard.filters.paging import CHUNK, PAGE, collect_page
from companion.query.reader import Reader
from companion.recording.audit import ACTION
from companion.recording.audit import Reason as RecordingReason
from companion.remediation.policy import Reason
from companion.text import Json

MAX_CHUNKS: Final = 50
"""One search reads at most this much; further decisions are on the next page."""
CHOICES: Final = {
    "action": ("push", "remove", "keep", ACTION),
    "reason": (*get_args(Reason), *get_args(RecordingReason)),
    "mode": ("observe", "enforce"),
}


@dataclass(frozen=True, slots=True)
class DecisionFilters:
    """Hold which decisions of remediation to show.

    `text` is contained in device, AOR, node, result, why or answer; `since` is where an earlier page ended.
    """

    text: str = ""
    action: str = ""
    reason: str = ""
    mode: str = ""
    since: str = ""

    @classmethod
    def read(cls, query: str) -> Self:
        """Read filters from the query of an address, and ignore what is not one of the choices."""
        fields = {name: values[0][: devices.MAX_TEXT] for name, values in devices.fields(query).items()}
        chosen = {name: fields[name] for name, words in CHOICES.items() if fields.get(name) in words}
        return cls(text=fields.get("text", ""), since=fields.get("since", ""), **chosen)

    def address(self) -> str:
        """Return the address of the page with these filters, without those that are empty."""
        fields = {name: value for name, value in asdict(self).items() if value}
        return f"/remediations?{urlencode(fields)}" if fields else "/remediations"

    def changed(self, name: str, value: str) -> Self:
        """Return filters with another text or choice, from the newest decision on; the same for any other name."""
        if name != "text" and value not in ("", *CHOICES.get(name, ())):
            return self
        return replace(self, since="", **{name: value[: devices.MAX_TEXT]}) if name in ("text", *CHOICES) else self

    def at(self, since: str) -> Self:
        return replace(self, since=since)

    @property
    def any(self) -> bool:
        return bool(self.text or self.action or self.reason or self.mode)

    def fit(self, decision: Json) -> bool:
        """Return whether a decision is one of those to show."""
        if any(getattr(self, name) not in ("", decision[name]) for name in CHOICES):
            return False
        names = ("device", "node", "result", "why", "answer")
        return not self.text or any(self.text.lower() in str(decision.get(name, "")).lower() for name in names)


def find_decisions(reader: Reader, filters: DecisionFilters) -> tuple[list[Json], str | None]:
    """Return a page of the decisions that fit, newest first, and where the next begins; None on the last page."""

    def read(cursor: str) -> tuple[list[Json], str | None]:
        answer = reader.remediations(cursor, CHUNK if filters.any else PAGE)
        return answer["remediations"], answer["next"]

    return collect_page(read, filters.fit, filters.since, MAX_CHUNKS)
