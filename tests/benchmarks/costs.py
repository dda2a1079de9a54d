"""Measure what an event costs each process, while a fleet is quiet and while all of it registers again."""

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from companion.opensips.events import UPDATE
from tests.benchmarks.figure import Figure
from tests.benchmarks.intake import STORED_SECONDS, Intake
from tests.benchmarks.phones import INTERVAL_MS, Fleet
from tests.benchmarks.readers import ANYBODY, FIRST_PAGE, PATIENT_SECONDS, Client, read_age_ms
from tests.benchmarks.services import Processor, Services


class Costs(NamedTuple):
    """Hold what is measured: a fleet, its intake, and the processes by name."""

    fleet: Fleet
    intake: Intake
    companion: Services
    processes: Mapping[str, int]

    def of_quiet(self, seconds: float) -> Iterator[Figure]:
        """Ping each device at the usual interval, for so long."""
        rate = sum(1 for _ in self.fleet.pinged()) * 1000 / INTERVAL_MS
        before = self.intake.publisher.pace(rate)
        processor = Processor(self.processes)
        time.sleep(seconds)
        took = processor.used()
        events = self.intake.publisher.pace(rate) - before
        yield Figure(f"{seconds:g} s of quiet, each device pinged as ever", f"{events:,} pings")
        yield _of_each(took, events)

    def of_storm(self, seconds: float, most: float) -> Iterator[Figure]:
        """Register all devices again within so long, or at `most` a second where that takes longer."""
        phones = sum(1 for _ in self.fleet.registering())
        rate = min(phones / seconds, most)
        before, processor = self.intake.stop(), Processor(self.processes)
        self.intake.publisher.pace(rate, UPDATE)
        time.sleep(phones / rate)
        stopped = time.monotonic()
        after = self.intake.stop()
        behind = time.monotonic() - stopped
        self._wait_for_lists(after.at)
        took, events = processor.used(), after.published - before.published
        missed = f"{after.missed - before.missed:,} missed"
        value = f"{events:,} registrations, stored {behind:.1f} s behind the last, {missed}"
        yield Figure(f"{phones / rate:.0f} s of storm, each device registers again", value)
        yield _of_each(took, events)

    def _wait_for_lists(self, at: int) -> None:
        """Wait until lists are as of a later time than `at` (epoch ms): the API has taken in all events."""
        client = Client(self.companion.port, PATIENT_SECONDS)

        def is_later() -> bool:
            body = client.get(FIRST_PAGE.path(ANYBODY))
            return time.time() * 1000 - read_age_ms(FIRST_PAGE, body) > at

        self.companion.wait_until(is_later, "the list to have all registrations", STORED_SECONDS)
        client.close()


def _of_each(took: Mapping[str, float], events: int) -> Figure:
    """Divide the CPU seconds of each process by the number of events."""
    each_us = {name: seconds / events * 1e6 for name, seconds in took.items()}
    costs = ", ".join(f"{name} {cost:,.0f}" for name, cost in each_us.items())
    return Figure("  CPU time of each event", f"{costs} µs", sum(each_us.values()))
