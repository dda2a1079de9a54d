"""Let jobs run by elapsed time, whatever happens to the machine's clock. No I/O."""

import random
from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger


class ElapsedTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Run a job `seconds` after its last run, give or take `jitter` seconds.

    APScheduler counts by the machine's clock, and makes up for every run that was missed. After a step of years that
    takes minutes, and after a step back it waits. Here each run is counted from now, and `is_too_late` tells when a job
    waits longer than it may.
    """

    def __init__(self, seconds: float, jitter: float = 0) -> None:
        self._seconds = seconds
        self._jitter = jitter

    def __str__(self) -> str:
        return f"every {self._seconds:g} s"

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the next time: now for the first run."""
        if previous_fire_time is None:
            return now
        jitter = random.uniform(-self._jitter, self._jitter)  # noqa: S311 - it keeps companions apart, no secret
        return now + timedelta(seconds=max(0.0, self._seconds + jitter))

    def is_too_late(self, next_run_time: datetime, now: datetime) -> bool:
        """Return whether a job would wait for longer than its interval, because the clock was set back."""
        return next_run_time - now > timedelta(seconds=self._seconds + self._jitter)
