"""Sum up a run of pings. No I/O."""

from companion.opensips.probe import ProbeResult
from companion.text import Json


class PingRun:
    """Count the pings of one run. Durations are milliseconds; a failed ping is neither answered nor lost."""

    def __init__(self) -> None:
        self.sent = self.lost = self.failed = 0
        self._durations: list[float] = []

    def add(self, result: ProbeResult, duration_ms: float) -> None:
        """Count one ping."""
        self.sent += 1
        if result == "answered":
            self._durations.append(duration_ms)
        elif result == "unanswered":
            self.lost += 1
        else:
            self.failed += 1

    @property
    def answered(self) -> int:
        return len(self._durations)

    @property
    def loss_ratio(self) -> float | None:
        """Return the share of lost pings among those that prove something, None without any."""
        proving = self.answered + self.lost
        return self.lost / proving if proving else None

    @property
    def round_trip_ms(self) -> tuple[float, float, float] | None:
        """Return minimum, average and maximum, None where no ping was answered."""
        if not self._durations:
            return None
        average = sum(self._durations) / len(self._durations)
        return round(min(self._durations), 1), round(average, 1), round(max(self._durations), 1)

    def to_json(self) -> Json:
        """Return the summary as the command line prints it."""
        low, average, high = self.round_trip_ms or (None, None, None)
        counts = {"sent": self.sent, "answered": self.answered, "lost": self.lost, "failed": self.failed}
        return {**counts, "loss_ratio": self.loss_ratio, "min_ms": low, "average_ms": average, "max_ms": high}

    def to_entry(self, node: str) -> dict[str, str | int]:
        """Return the fields of its entry on the timeline: whole milliseconds, and nothing that is none."""
        fields: dict[str, str | int] = {"node": node, "count": self.sent, "answered": self.answered, "lost": self.lost}
        if self.round_trip_ms:
            fields |= zip(("min_ms", "average_ms", "max_ms"), map(round, self.round_trip_ms), strict=True)
        return fields
