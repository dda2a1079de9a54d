"""Hold contacts and devices, and derive their status. No I/O."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from companion import sip
from companion.opensips.events import Registration
from companion.usrloc.evidence import NodeEvidence, Reach, reach

Status = Literal["online", "losing", "unknown", "stale", "offline"]
STATUSES: Final[tuple[Status, ...]] = ("online", "losing", "unknown", "stale", "offline")
"""From best to worst: a device has the best status of its contacts."""

SILENT_INTERVALS: Final = 2
"""The number of ping intervals without evidence after which a contact's status is unknown."""

EXTENSION_MS: Final = 600_000
"""How long a contact lives after a ping that came later than its expiry: longer than any usual ping interval."""
FOR_EVER: Final = 1 << 53

Span = tuple[int, int]
"""First and last time, epoch ms, both included."""
Ping = tuple[int, int | None]
"""Time (epoch ms), and latency in ms or None when it was lost. A page has hundreds: objects would cost too much."""


class Binding(NamedTuple):
    """Name a contact: one binding in the usrloc of a cluster."""

    cluster: str
    domain: str
    aor: str
    uri: str


class Contact(msgspec.Struct, array_like=True, eq=False, gc=False):
    """Hold one contact and the evidence about it. Times are epoch ms, 0 = not (yet).

    `registered_at` is its first REGISTER. `superseded_at` is when a newer contact of the same device first answered
    after the last sign of life of this one. `changed_at` and `run` name the last event. `re_register_noted_at` belongs
    to the timeline and is not stored. `was_ghost` holds the times in which it was a ghost and came back.

    `node` gave the last ping or the first REGISTER. `holder` is the node that holds its connection or took its REGISTER
    over a socket of its own, "" when unknown. `evidence` is by node. `consecutive_lost`, `lost_since` and
    `last_lost_at` count the lost pings of nodes that can reach it. `doubts` counts those of nodes that can not, since
    `doubted_at`: no evidence, but a reason to ask the holder. `disconnected_by` is the node whose connection ended.
    `superseded_by` is the id of the newer contact. `advertised_socket` is what MI calls its socket. `address_since` is
    when it came to its present address. `older_callids` are those of its earlier REGISTERs, the latest first.
    `mi_instance` is the SIP instance by MI where events tell another one. `left_empty` tells that its AOR had no
    contact after its end; it is not stored.
    """

    binding: Binding
    id: str
    device: str
    node: str
    registration: Registration
    evidence: dict[str, NodeEvidence] = msgspec.field(default_factory=dict)
    registered_at: int = 0
    last_register_at: int = 0
    last_latency_ms: int | None = None
    last_latency_at: int = 0
    consecutive_lost: int = 0
    lost_since: int = 0
    last_lost_at: int = 0
    disconnected_at: int = 0
    disconnected_by: str = ""
    superseded_at: int = 0
    superseded_by: str = ""
    ended_at: int = 0
    ended_by: str = ""
    changed_at: int = 0
    run: int = 0
    holder: str = ""
    doubts: int = 0
    doubted_at: int = 0
    address_since: int = 0
    advertised_socket: str = ""
    older_callids: tuple[str, ...] = ()
    mi_instance: str = ""
    was_ghost: tuple[Span, ...] = ()
    re_register_noted_at: int = 0
    left_empty: bool = False

    @property
    def instance(self) -> str:
        """Return its SIP instance, "" if it has none."""
        return self.mi_instance or sip.contact_instance(self.registration.attr, self.binding.uri)

    @property
    def alive_at(self) -> int:
        """Return the time of the last evidence of life: an answered ping or a REGISTER."""
        return max(self.last_latency_at, self.last_register_at)

    @property
    def expires_at(self) -> int:
        """Return when it expires (epoch ms), 0 = never. Later pings extend it: OpenSIPS pings no expired contact.

        The clock that set `registration.expires_at` may be another host's.
        """
        last_event_at = max(self.last_latency_at, self.last_lost_at, self.last_register_at)
        return extend_expiry(self.registration.expires_at, last_event_at)

    @property
    def failing(self) -> bool:
        """Return whether it lost pings or its connection died."""
        return bool(self.consecutive_lost or self.disconnected_at)

    @property
    def address(self) -> str:
        """Return the `ip:port` that it last used."""
        return sip.network_address(self.registration.received, self.binding.uri)

    @property
    def connection(self) -> str:
        """Return the `ip:port` of its connection, or "" where a disconnect would be no evidence."""
        return sip.connection(self.registration.received, self.registration.path)[1]

    @property
    def transport(self) -> str:
        """Return the protocol of its connection: ws, wss, tcp or tls, "" where it has none of its own."""
        return sip.connection(self.registration.received, self.registration.path)[0]

    def reach(self, node: str) -> Reach:
        """Return whether a node can reach it."""
        return reach(node, self.holder, self.evidence)

    @property
    def number(self) -> int:
        """Return its id as a number that a time series value (a double) holds exactly."""
        return int(self.id[:13], 16)

    @property
    def push_provider(self) -> str:
        """Return its RFC 8599 push service, "" when it can not be woken."""
        return sip.push_provider(self.binding.uri)

    @property
    def push_token(self) -> str:
        """Return its RFC 8599 `pn-prid`, "" when it has none."""
        return sip.push_token(self.binding.uri)


class Device(msgspec.Struct, array_like=True, eq=False, gc=False):
    """Hold a device, which outlives its contacts. The oldest contact comes first."""

    id: str
    aor: str
    instance: str
    first_seen_at: int
    contacts: list[Contact] = msgspec.field(default_factory=list)
    refreshed_at: int = 0
    sampled: bool = False


class Clock(NamedTuple):
    """Hold what a status depends on besides the record: now (epoch ms) and how pings are sent."""

    now: int
    interval_ms: int
    lost_after: int


def contact_id(binding: Binding) -> str:
    """Return sixteen hex digits that stand for a binding in keys: URIs are long and hold push credentials."""
    return blake2b("\0".join(binding).encode("utf-8", "replace"), digest_size=8).hexdigest()


def extend_expiry(expires_at: int, last_event_at: int) -> int:
    """Return when a contact expires whose last ping or REGISTER came then; all in epoch ms, 0 = never."""
    return last_event_at + EXTENSION_MS if 0 < expires_at < last_event_at else expires_at


class Vitals(Protocol):
    """Describe what the status of a contact depends on besides the clock and its node's feed. Times are epoch ms."""

    @property
    def alive_at(self) -> int: ...
    @property
    def expires_at(self) -> int: ...
    @property
    def last_lost_at(self) -> int: ...
    @property
    def consecutive_lost(self) -> int: ...
    @property
    def disconnected_at(self) -> int: ...
    @property
    def ended_at(self) -> int: ...


def status(contact: Vitals, clock: Clock, *, feed_alive: bool) -> Status:
    """Return the status of a contact. A dead feed makes it unknown, unless it is certain without the feed."""
    if contact.ended_at or 0 < contact.expires_at <= clock.now:
        return "offline"
    if contact.disconnected_at:
        return "stale"
    if not feed_alive or _silent_at(contact, clock) <= clock.now:
        return "unknown"
    if contact.consecutive_lost >= clock.lost_after:
        return "stale"
    return "losing" if contact.consecutive_lost else "online"


def next_change(contact: Vitals, clock: Clock) -> int:
    """Return when the clock alone next changes the status of a contact (epoch ms), FOR_EVER if it does not.

    It may come earlier than the change, never later, as long as no event changes the contact.
    """
    if contact.ended_at:
        return FOR_EVER
    expires_at, silent_at = contact.expires_at, _silent_at(contact, clock)
    change = expires_at if expires_at > clock.now else FOR_EVER
    return silent_at if clock.now < silent_at < change else change


def _silent_at(contact: Vitals, clock: Clock) -> int:
    """Return from when on a contact is silent: SILENT_INTERVALS after the last evidence of it."""
    return max(contact.alive_at, contact.last_lost_at) + SILENT_INTERVALS * clock.interval_ms + 1


def best(statuses: Iterable[Status]) -> Status:
    return min(statuses, key=STATUSES.index, default="offline")


def is_dead(contact: Contact, lost_after: int) -> bool:
    """Return whether its connection died or it lost too many pings in a row."""
    return bool(contact.disconnected_at) or contact.consecutive_lost >= lost_after
