"""Store how many contacts each network has."""

from collections.abc import Mapping, Sequence
from typing import Final

from companion.store.store import Store

KEPT_MS: Final = 600_000
"""How long the counts outlive their freshness: old ones are better than none after a restart."""


def save_network_counts(store: Store, counts: Mapping[str, int], fresh_ms: int) -> None:
    """Store how many contacts each network has, in place of the counts before."""
    key = store.keys.networks()
    flat = [part for pair in counts.items() for part in pair]
    store.connection.call("DEL", key)
    if flat:
        store.connection.pipeline([("HSET", key, *flat), ("PEXPIRE", key, fresh_ms + KEPT_MS)])


def load_network_counts(store: Store, networks: Sequence[str]) -> dict[str, int]:
    """Return how many contacts these networks have, as last counted; small ones were not counted."""
    if not networks:
        return {}
    counts = store.connection.call("HMGET", store.keys.networks(), *networks)
    return {network: int(count) for network, count in zip(networks, counts, strict=True) if count}
