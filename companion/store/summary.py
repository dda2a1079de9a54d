"""Store the summary of the fleet."""

import json
from typing import Final

from companion.store.store import Store
from companion.text import Json

FRESH_MS: Final = 60_000


def save_summary(store: Store, summary: Json, fresh_ms: int = FRESH_MS) -> None:
    """Store a summary that may be read for so long."""
    store.connection.call("SET", store.keys.summary(), json.dumps(summary), "PX", fresh_ms)


def load_summary(store: Store) -> Json | None:
    """Return the summary that a scheduler stored last, None when it has expired."""
    text = store.connection.call("GET", store.keys.summary())
    summary: Json | None = json.loads(text) if text else None
    return summary


def count_registered(summary: Json) -> dict[str, int]:
    """Return how many contacts of each node had not ended when the summary was made."""
    return {node: counts["total"] - counts["offline"] for node, counts in summary["contacts_by_node"].items()}
