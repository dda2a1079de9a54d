"""Keep the SIP messages of recorded devices: a sorted set for each device, with bounds on number, bytes and age.

A member is a packed packet with its time in it, so a packet that is stored twice is there once.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from companion.store.store import Store

Row = tuple[int, bytes]
"""Time (epoch µs) and packed packet."""


class TraceLimits(NamedTuple):
    """Hold what is kept of a device: packets, bytes and ms."""

    packets: int
    bytes: int
    keep_ms: int


def append_packets(store: Store, device: str, rows: Sequence[Row], keep_ms: int) -> None:
    """Store packets of a device; the trace is kept for so long after its last packet."""
    key = store.keys.trace(device)
    parts = [part for at_us, packed in rows for part in (at_us, packed)]
    store.connection.pipeline([("ZADD", key, *parts), ("PEXPIRE", key, keep_ms)])


def trim_trace(store: Store, device: str, limits: TraceLimits, now: int) -> int:
    """Delete what is beyond the limits, the oldest first, and return how many packets that were."""
    key = store.keys.trace(device)
    deleted = int(store.connection.call("ZREMRANGEBYSCORE", key, "-inf", f"({(now - limits.keep_ms) * 1000}"))
    packets: list[bytes] = store.connection.call_for_bytes("ZRANGE", key, 0, -1)
    fitting = sum(1 for size in accumulate(map(len, reversed(packets))) if size <= limits.bytes)
    excess = len(packets) - min(fitting, limits.packets)
    if excess > 0:
        deleted += int(store.connection.call("ZREMRANGEBYRANK", key, 0, excess - 1))
    return deleted


def load_trace(store: Store, device: str, skip: int = 0, count: int = 1 << 30) -> list[bytes]:
    """Return the newest `count` packed packets of a device, oldest first; `skip` leaves out so many of the newest."""
    rows: list[bytes] = store.connection.call_for_bytes("ZRANGE", store.keys.trace(device), -skip - count, -skip - 1)
    return rows


def load_trace_extent(store: Store, device: str) -> tuple[int, int]:
    """Return the number of packets of a device, and the time (epoch µs) of the last one; (0, 0) without any."""
    key = store.keys.trace(device)
    count, last = store.connection.pipeline([("ZCARD", key), ("ZRANGE", key, -1, -1, "WITHSCORES")])
    return int(count), _score(last)


def _score(reply: Sequence[object]) -> int:
    """Read the one score of a reply: RESP3 sends pairs, RESP2 one after the other."""
    if not reply:
        return 0
    pair = reply[0] if isinstance(reply[0], list | tuple) else reply
    return int(float(str(pair[1])))


def delete_trace(store: Store, device: str) -> None:
    """Delete all packets of a device."""
    store.connection.call("DEL", store.keys.trace(device))
