"""How each node's feed is: what its bridge says, what is missing, and up to where its events are stored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from companion.store.connection import Command, Connection
from companion.store.keys import Keys

DEAD_AFTER_MS: Final = 10_000
"""Without a heartbeat for this long (five of them) a feed is down."""
GONE_AFTER_MS: Final = 30_000
"""Without one for this long a node may be forgotten; for less, its bridge may only be restarting."""


@dataclass(slots=True)
class Feed:
    """One node's feed. Times are epoch ms, 0 = never; the rest are counts, those of the bridge since its start.

    `steady_since`: from then on no event is known to be missing. `removals`: contacts that OpenSIPS itself removed
    behind lost pings. `said_at`: when the last heartbeat was said, by the bridge's clock; `heartbeat_at` when it was
    heard, by ours. `transports`: over how many its events came since its bridge was started.
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
    transports: int = 0

    def alive(self, now: int) -> bool:
        return now - self.heartbeat_at <= DEAD_AFTER_MS


def write(keys: Keys, feed: Feed, seqs: Mapping[str, int]) -> list[Command]:
    """Say how a feed is, and that its events up to these seqs are stored."""
    values = [part for pair in asdict(feed).items() for part in pair]
    commands: list[Command] = [("SADD", keys.nodes(), feed.node), ("HSET", keys.node(feed.node), *values)]
    if seqs:
        commands.append(("HSET", keys.seqs(feed.node), *(part for pair in seqs.items() for part in pair)))
    return commands


def forget_seqs(keys: Keys, node: str) -> Command:
    return ("DEL", keys.seqs(node))


def read(connection: Connection, keys: Keys, node: str) -> tuple[Feed, dict[str, int]]:
    """A node's feed and the seq of each event up to which it is stored."""
    said, seqs = connection.pipeline([("HGETALL", keys.node(node)), ("HGETALL", keys.seqs(node))])
    feed = Feed(node)
    for field in fields(Feed):
        if field.name in said:
            setattr(feed, field.name, int(said[field.name]) if field.type in (int, "int") else said[field.name])
    return feed, {event: int(seq) for event, seq in seqs.items()}


def read_all(connection: Connection, keys: Keys) -> dict[str, Feed]:
    return {node: read(connection, keys, node)[0] for node in sorted(names(connection, keys))}


def names(connection: Connection, keys: Keys) -> set[str]:
    """All nodes ever heard of, and not forgotten since."""
    return set(connection.call("SMEMBERS", keys.nodes()))


def forget(connection: Connection, keys: Keys, node: str) -> list[str]:
    """Delete all that is kept of a node itself, and tell which keys there were; its contacts stay.

    Its name goes last: whoever is cut off before finds the node still there, and forgets it again. Its lease is left to
    who holds it.
    """
    own = [of(node) for of in (keys.node, keys.seqs, keys.reconcile, keys.corrections, keys.breaker)]
    *there, _ = connection.pipeline([*(("DEL", key) for key in own), ("SREM", keys.nodes(), node)])
    return [key for key, deleted in zip(own, there, strict=True) if deleted]
