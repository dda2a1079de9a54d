"""Compute when a device was online, from its pings and its timeline. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, NamedTuple

from companion.config import PingsSection
from companion.dashboard.rhythm import Rhythm
from companion.text import Json
from companion.times import epoch_ms
from companion.usrloc.contact import FOR_EVER

State = Literal["online", "offline", "unknown"]
Sample = tuple[int, int | None]
"""Holds a ping: its time in epoch ms, and its latency in ms or None when it was lost."""

_LIVES: Final = frozenset({"registered", "re-registered", "recovered", "discovered"})
_ENDS: Final = frozenset({"expired", "removed-after-lost-pings", "removed", "replaced", "gone"})
_NO_LIFE_BEFORE: Final = _ENDS | {"registered", "discovered"}
"""Events that, as the first of a contact, tell that it did not live before."""
_DIES: Final = _ENDS | {"disconnected", "stale", "unregistered"}
_ANY_CONTACT: Final = "?"
"""Stands for the contact that answered a ping: a ping does not tell which contact it was."""


class Band(NamedTuple):
    """Represent one state from `since` until `until`, epoch ms."""

    since: int
    until: int
    state: State


class Sign(NamedTuple):
    """Represent a sign of one contact that it lives or dies, or pings alike from `at` to `until` (contact "")."""

    at: int
    until: int
    what: Literal["lives", "dies", "lost"]
    contact: str


def compute_presence(page: Json, since: int, until: int, pings: PingsSection) -> list[Band]:
    """Return the states of a device over a window, without overlaps; `page` has its samples, timeline and contacts.

    Offline begins with the first lost ping of those that made it stale. A silence of more than two ping intervals is
    unknown. There is no band before the first sign of the device.
    """
    rhythm = Rhythm((at for at, _ in page["samples"]), pings.interval_ms)
    timeline_signs = list(_timeline_signs(page, since))
    runs = _runs(page["samples"], sorted(sign.at for sign in timeline_signs), rhythm)
    signs = sorted([*runs, *timeline_signs], key=lambda sign: sign.at)
    living = _alive_at_start(page, since, pings.lost_after)
    presence = _Presence(living, _last_sign_before(page, since), rhythm)
    changes = [
        *presence.start(since),
        *(change for sign in signs if sign.at <= until for change in presence.take(sign)),
    ]
    changes += presence.silence(until)
    return _merge(changes, since, until)


class _Presence:
    """Track which contacts of the device live, and the time of its last sign."""

    def __init__(self, living: Iterable[str], last_sign_at: int, rhythm: Rhythm) -> None:
        self._living = set(living)
        self._last_sign_at = last_sign_at
        self._rhythm = rhythm

    def start(self, since: int) -> Iterator[tuple[int, State]]:
        if self._last_sign_at:
            yield since, self._state

    @property
    def _state(self) -> State:
        return "online" if self._living else "offline"

    def silence(self, now: int) -> Iterator[tuple[int, State]]:
        """Yield the change to unknown, if the last sign was too long before `now`."""
        if self._living and self._last_sign_at and self._rhythm.is_silence(self._last_sign_at, now):
            yield self._last_sign_at + self._rhythm.patience_ms(self._last_sign_at), "unknown"

    def take(self, sign: Sign) -> Iterator[tuple[int, State]]:
        yield from self.silence(sign.at)
        if sign.what == "dies":
            self._living -= {sign.contact, _ANY_CONTACT}
        elif sign.contact:
            self._living.add(sign.contact)
        elif sign.what == "lives" and not self._living:
            self._living.add(_ANY_CONTACT)
        self._last_sign_at = sign.until
        yield sign.at, self._state


def _runs(samples: Iterable[Sample], sign_times: Iterable[int], rhythm: Rhythm) -> Iterator[Sign]:
    """Combine pings that are alike, with neither a silence nor another sign between them: a week has thousands."""
    breaks = iter((*sign_times, FOR_EVER))
    first, last, next_break, lost = 0, 0, 0, False
    for ts, latency_ms in samples:
        if ts > next_break or rhythm.is_silence(last, ts) or lost is not (latency_ms is None):
            if first:
                yield _run(first, last, lost=lost)
            first, lost = ts, latency_ms is None
            while next_break < ts:
                next_break = next(breaks)
        last = ts
    if first:
        yield _run(first, last, lost=lost)


def _run(first: int, last: int, *, lost: bool) -> Sign:
    return Sign(first, last, "lost" if lost else "lives", "")


def _timeline_signs(page: Json, since: int) -> Iterator[Sign]:
    """Yield the signs of contacts in the timeline."""
    began_to_lose: dict[str, int] = {}
    for entry in page["timeline"]:
        at, event, contact = epoch_ms(entry["at"]), entry["event"], str(entry.get("contact", ""))
        if event == "lost":
            began_to_lose[contact] = at
        elif event in _LIVES:
            yield Sign(at, at, "lives", contact)
        elif event in _DIES:
            died_at = began_to_lose.get(contact, since) if event == "stale" else at
            yield Sign(died_at, died_at, "dies", contact)


def _alive_at_start(page: Json, since: int, lost_after: int) -> Iterator[str]:
    """Yield the contacts that lived at the start of the window, by their records or by their first sign in it."""
    first: dict[str, Json] = {}
    for entry in page["timeline"]:
        first.setdefault(str(entry.get("contact", "")), entry)
    recorded = {contact["contact"]: contact for contact in page["contacts"]}
    for contact in {*first, *recorded} - {""}:
        was_alive = _was_alive(recorded[contact], since, lost_after) if contact in recorded else True
        if was_alive and (contact not in first or _was_there(first[contact], lost_after)):
            yield contact


def _was_there(entry: Json, lost_after: int) -> bool:
    """Return whether a contact lived before this entry, its first in the window."""
    if entry["event"] == "recovered":
        return 0 < int(entry.get("lost", 0)) < lost_after
    return entry["event"] not in _NO_LIFE_BEFORE


def _was_alive(contact: Json, since: int, lost_after: int) -> bool:
    """Return whether a contact had begun by then and had not died, by its record."""
    deaths = [contact["ended_at"], contact["disconnected_at"]]
    if contact["consecutive_lost"] >= lost_after:
        deaths.append(contact["lost_since"])
    died_at = min((epoch_ms(at) for at in deaths if at), default=None)
    return 0 < _begun_at(contact) <= since and (died_at is None or died_at > since)


def _last_sign_before(page: Json, since: int) -> int:
    """Return the time of the last known sign before the window; 0 for none."""
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


def share_online(bands: Sequence[Band]) -> float | None:
    """Return the share of the known time in which the device was online."""
    measured = sum(band.until - band.since for band in bands if band.state != "unknown")
    online = sum(band.until - band.since for band in bands if band.state == "online")
    return online / measured if measured else None
