"""How remediation is: its mode, its last sweep, what holds it back."""

from typing import Any

from companion.config import Config
from companion.remediation import safety
from companion.store.nodes import load_feeds
from companion.store.store import Store
from companion.times import iso


def remediation_status(config: Config, store: Store) -> dict[str, Any]:
    """What `companion remediation status --json` prints; times are ISO 8601."""
    call, keys = store.connection.call, store.keys
    sweep = call("HGETALL", keys.sweep())
    feeds = load_feeds(store)
    return {
        "mode": config.remediation.mode,
        "paused_seconds": safety.paused_ms(store) // 1000,
        "last_sweep_at": iso(int(sweep.get("at", 0))),
        "candidates": int(sweep.get("candidates", 0)),
        "acted": int(sweep.get("acted", 0)),
        "troubles": sweep.get("troubles", ""),
        "open_breakers": {node: iso(at) for node, at in safety.open_breakers(store, list(feeds)).items()},
        "observed_only": {node: why for node in feeds if (why := safety.observed_only(config, feeds, node))},
        "removed_by_opensips": {node: feed.removals for node, feed in feeds.items() if feed.removals},
    }
