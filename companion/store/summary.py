"""The fleet in one look: how many of what status, how fast, how much lost, and how each node's feed is."""

import json
from dataclasses import asdict
from typing import Final

from companion.store.nodes import Feed
from companion.store.store import Store
from companion.times import Json, iso

FRESH_MS: Final = 60_000


def registered(summary: Json) -> dict[str, int]:
    """How many contacts of each node have not ended."""
    return {node: counts["total"] - counts["offline"] for node, counts in summary["contacts_by_node"].items()}


def save(store: Store, summary: Json, fresh_ms: int = FRESH_MS) -> None:
    """Let it be read for so long; then nobody counts any more."""
    store.connection.call("SET", store.keys.summary(), json.dumps(summary), "PX", fresh_ms)


def load(store: Store) -> Json | None:
    """The summary a scheduler computed lately, None where none is at work."""
    saved = store.connection.call("GET", store.keys.summary())
    summary: Json | None = json.loads(saved) if saved else None
    return summary


def node(feed: Feed, now: int) -> Json:
    """How a node's feed is, as people and machines read it."""
    return {
        **asdict(feed),
        "alive": feed.alive(now),
        "heartbeat_at": iso(feed.heartbeat_at),
        "said_at": iso(feed.said_at),
        "last_event_at": iso(feed.last_event_at),
    }
