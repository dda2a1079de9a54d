"""The fleet in one look: how many of what status, how fast, how much lost, and how each node's feed is."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from companion.contact import STATUSES, best
from companion.store.devices import Json, iso, walk
from companion.store.nodes import Feed
from companion.store.store import Store
from companion.view import View

PERCENTILES: Final = (50, 95, 99)
FRESH_MS: Final = 60_000


def compute(store: Store, view: View) -> Json:
    """Go over the whole fleet: about 50 µs a device.

    Latency percentiles are over each contact's last answered ping; `loss_ratio` is the share of the pinged contacts
    whose last ping was lost. Contacts that ended count in neither, and of the statuses only `offline` holds them.
    """
    devices: Counter[str] = Counter()
    contacts: Counter[str] = Counter()
    by_node: Counter[str] = Counter()
    latencies: list[int] = []
    pinged = losing = 0
    for device in walk(store):
        statuses = [view.status(contact) for contact in device.contacts]
        devices[best(statuses)] += 1
        for contact, status in zip(device.contacts, statuses, strict=True):
            contacts[status] += 1
            by_node[contact.node] += status != "offline"
            if status != "offline" and (contact.last_latency_at or contact.consecutive_lost):
                pinged += 1
                losing += contact.consecutive_lost > 0
                if contact.last_latency_ms is not None:
                    latencies.append(contact.last_latency_ms)
    return {
        "at": iso(view.clock.now),
        "devices": _by_status(devices),
        "contacts": _by_status(contacts),
        "contacts_by_node": dict(by_node),
        "latency": percentiles(latencies),
        "loss_ratio": round(losing / pinged, 4) if pinged else None,
        "nodes": [node(feed, view) for feed in view.feeds.values()],
    }


def percentiles(latencies: Sequence[int]) -> Json:
    """Nearest-rank percentiles in ms, null of nothing.

    >>> percentiles([10, 20, 30, 40])
    {'p50_ms': 20, 'p95_ms': 40, 'p99_ms': 40}
    """
    ordered = sorted(latencies)
    return {f"p{p}_ms": ordered[-(-p * len(ordered) // 100) - 1] if ordered else None for p in PERCENTILES}


def save(store: Store, summary: Json) -> None:
    store.connection.call("SET", store.keys.summary(), json.dumps(summary), "PX", FRESH_MS)


def load(store: Store) -> Json | None:
    """The summary the scheduler computed within the last minute."""
    saved = store.connection.call("GET", store.keys.summary())
    summary: Json | None = json.loads(saved) if saved else None
    return summary


def _by_status(counts: Counter[str]) -> Json:
    return {status: counts[status] for status in STATUSES} | {"total": counts.total()}


def node(feed: Feed, view: View) -> Json:
    """How a node's feed is, as people and machines read it."""
    return {
        **asdict(feed),
        "alive": feed.alive(view.clock.now),
        "heartbeat_at": iso(feed.heartbeat_at),
        "said_at": iso(feed.said_at),
        "last_event_at": iso(feed.last_event_at),
    }
