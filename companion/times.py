"""Read and write times: epoch milliseconds inside, ISO 8601 at the edge, durations for people. No I/O."""

import re
import time
from datetime import UTC, datetime
from typing import Final

from companion.errors import UsageError

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
WINDOWS_MS: Final = {"3h": 3 * HOUR_MS, "6h": 6 * HOUR_MS, "12h": 12 * HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS}
"""How far people may look back."""

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_TYPED: Final = re.compile(r"([0-9]{1,9})([smhd])")
_TYPED_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


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


def format_duration(ms: int) -> str:
    """Write a duration for people, in two units at most.

    >>> format_duration(99), format_duration(1_400), format_duration(60_000), format_duration(3_700_000)
    ('99 ms', '1.4 s', '1 min', '1 h 1 min')
    """
    if ms < SECOND_MS:
        return f"{ms} ms"
    if ms < MINUTE_MS:
        return f"{ms / SECOND_MS:.1f}".removesuffix(".0") + " s"
    return format_seconds(ms // SECOND_MS)


def format_seconds(seconds: int) -> str:
    """Write a duration in whole seconds for people, in two units at most.

    >>> format_seconds(0), format_seconds(59), format_seconds(200), format_seconds(90_000)
    ('0 s', '59 s', '3 min 20 s', '1 d 1 h')
    """
    first = next((place for place, (size, _) in enumerate(_UNITS) if seconds >= size), len(_UNITS) - 1)
    parts: list[str] = []
    for size, unit in _UNITS[first : first + 2]:
        count, seconds = divmod(seconds, size)
        if count or not parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts)


def cut_to_unit(seconds: int) -> int:
    """Cut a duration to whole days, hours or minutes, so that it is written in one unit.

    >>> cut_to_unit(59), cut_to_unit(200), cut_to_unit(90_000), cut_to_unit(-200)
    (59, 180, 86400, -180)
    """
    size = next((size for size, _ in _UNITS if abs(seconds) >= size), 1)
    return int(seconds / size) * size


def parse_duration(text: str) -> int:
    """Read a duration that a person types, such as `90s`, `30m`, `2h` or `1d`, in seconds.

    Raises UsageError for anything else, and for a duration of 0.

    >>> parse_duration("90s"), parse_duration("1d")
    (90, 86400)
    """
    match = _TYPED.fullmatch(text)
    if not match or int(match[1]) == 0:
        raise UsageError(f"{text!r} is not a duration: write for example 90s, 30m, 2h or 1d")
    return int(match[1]) * _TYPED_SECONDS[match[2]]
