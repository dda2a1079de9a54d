"""Which of remediation's decisions somebody looks for, in a page's address and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self
from urllib.parse import urlencode

from companion.dashboard.filters.devices import fields
from companion.query.reader import Reader

PAGE: Final = 50
CHUNK: Final = 200
MOST_CHUNKS: Final = 50
"""So much one question goes through; further decisions are on the next page."""
CHOICES: Final = {
    "action": ("push", "remove", "keep"),
    "reason": ("lost-pings", "disconnected", "ghost"),
    "mode": ("observe", "enforce"),
}
MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """`text` is contained in device, AOR, node, result, why or answer; `since` is where an earlier page ended."""

    text: str = ""
    action: str = ""
    reason: str = ""
    mode: str = ""
    since: str = ""

    @classmethod
    def read(cls, text: str) -> Self:
        """From the part of an address behind its ?; what is no choice is left out."""
        said = {name: values[0][:MAX_TEXT] for name, values in fields(text).items()}
        chosen = {name: said[name] for name, words in CHOICES.items() if said.get(name) in words}
        return cls(text=said.get("text", ""), since=said.get("since", ""), **chosen)

    def address(self) -> str:
        said = {name: value for name, value in asdict(self).items() if value}
        return f"/remediations?{urlencode(said)}" if said else "/remediations"

    def changed(self, name: str, value: str) -> Self:
        """With another text or choice, from the newest on; as it is for what is neither."""
        if name != "text" and value not in ("", *CHOICES.get(name, ())):
            return self
        return replace(self, since="", **{name: value[:MAX_TEXT]}) if name in ("text", *CHOICES) else self

    def at(self, since: str) -> Self:
        return replace(self, since=since)

    @property
    def any(self) -> bool:
        return bool(self.text or self.action or self.reason or self.mode)

    def fit(self, entry: Mapping[str, Any]) -> bool:
        if any(getattr(self, name) not in ("", entry[name]) for name in CHOICES):
            return False
        names = ("device", "node", "result", "why", "answer")
        return not self.text or any(self.text.lower() in str(entry.get(name, "")).lower() for name in names)


def find(reader: Reader, wanted: Filters) -> tuple[list[dict[str, Any]], str | None]:
    """At least a page of the decisions that fit, newest first, and where the next page begins; None on the last."""
    found: list[dict[str, Any]] = []
    since: str | None = wanted.since
    for _ in range(MOST_CHUNKS):
        answer = reader.remediations(since or "", CHUNK if wanted.any else PAGE)
        found += filter(wanted.fit, answer["remediations"])
        since = answer["next"]
        if since is None or len(found) >= PAGE:
            break
    return found, since
