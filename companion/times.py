"""Handle times: UTC epoch milliseconds inside, ISO 8601 at the edge. No I/O."""

import time
from datetime import UTC, datetime
from typing import Final

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
WINDOWS_MS: Final = {"3h": 3 * HOUR_MS, "6h": 6 * HOUR_MS, "12h": 12 * HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS}
"""How far people may look back."""


def now_ms() -> int:
    """Return the present time in epoch ms, by this machine's clock."""
    return int(time.time() * 1000)


def iso(at: int) -> str | None:
    """Write epoch ms as ISO 8601 in UTC; None for 0, which is never."""
    if not at:
        return None
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_ms(at: str) -> int:
    """Read an ISO 8601 time as epoch ms."""
    return round(datetime.fromisoformat(at).timestamp() * 1000)
