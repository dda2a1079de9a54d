"""Tell whether a feed is to be trusted, and whether the clock was set: remediation waits otherwise. No I/O."""

import time
from collections.abc import Callable
from typing import Final

from companion.config import PingsSection, RemediationSection
from companion.store.nodes import Feed

TRUSTED_INTERVALS: Final = 2
CLOCK_STEP_MS: Final = 1_000
LATE_MS: Final = 10_000
"""How far the times of the bridge may be from our clock."""


def find_trouble(
    feed: Feed | None, settings: RemediationSection, pings: PingsSection, now: int, *, is_idle: bool = False
) -> str:
    """Return why a node's contacts must not be acted on now; "" when nothing speaks against it.

    `is_idle` tells that its OpenSIPS has nothing to say.
    """
    if feed is None or not feed.is_alive(now):
        return "its feed is silent"
    if abs(now - feed.said_at) > LATE_MS or feed.heartbeat_at > now + LATE_MS:
        return "its events come late, or a clock is wrong"
    trusted_ms = TRUSTED_INTERVALS * pings.interval_ms
    if not is_idle and now - feed.last_event_at > trusted_ms:
        return "OpenSIPS says nothing"
    warm_up_ms = round(settings.warm_up * 1000) or trusted_ms
    left_ms = feed.steady_since + warm_up_ms - now
    return f"warming up for {-(-left_ms // 1000)} s more" if left_ms > 0 else ""


def is_idle(feed: Feed, contacts: int) -> bool:
    """Return whether no pings are expected of a node: it has no contacts, or was never seen to ping them."""
    return not contacts or not feed.interval_ms


class ClockWatch:
    """Detect when the machine's clock was set: ages across that moment are wrong for a while."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset_ms = self._offset()
        self._distrust_until = 0.0

    def distrusts(self, warm_up_seconds: float) -> bool:
        """Return whether the clock was set within the warm-up."""
        offset_ms = self._offset()
        if abs(offset_ms - self._offset_ms) > CLOCK_STEP_MS:
            self._distrust_until = self._steady() + warm_up_seconds
        self._offset_ms = offset_ms
        return self._steady() < self._distrust_until

    def _offset(self) -> int:
        return round((self._wall() - self._steady()) * 1000)
