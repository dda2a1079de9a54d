"""Hold what could be learnt about the surroundings of a companion. No I/O. Times are epoch ms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from companion.config import Config
from companion.opensips.mi_contact import MiContact
from companion.opensips.probe import ProbeReply
from companion.opensips.subscriptions import EventSubscription
from companion.store.nodes import Feed
from companion.usrloc.contact import Contact, Device, Ping


@dataclass(frozen=True, kw_only=True)
class OpensipsFacts:
    """Hold one `[[opensips]]` table and the answers of its MI; with an `error`, as far as it answered.

    `sockets` are where its events should go, `registered` is how many contacts it has (None: it does not tell),
    `contacts` a sample of them, `size_error` why a request of more than 1 kB failed. `probe` is what came of a question
    to a phone over `probe_url`, None where no phone could be asked. `hep_to` is where it would send the SIP messages of
    recorded devices, `trace_error` why it can not.
    """

    node: str
    cluster: str
    mi_url: str
    sockets: tuple[str, ...]
    renewed: bool = False
    error: str = ""
    refused: bool = False
    version: str = ""
    events: frozenset[str] = frozenset()
    subscriptions: tuple[EventSubscription, ...] = ()
    registered: int | None = None
    contacts: tuple[MiContact, ...] = ()
    size_error: str = ""
    probe_url: str = ""
    probe: ProbeReply | None = None
    hep_to: str = ""
    trace_error: str = ""


@dataclass(frozen=True, kw_only=True)
class BusFacts:
    """Hold the node whose bridge publishes at one endpoint, "" for none; `ahead_ms` is how far its clock is ahead.

    `problem` is why no bridge was heard there, as far as the connection tells, and `remedy` what to do about it.
    """

    endpoint: str
    node: str = ""
    ahead_ms: int = 0
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """Hold the RabbitMQ queue of one node: how many messages wait in it, and whether a consumer reads it."""

    node: str
    messages: int = 0
    is_read: bool = False


@dataclass(frozen=True, kw_only=True)
class RedisFacts:
    """Hold what Redis reports; with an `error` nothing but its `remedy`. `settings` is None where CONFIG is denied.
    `uneven`: settings that masters of a Cluster do not have alike.

    `ahead_ms` is how far its clock is ahead of ours.
    """

    place: str
    error: str = ""
    remedy: str = ""
    product: str = "Redis"
    version: str = ""
    timeseries: bool = False
    settings: Mapping[str, str] | None = None
    uneven: tuple[str, ...] = ()
    used_bytes: int = 0
    evicted_keys: int = 0
    is_replica: bool = False
    ahead_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Hold all facts. `devices` is a sample of those stored, `pings` are the last ones of some of these.

    `unrecorded`: the nodes that nobody records, with the consumers that hear them.
    `queues` are by node, where RabbitMQ carries the bus.
    """

    now: int
    config: Config
    opensips: Sequence[OpensipsFacts] = ()
    bus: Sequence[BusFacts] = ()
    queues: Mapping[str, QueueFacts] = field(default_factory=dict)
    redis: RedisFacts
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    devices: Sequence[Device] = ()
    pings: Mapping[str, Sequence[Ping]] = field(default_factory=dict)
    unrecorded: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def live(self, cluster: str) -> list[Contact]:
        """Return the stored contacts of a cluster that should be registered now."""
        return [
            contact
            for device in self.devices
            for contact in device.contacts
            if contact.binding.cluster == cluster and not contact.ended_at and not 0 < contact.expires_at <= self.now
        ]
