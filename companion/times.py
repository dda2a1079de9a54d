"""Times: UTC epoch milliseconds inside, ISO 8601 at the edge. No I/O."""

from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]


def iso(at: int) -> str | None:
    """Epoch ms as ISO 8601 in UTC; None for never."""
    if not at:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_ms(at: str) -> int:
    """An ISO 8601 time as graphs count it."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)
