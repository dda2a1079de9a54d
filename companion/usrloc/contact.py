"""A contact and its device: their records, and what status they are in. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from companion import sip
from companion.opensips.events import Registration

Status = Literal["online", "losing", "unknown", "stale", "offline"]
STATUSES: Final[tuple[Status, ...]] = ("online", "losing", "unknown", "stale", "offline")
"""From best to worst: a device has the best status of its contacts."""

SILENT_INTERVALS: Final = 2
"""Ping intervals without a word after which a contact's state is no longer known."""


GHOST_SPANS: Final = 10
"""So many times a contact may come back from being a ghost until the first is forgotten."""
FOR_EVER: Final = 1 << 53

Span = tuple[int, int]
"""From and until, epoch ms, both included."""


class Binding(NamedTuple):
    """What makes a contact that contact: one binding in the usrloc of a cluster."""

    cluster: str
    domain: str
    aor: str
    uri: str


@dataclass(slots=True, eq=False)
class Contact:
    """One binding and what is known of it. Times are epoch ms, 0 = not (yet).

    `registered_at` is the first REGISTER seen of it; `superseded_at` when a newer contact of the same device first
    answered since this one last showed life; `changed_at` and `run` tell the event that spoke last.
    `re_register_noted_at` is of the timeline, and not stored. `was_ghost` are the times it was one and came back.
    """

    binding: Binding
    id: str
    device: str
    node: str
    registration: Registration
    registered_at: int = 0
    last_register_at: int = 0
    last_latency_ms: int | None = None
    last_latency_at: int = 0
    consecutive_lost: int = 0
    lost_since: int = 0
    last_lost_at: int = 0
    disconnected_at: int = 0
    superseded_at: int = 0
    ended_at: int = 0
    ended_by: str = ""
    changed_at: int = 0
    run: int = 0
    re_register_noted_at: int = 0
    was_ghost: tuple[Span, ...] = ()

    @property
    def alive_at(self) -> int:
        """The last evidence of life: an answered ping or a REGISTER."""
        return max(self.last_latency_at, self.last_register_at)

    @property
    def failing(self) -> bool:
        return bool(self.consecutive_lost or self.disconnected_at)

    @property
    def address(self) -> str:
        """The `ip:port` it was last seen at."""
        return sip.network_address(self.registration.received, self.binding.uri)

    @property
    def connection(self) -> str:
        """The `ip:port` of the WebSocket it lives on, "" where a dead connection would say nothing of it."""
        return sip.connection_address(self.registration.received, self.registration.path)

    @property
    def number(self) -> int:
        """Its id as a number that a time series value (a double) holds exactly."""
        return int(self.id[:13], 16)

    @property
    def push_provider(self) -> str:
        return sip.push_provider(self.binding.uri)


@dataclass(slots=True, eq=False)
class Device:
    """What a person holds; it outlives its contacts, the oldest of which come first."""

    id: str
    aor: str
    instance: str
    first_seen_at: int
    contacts: list[Contact] = field(default_factory=list)
    refreshed_at: int = 0
    sampled: bool = False


class Clock(NamedTuple):
    """What a status depends on besides the record: now (epoch ms) and how pings are sent."""

    now: int
    interval_ms: int
    lost_after: int


def contact_id(binding: Binding) -> str:
    """Sixteen hex digits that stand for a binding in keys: URIs are long and hold push credentials."""
    return blake2b("\0".join(binding).encode("utf-8", "replace"), digest_size=8).hexdigest()


def status(contact: Contact, clock: Clock, *, feed_alive: bool) -> Status:
    """The status of a contact. A dead feed makes all unknown but what is certain without it."""
    if contact.ended_at or 0 < contact.registration.expires_at <= clock.now:
        return "offline"
    if contact.disconnected_at:
        return "stale"
    if not feed_alive or _silent(contact, clock):
        return "unknown"
    if contact.consecutive_lost >= clock.lost_after:
        return "stale"
    return "losing" if contact.consecutive_lost else "online"


def _silent(contact: Contact, clock: Clock) -> bool:
    last_word_at = max(contact.alive_at, contact.last_lost_at)
    return clock.now - last_word_at > SILENT_INTERVALS * clock.interval_ms


def best(statuses: Iterable[Status]) -> Status:
    return min(statuses, key=STATUSES.index, default="offline")


def is_dead(contact: Contact, lost_after: int) -> bool:
    """Whether its connection died or it lost too many pings in a row."""
    return bool(contact.disconnected_at) or contact.consecutive_lost >= lost_after


def is_ghost(contact: Contact, lost_after: int) -> bool:
    """Whether it is dead while a newer contact of its device has answered since it last showed life."""
    return bool(contact.superseded_at) and is_dead(contact, lost_after)


def ghost_spans(contact: Contact, lost_after: int, until: int = FOR_EVER) -> tuple[Span, ...]:
    """When it was a ghost, and is: its losses in those times are not its device's."""
    if not is_ghost(contact, lost_after):
        return contact.was_ghost
    return (*contact.was_ghost, (contact.superseded_at, until))[-GHOST_SPANS:]


class Ping(NamedTuple):
    """One ping: epoch ms, and its latency in ms or None when it was lost."""

    ts: int
    latency_ms: int | None
