"""Store how healthy each node's feed is, and up to where its events are stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from companion.store.connection import Command
from companion.store.fence import WRITER, fence
from companion.store.keys import Keys
from companion.store.marks import name_field
from companion.store.store import Store

DEAD_AFTER_MS: Final = 10_000
"""Without a heartbeat for this long (five of them) a feed is down."""
GONE_AFTER_MS: Final = 30_000
"""Without one for this long a node may be forgotten; for less, its bridge may only be restarting."""


@dataclass(slots=True)
class Feed:
    """Hold how healthy the feed of one node is.

    Times are epoch ms, 0 = never; the rest are counts, those of the bridge since its start. `steady_since`: no event
    is missing from then on. `removals`: contacts that OpenSIPS itself removed after lost pings. `said_at`: the time of
    the last heartbeat by the bridge's clock; `heartbeat_at`: its arrival by ours. `stream_breaks`: how often the
    connection of event_stream ended. `interval_ms`: how often the node pings a contact, as observed (0 = not yet).
    `ended_run`: the last run that told its end. `doubled`: pings that arrived twice. `refused`: events that could not
    be taken; the last one was of `refused_aor`, because of `refused_why`, at `refused_at`. `lost_at`: when the loss of
    events was last noticed.
    `batch`: how often it was written; Redis must still have the last one.
    `known_since`: when we began to hear of the node, at first or after an hour without it. `left_out`: contacts that
    are not taken in; the last one was of `left_out_aor`, and so are `left_out_of_aor` of them.
    """

    node: str
    cluster: str = ""
    run: int = 0
    heartbeat_at: int = 0
    said_at: int = 0
    last_event_at: int = 0
    received: int = 0
    invalid: int = 0
    kernel_drops: int = 0
    gaps: int = 0
    missed: int = 0
    silences: int = 0
    steady_since: int = 0
    removals: int = 0
    stream_breaks: int = 0
    interval_ms: int = 0
    doubled: int = 0
    refused: int = 0
    refused_aor: str = ""
    refused_why: str = ""
    known_since: int = 0
    left_out: int = 0
    left_out_aor: str = ""
    left_out_of_aor: int = 0
    left_out_why: str = ""
    ended_run: int = 0
    refused_at: int = 0
    lost_at: int = 0
    batch: int = 0

    def is_alive(self, now: int) -> bool:
        return now - self.heartbeat_at <= DEAD_AFTER_MS


def prepare_feed(
    keys: Keys, feed: Feed, seqs: Mapping[str, int], *, new_run: bool = False, token: str = ""
) -> list[Command]:
    """Prepare to write a feed, and that its events are stored up to these seqs; a new run begins its seqs anew.

    With the token of our lease, the commands change nothing once another consumer has taken the node over. Nor do they
    when Redis lost the batch before this one.
    """
    parts = [part for pair in asdict(feed).items() for part in pair]
    own: list[Command] = [("HSET", keys.node(feed.node), *parts)]
    if new_run:
        own.append(("DEL", keys.seqs(feed.node)))
    if seqs:
        own.append(("HSET", keys.seqs(feed.node), *(part for pair in seqs.items() for part in pair)))
    tokens = {WRITER: token} if token else {}
    return [("SADD", keys.nodes(), feed.node), *fence(keys.node(feed.node), tokens, own, batch=max(0, feed.batch - 1))]


def load_feed(store: Store, node: str) -> tuple[Feed, dict[str, int]]:
    """Return the feed of a node, and by event name the seq up to which its events are stored."""
    fields_of_feed, seqs = store.connection.pipeline(
        [("HGETALL", store.keys.node(node)), ("HGETALL", store.keys.seqs(node))]
    )
    feed = Feed(node)
    for field in fields(Feed):
        if (text := fields_of_feed.get(field.name)) is not None:
            setattr(feed, field.name, int(text) if field.type in (int, "int") else text)
    return feed, {event: int(seq) for event, seq in seqs.items()}


def load_feeds(store: Store) -> dict[str, Feed]:
    """Return the feeds of all nodes, by node in alphabetical order."""
    return {node: load_feed(store, node)[0] for node in sorted(load_nodes(store))}


def load_nodes(store: Store) -> set[str]:
    """Return all nodes that were ever heard of and not forgotten since."""
    return set(store.connection.call("SMEMBERS", store.keys.nodes()))


def forget_node(store: Store, node: str) -> list[str]:
    """Delete all that is kept of a node itself; return the keys that there were. Its contacts stay.

    The name goes last: after an interruption the node is still there, to be forgotten again. The lease is left to its
    holder.
    """
    keys = store.keys
    own = [key(node) for key in (keys.node, keys.seqs, keys.reconcile, keys.corrections, keys.breaker)]
    writers = [("HDEL", keys.writers(shard), node, name_field(node)) for shard in range(keys.shards)]
    replies = store.connection.pipeline([*(("DEL", key) for key in own), *writers, ("SREM", keys.nodes(), node)])
    return [key for key, count in zip(own, replies, strict=False) if count]
