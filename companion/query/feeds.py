"""Describe the feeds of nodes as people and machines read them."""

from dataclasses import asdict

from companion.store.nodes import Feed
from companion.text import Json
from companion.times import iso


def describe_feed(feed: Feed, now: int) -> Json:
    """Return the row of a node's feed, with ISO 8601 times, as of `now` (epoch ms)."""
    fields = asdict(feed)
    del fields["batch"]
    return {
        **fields,
        "alive": feed.is_alive(now),
        "heartbeat_at": iso(feed.heartbeat_at),
        "said_at": iso(feed.said_at),
        "last_event_at": iso(feed.last_event_at),
        "known_since": iso(feed.known_since),
        "lost_at": iso(feed.lost_at),
        "refused_at": iso(feed.refused_at),
    }
