"""Store how the calls of the last hour sound, all together."""

import json
from typing import Final

from companion.store.store import Store
from companion.text import Json

FRESH_MS: Final = 120_000


def save_call_quality(store: Store, quality: Json) -> None:
    """Store the quality of the calls, to be read for FRESH_MS."""
    store.connection.call("SET", store.keys.quality(), json.dumps(quality), "PX", FRESH_MS)


def load_call_quality(store: Store) -> Json | None:
    """Return the quality that a scheduler stored last, None when it has expired."""
    text = store.connection.call("GET", store.keys.quality())
    quality: Json | None = json.loads(text) if text else None
    return quality
