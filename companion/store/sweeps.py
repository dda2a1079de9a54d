"""Read what the last sweep of remediation left in Redis."""

from companion.store.store import Store


def load_last_sweep(store: Store) -> dict[str, str]:
    """Return the fields of the last sweep, none before the first: at (epoch ms), candidates, acted, troubles."""
    fields: dict[str, str] = store.connection.call("HGETALL", store.keys.sweep())
    return fields
