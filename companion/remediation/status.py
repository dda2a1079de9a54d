"""Describe the state of remediation: its mode, its last sweep, what holds it back."""

from typing import Any

from companion.config import Config
from companion.remediation.breaker import CLUSTER
from companion.store.breakers import load_open_breakers
from companion.store.nodes import load_feeds
from companion.store.removals import count_suspects
from companion.store.store import Store
from companion.store.sweeps import load_last_sweep, load_off_at, load_pause_ms
from companion.times import iso, now_ms


def remediation_status(config: Config, store: Store) -> dict[str, Any]:
    """Return what `companion remediation status --json` prints; times are ISO 8601."""
    sweep, feeds, off_at = load_last_sweep(store), load_feeds(store), load_off_at(store)
    groups = [*feeds, *sorted({CLUSTER + feed.cluster for feed in feeds.values()}), *sweep.get("networks", "").split()]
    return {
        "mode": "observe" if off_at else config.remediation.mode,
        "off_since": iso(off_at),
        "paused_seconds": load_pause_ms(store) // 1000,
        "last_sweep_at": iso(int(sweep.get("at", 0))),
        "candidates": int(sweep.get("candidates", 0)),
        "acted": int(sweep.get("acted", 0)),
        "waiting": sweep.get("waiting", ""),
        "troubles": sweep.get("troubles", ""),
        "open_breakers": {group: iso(at) for group, at in load_open_breakers(store, groups).items()},
        "suspects": count_suspects(store, now_ms()),
        "removed_by_opensips": {node: feed.removals for node, feed in feeds.items() if feed.removals},
    }
