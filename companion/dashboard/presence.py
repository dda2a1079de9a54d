"""When a device was online and when it was not, from its pings and what happened to it. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from companion.config import PingsSection
from companion.text import Json
from companion.times import epoch_ms
from companion.usrloc.contact import FOR_EVER, SILENT_INTERVALS

State = Literal["online", "offline", "unknown"]
Sample = tuple[int, int | None]
"""A ping: epoch ms, and ms or None when it was lost."""

_LIVES: Final = frozenset({"registered", "re-registered", "recovered", "discovered"})
_NO_LIFE_BEFORE: Final = frozenset({"registered", "discovered", "expired", "removed-after-lost-pings", "gone"})
"""As the first word of a contact: it is new, or it died before."""
_DIES: Final = frozenset({"disconnected", "stale", "unregistered", "expired", "removed-after-lost-pings", "gone"})
_SOMEWHERE: Final = "?"
"""The contact behind an answered ping, which does not say whose it is."""


class Band(NamedTuple):
    """One state from `since` until `until`, epoch ms."""

    since: int
    until: int
    state: State


class Word(NamedTuple):
    """Something heard of the device: a contact that lives or dies, or pings alike from `at` to `until` (contact "")."""

    at: int
    until: int
    what: Literal["lives", "dies", "lost"]
    contact: str


def compute_presence(page: Json, since: int, until: int, pings: PingsSection) -> list[Band]:
    """The states of a device over a window, from its page (`samples`, `timeline`, `contacts`), without overlaps.

    Offline counts from the first ping lost of those that made it stale. Silence of more than two ping intervals is
    unknown. Before anything was heard of it there is no band at all.
    """
    patience_ms = SILENT_INTERVALS * pings.interval_ms
    told = list(_told(page, since))
    runs = _runs(page["samples"], sorted(word.at for word in told), patience_ms)
    words = sorted([*runs, *told], key=lambda word: word.at)
    living = _alive_at_start(page, since, pings.lost_after)
    presence = _Presence(living, _heard_before(page, since), patience_ms)
    changes = [
        *presence.start(since),
        *(change for word in words if word.at <= until for change in presence.take(word)),
    ]
    changes += presence.silence(until)
    return _merge(changes, since, until)


class _Presence:
    """Which contacts of the device live, and when something was last heard of them."""

    def __init__(self, living: Iterable[str], heard_at: int, patience_ms: int) -> None:
        self._living = set(living)
        self._heard_at = heard_at
        self._patience_ms = patience_ms

    def start(self, since: int) -> Iterator[tuple[int, State]]:
        if self._heard_at:
            yield since, self._state

    @property
    def _state(self) -> State:
        return "online" if self._living else "offline"

    def silence(self, now: int) -> Iterator[tuple[int, State]]:
        """The change to unknown, if nothing was heard for too long before `now`."""
        if self._living and self._heard_at and now - self._heard_at > self._patience_ms:
            yield self._heard_at + self._patience_ms, "unknown"

    def take(self, word: Word) -> Iterator[tuple[int, State]]:
        yield from self.silence(word.at)
        if word.what == "dies":
            self._living -= {word.contact, _SOMEWHERE}
        elif word.contact:
            self._living.add(word.contact)
        elif word.what == "lives" and not self._living:
            self._living.add(_SOMEWHERE)
        self._heard_at = word.until
        yield word.at, self._state


def _runs(samples: Iterable[Sample], told_at: Iterable[int], patience_ms: int) -> Iterator[Word]:
    """Pings alike with neither a silence nor another word between them as one: a week has thousands."""
    breaks = iter((*told_at, FOR_EVER))
    first, last, next_break, lost = 0, 0, 0, False
    for ts, latency_ms in samples:
        if ts > next_break or ts - last > patience_ms or lost is not (latency_ms is None):
            if first:
                yield _run(first, last, lost=lost)
            first, lost = ts, latency_ms is None
            while next_break < ts:
                next_break = next(breaks)
        last = ts
    if first:
        yield _run(first, last, lost=lost)


def _run(first: int, last: int, *, lost: bool) -> Word:
    return Word(first, last, "lost" if lost else "lives", "")


def _told(page: Json, since: int) -> Iterator[Word]:
    """What the timeline tells of its contacts."""
    began_to_lose: dict[str, int] = {}
    for entry in page["timeline"]:
        at, event, contact = epoch_ms(entry["at"]), entry["event"], str(entry.get("contact", ""))
        if event == "lost":
            began_to_lose[contact] = at
        elif event in _LIVES:
            yield Word(at, at, "lives", contact)
        elif event in _DIES:
            died_at = began_to_lose.get(contact, since) if event == "stale" else at
            yield Word(died_at, died_at, "dies", contact)


def _alive_at_start(page: Json, since: int, lost_after: int) -> Iterator[str]:
    """Contacts from before the window: known by their records, else by the first that is heard of them."""
    first: dict[str, Json] = {}
    for entry in page["timeline"]:
        first.setdefault(str(entry.get("contact", "")), entry)
    recorded = {contact["contact"]: contact for contact in page["contacts"]}
    for contact in {*first, *recorded} - {""}:
        said_alive = _was_alive(recorded[contact], since, lost_after) if contact in recorded else True
        if said_alive and (contact not in first or _was_there(first[contact], lost_after)):
            yield contact


def _was_there(entry: Json, lost_after: int) -> bool:
    """Whether a contact whose first word in the window is this one was alive before."""
    if entry["event"] == "recovered":
        return 0 < int(entry.get("lost", 0)) < lost_after
    return entry["event"] not in _NO_LIFE_BEFORE


def _was_alive(contact: Json, since: int, lost_after: int) -> bool:
    """Whether it had begun by then, and had not died: what its record says of its last death."""
    deaths = [contact["ended_at"], contact["disconnected_at"]]
    if contact["consecutive_lost"] >= lost_after:
        deaths.append(contact["lost_since"])
    died_at = min((epoch_ms(at) for at in deaths if at), default=None)
    return 0 < _begun_at(contact) <= since and (died_at is None or died_at > since)


def _heard_before(page: Json, since: int) -> int:
    """When something was last heard of the device before the window, as far as that is known; 0 = never."""
    begun = [contact for contact in page["contacts"] if 0 < _begun_at(contact) <= since]
    return max((min(_alive_at(contact), since) for contact in begun), default=0)


def _alive_at(contact: Json) -> int:
    return max(
        (epoch_ms(contact[name]) for name in ("last_latency_at", "last_register_at") if contact[name]), default=0
    )


def _begun_at(contact: Json) -> int:
    return min((epoch_ms(contact[name]) for name in ("registered_at", "last_register_at") if contact[name]), default=0)


def _merge(changes: Sequence[tuple[int, State]], since: int, until: int) -> list[Band]:
    merged: list[Band] = []
    ends = [*(at for at, _ in changes[1:]), until]
    for (at, state), end in zip(changes, ends, strict=False):
        start = max(at, since)
        if end <= start:
            continue
        if merged and merged[-1].state == state and merged[-1].until >= start:
            merged[-1] = merged[-1]._replace(until=end)
        else:
            merged.append(Band(start, end, state))
    return merged


def share_online(found: Sequence[Band]) -> float | None:
    """The share of the time that something is known of in which it was online."""
    known = sum(band.until - band.since for band in found if band.state != "unknown")
    online = sum(band.until - band.since for band in found if band.state == "online")
    return online / known if known else None
