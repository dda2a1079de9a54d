"""Store the last census in parts: a reader gets a whole one, or the one before."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from companion.store.store import Store

KEPT_MS: Final = 600_000
"""How long a census outlives its freshness: an old list that shows its age is better than none after a restart."""
READ_MS: Final = 60_000
"""How much longer the parts live than the header, for readers that have just begun."""


class CensusHeader(NamedTuple):
    """Name a stored census by its time (epoch ms), and the number of its parts."""

    at: int
    parts: int


def save_census(store: Store, at: int, parts: Iterable[bytes], fresh_ms: int) -> None:
    """Store the parts of a census, then the header that makes it the last one."""
    call, keys, count = store.connection.call, store.keys, 0
    for part in parts:
        call("SET", keys.census_part(at, count), part, "PX", fresh_ms + KEPT_MS + READ_MS)
        count += 1
    call("SET", keys.census(), json.dumps({"at": at, "parts": count}), "PX", fresh_ms + KEPT_MS)


def load_census_header(store: Store) -> CensusHeader | None:
    """Return the header of the last census, None when there is none."""
    text = store.connection.call("GET", store.keys.census())
    return CensusHeader(**json.loads(text)) if text else None


def load_census_part(store: Store, at: int, part: int) -> bytes | None:
    """Return one part of a census, None when it has expired."""
    packed: bytes | None = store.connection.call_for_bytes("GET", store.keys.census_part(at, part))
    return packed


def save_network_counts(store: Store, counts: Mapping[str, int], fresh_ms: int) -> None:
    """Store how many contacts each network has, in place of the counts before."""
    key = store.keys.networks()
    flat = [part for pair in counts.items() for part in pair]
    store.connection.call("DEL", key)
    if flat:
        store.connection.pipeline([("HSET", key, *flat), ("PEXPIRE", key, fresh_ms + KEPT_MS)])


def load_network_counts(store: Store, networks: Sequence[str]) -> dict[str, int]:
    """Return how many contacts these networks have, as the last census counted; small ones were not counted."""
    if not networks:
        return {}
    counts = store.connection.call("HMGET", store.keys.networks(), *networks)
    return {network: int(count) for network, count in zip(networks, counts, strict=True) if count}
