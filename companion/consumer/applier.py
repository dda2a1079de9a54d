"""Apply decoded messages to the contacts, devices and feeds in memory. No I/O."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import cast

import msgspec

from companion import log, metrics
from companion.bus.envelope import HEARTBEAT, Heartbeat, Message
from companion.consumer.decoder import DecodedEvent, DecodedMessage, RecognisedPing
from companion.consumer.future_limit import FutureLimit
from companion.consumer.memory import RecorderMemory
from companion.opensips import events
from companion.opensips.events import EVENT_NAMES, LATENCY, LOST_PING_US, ContactEvent, Event
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding

logger = log.get(__name__)


class Applier:
    """Apply events in the order of their messages, and count them."""

    def __init__(self, memory: RecorderMemory) -> None:
        self._memory = memory
        self._future_limit = FutureLimit()

    def apply(self, batch: Sequence[DecodedMessage]) -> None:
        """Apply messages of our nodes; what their events need must be in memory."""
        counts: Counter[tuple[str, str]] = Counter()
        latencies_us: defaultdict[str, list[int]] = defaultdict(list)
        latest_ms = self._future_limit.latest_ms()
        for message, decoded, refusals in batch:
            self._memory.feeds.take_refusals(message.node, refusals)
            if message.name in EVENT_NAMES or message.name == HEARTBEAT:
                repeated = self._memory.feeds.check(message)
                counts[message.node, message.name] += len(decoded) - repeated
                if message.name == HEARTBEAT:
                    self._apply_heartbeats(message, decoded, repeated)
                else:
                    self._apply_events(message, decoded, repeated, latest_ms)
                latencies_us[message.node] += _latencies_us(message, decoded[repeated:])
        for (node, name), count in counts.items():
            metrics.EVENTS.labels(node, name).inc(count)
        for node, pings in latencies_us.items():
            metrics.count_pings(node, [us // 1000 for us in pings if us != LOST_PING_US], pings.count(LOST_PING_US))

    def _apply_heartbeats(self, message: Message, decoded: Sequence[DecodedEvent], first: int) -> None:
        """Apply the heartbeats of a message from number `first` on."""
        for (ts, _), event in zip(message.events[first:], decoded[first:], strict=True):
            if isinstance(event, Heartbeat):
                self._memory.feeds.take_heartbeat(message.node, event, ts)

    def _apply_events(self, message: Message, decoded: Sequence[DecodedEvent], first: int, latest_ms: int) -> None:
        """Apply the events of a message from number `first` on; refuse those later than `latest_ms`."""
        feed = self._memory.feeds.held[message.node]
        for (ts, params), event in itertools.islice(zip(message.events, decoded, strict=True), first, None):
            if ts > latest_ms:
                self._memory.feeds.refuse(message.node)
            elif event:
                feed.last_event_at = ts  # not the greatest: a clock may have been set back
                try:
                    self._apply_event(message, ts, params, event)
                except Exception:
                    metrics.INVALID.labels("recorder", "error").inc()
                    logger.exception("an event could not be applied", event_name=message.name)

    def _apply_event(self, message: Message, ts: int, params: msgspec.Raw, event: DecodedEvent) -> None:
        usrloc = self._memory.usrloc
        if event.__class__ is tuple:
            ping, latency_us = cast("RecognisedPing", event)
            contact = ping.contact
            if contact.registration is ping.registration and not contact.ended_at:
                usrloc.pings.add_if_new(contact, latency_us, ts, message.node, message.run)
                return
            event = events.decode(message.name, params)  # an earlier event of this batch changed the contact
        event = cast("Event", event)
        usrloc.apply(event, Stamp(message.node, self._memory.feeds.held[message.node].cluster, ts, message.run))
        if len(message.events) > 1 and message.name == LATENCY:  # only in a flood is the speed worth the memory
            self._cache_ping(params, cast("ContactEvent", event), message.node)

    def _cache_ping(self, params: msgspec.Raw, event: ContactEvent, node: str) -> None:
        binding = Binding(self._memory.feeds.held[node].cluster, event.domain, event.aor, event.uri)
        devices = self._memory.usrloc.devices
        contact = devices.contacts.get(binding)
        if contact and event.aor not in devices.lately_entered:  # it may be packed before its next ping
            self._memory.ping_caches[node].add(bytes(params), event, contact)


def _latencies_us(message: Message, decoded: Sequence[DecodedEvent]) -> list[int]:
    if message.name != LATENCY:
        return []
    pings = cast("list[RecognisedPing | ContactEvent | None]", decoded)
    return [ping.latency_us if isinstance(ping, ContactEvent) else ping[1] for ping in pings if ping]
