"""Store when each node was last reconciled, and what came of it."""

from collections.abc import Mapping

from companion.store.store import Store


def save_reconciliation(store: Store, node: str, fields: Mapping[str, object]) -> None:
    """Store the last comparison of a node."""
    parts = [part for pair in fields.items() for part in pair]
    store.connection.call("HSET", store.keys.reconcile(node), *parts)


def load_reconciliation(store: Store, node: str) -> dict[str, str]:
    """Return the fields of a node's last comparison, none before the first."""
    fields: dict[str, str] = store.connection.call("HGETALL", store.keys.reconcile(node))
    return fields
