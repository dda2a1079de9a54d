"""Measure what a large fleet costs, and how long readers wait while its events come in (`make bench-large`)."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote

from rich.console import Console
from rich.progress import track

from companion import config
from companion.store.store import Store, open_store
from companion.usrloc.contact import STATUSES
from tests.benchmarks import register
from tests.benchmarks.costs import Costs
from tests.benchmarks.figure import Figure
from tests.benchmarks.history import CHUNK, fill
from tests.benchmarks.intake import Intake, Quiet
from tests.benchmarks.phones import INTERVAL_MS, Fleet
from tests.benchmarks.pinger import Pinger, pinger
from tests.benchmarks.processes import bench_redis
from tests.benchmarks.readers import (
    ANYBODY,
    API,
    FIRST_PAGE,
    PATIENT_SECONDS,
    SUMMARY,
    Answers,
    Client,
    Readers,
    Request,
    device_request,
    figure,
    fixed_request,
    is_answered,
    read_alone,
)
from tests.benchmarks.services import Processor, Services, open_services, peak_mb, resident_bytes

WEEKLONG: Final = 1000
REGISTERED_SECONDS: Final = 86_400
WORKERS: Final = 2
PATIENT_LIST_SECONDS: Final = 600.0
WARM_UP: Final = 16
"""Connections after which each process was asked for a list, most likely."""
NO_SERVICES: Final = ("redis", "publisher", "readers")
BUSY_CORES: Final = 0.7
"""Above this the readers, threads of one process, may wait for each other and not for the API."""

DEVICE: Final = "device, 24 hours"


@dataclass(frozen=True)
class Plan:
    """Hold the size: devices, events a second and readers during the reading, their think time and its length in s.

    `hours`: how many hours of pings most devices have; to write a day of a million devices takes most of an hour.
    """

    devices: int = 100_000
    rate: float = 5000
    readers: int = 50
    think: float = 2.0
    seconds: float = 60.0
    hours: int = 24


def large(plan: Plan, console: Console) -> Iterator[Figure]:
    """Fill a Redis with a fleet, start a companion on it, and read, alone and together, while the fleet is pinged."""
    fleet = Fleet(plan.devices, min(WEEKLONG, plan.devices), int(time.time()) + REGISTERED_SECONDS, plan.hours)
    with bench_redis() as (folder, redis, _), ExitStack() as stack:
        store = open_store(config.RedisSection(url=redis.url))
        stack.callback(store.close)
        yield from _filled(store, fleet, console)
        companion = stack.enter_context(open_services(folder, redis.url))
        companion.start("consumer")
        publisher = stack.enter_context(pinger(companion.endpoint, fleet))
        yield from Bench(plan, fleet, store, companion, publisher).figures()
    yield register.cold_start(plan.devices)


def _filled(store: Store, fleet: Fleet, console: Console) -> Iterator[Figure]:
    empty, started, steps = _used(store), time.monotonic(), -(-fleet.devices // CHUNK)
    terminal = console.is_terminal
    for _ in track(
        fill(store, fleet), "writing the fleet", steps, console=console, transient=True, disable=not terminal
    ):
        pass
    seconds = time.monotonic() - started
    yield Figure(f"{fleet.devices:,} devices, {fleet.all_samples:,} samples, written in", f"{seconds:,.0f} s")
    used = _used(store) - empty
    yield Figure(
        "memory of Redis a device, all told", f"{used / fleet.devices:,.0f} bytes, {used / 1e6:,.0f} MB in all"
    )


class Bench:
    """Measure with a stored fleet, a running consumer and a publisher that waits for its pace."""

    def __init__(self, plan: Plan, fleet: Fleet, store: Store, companion: Services, publisher: Pinger) -> None:
        self._plan = plan
        self._fleet = fleet
        self._store = store
        self._companion = companion
        self._publisher = publisher
        self._intake = Intake(store, companion, publisher)
        self._empty_bytes = resident_bytes(companion.services["consumer"].pid)
        self._phones = list(fleet.pinged())
        self._own_pace = len(self._phones) * 1000 / INTERVAL_MS
        self._alone_p95: dict[str, float] = {}

    def figures(self) -> Iterator[Figure]:
        yield self._first_round()
        self._publisher.pace(self._own_pace)
        self._companion.start("scheduler", "api")
        self._companion.wait_until(lambda: is_answered(self._companion.port, "/readyz"), "the API to be ready")
        yield from self._alone()
        yield from self._costs()
        name = f"{self._plan.readers} readers"
        yield from self._together(f"{name}, {self._plan.think:g} s of thought each", self._plan.think)
        yield from self._together(f"{name}, flat out", 0)
        yield self._memory()
        self._restart_api(WORKERS)
        yield from self._together(f"{name}, flat out, API in {WORKERS} processes", 0)
        yield self._memory()

    def _restart_api(self, workers: int) -> None:
        """Start the API anew in so many processes, and wait until each has read the fleet."""
        self._companion.stop("api")
        self._companion.start("api", COMPANION_API__WORKERS=str(workers))
        self._companion.wait_until(lambda: is_answered(self._companion.port, "/readyz"), "the API to be ready")
        for _ in range(WARM_UP):
            self._await_list()

    def _await_list(self) -> None:
        """Wait until the API has read the fleet: before, it answers that it reads it."""
        path, port = FIRST_PAGE.path(ANYBODY), self._companion.port
        self._companion.wait_until(lambda: is_answered(port, path), "the list of devices", PATIENT_LIST_SECONDS)

    def _first_round(self) -> Figure:
        """Measure the first pings after a start, when each contact must be read from Redis."""
        self._publisher.pace(self._plan.rate)
        time.sleep(len(self._phones) / self._plan.rate)
        stopped = time.monotonic()
        published = self._intake.stop().published
        behind = time.monotonic() - stopped
        name = f"first {published:,} pings of a consumer started anew"
        return Figure(name, f"stored {behind:.1f} s behind the last, {self._plan.rate:,.0f} came a second")

    # One reader

    def _alone(self) -> Iterator[Figure]:
        yield Figure("one reader, while each device is pinged as ever", f"{self._own_pace:,.0f} events/s")
        client, processor = Client(self._companion.port, PATIENT_SECONDS), Processor(self._processes())
        started = time.monotonic()
        self._await_list()
        page = json.loads(client.get(FIRST_PAGE.path(ANYBODY)))
        yield Figure("  first page of devices, for the first time", f"{(time.monotonic() - started) * 1000:,.0f} ms")
        for request in self._requests(page["next"] or ""):
            answers = read_alone(client, request)
            percentiles = figure(f"  {request.name}", answers.times[request.name])
            self._alone_p95[request.name] = percentiles.number
            yield replace(percentiles, value=f"{percentiles.value}{_failed(answers)}")
        yield _shared(processor.shares(time.monotonic() - started))
        devices = json.loads(client.get(SUMMARY.path(ANYBODY)))["devices"]
        yield Figure("  the fleet, as the summary has it", ", ".join(f"{devices[name]:,} {name}" for name in STATUSES))
        client.close()

    def _requests(self, cursor: str) -> Iterator[Request]:
        """Yield the requests of people; `cursor` leads to the second page."""
        devices, weeklong = self._fleet.devices, self._fleet.weeklong
        yield Request("no question at all (/healthz)", lambda _: "/healthz")
        yield FIRST_PAGE
        yield fixed_request("  its second page", f"/devices?cursor={quote(cursor)}")
        yield fixed_request("  status=stale", "/devices?status=stale")
        yield Request("  search=user…", lambda random: f"{API}/devices?search=user{random.randrange(devices)}")
        yield fixed_request("  user_agent=yealink", "/devices?user_agent=yealink")
        yield fixed_request("  the slowest first", "/devices?sort=latency&descending=true")
        yield device_request(DEVICE, devices)
        yield device_request("device, 7 days", weeklong, "?window=7d")
        yield device_request("its latency, 7 days", weeklong, "/latency?window=7d")
        yield device_request("its timeline, 7 days", weeklong, "/timeline?window=7d")
        yield SUMMARY

    # Many readers

    def _together(self, name: str, think: float) -> Iterator[Figure]:
        readers = Readers(self._plan.readers, self._mix(), think)
        before = self._intake.stop()
        processor = Processor(self._processes())
        self._publisher.pace(self._plan.rate)
        delays_ms: list[int] = []
        answers = readers.read(
            self._companion.port, self._plan.seconds, lambda: delays_ms.append(self._intake.measure_delay_ms())
        )
        shares = processor.shares(answers.seconds)
        after = self._intake.stop()
        yield Figure(name, f"{answers.rate:,.1f} requests/s{_failed(answers)}", answers.rate)
        yield from self._compared(answers)
        yield self._ingested(before, after, answers.seconds)
        yield Figure("  and at the worst stored", f"{max(delays_ms):,} ms after their time")
        yield _oldest(answers)
        yield _shared(shares)

    def _mix(self) -> list[tuple[Request, float]]:
        return [(device_request(DEVICE, self._fleet.devices), 0.6), (FIRST_PAGE, 0.2), (SUMMARY, 0.2)]

    def _compared(self, answers: Answers) -> Iterator[Figure]:
        """Compare with one reader alone, during which only the fleet's own pings came in."""
        for kind in (FIRST_PAGE.name, DEVICE, SUMMARY.name):
            percentiles, alone_p95 = figure(f"  {kind}", answers.times[kind]), self._alone_p95[kind]
            slower = f"; p95 {percentiles.number / alone_p95:.1f} × alone" if alone_p95 else ""
            yield replace(percentiles, value=percentiles.value + slower)

    def _ingested(self, before: Quiet, after: Quiet, seconds: float) -> Figure:
        published, missed = after.published - before.published, after.missed - before.missed
        stored = self._intake.count_samples((one.device for one in self._phones), before.at)
        counts = f"{published:,} published, {stored:,} stored, {missed:,} missed"
        lost = published - stored - missed
        return Figure(f"  events meanwhile, {published / seconds:,.0f} a second", f"{counts}, {lost:,} refused or lost")

    # What it costs

    def _processes(self) -> dict[str, int]:
        redis = int(self._store.connection.call("INFO", "server")["process_id"])
        return {**self._companion.pids(), "redis": redis, "publisher": self._publisher.pid, "readers": os.getpid()}

    def _costs(self) -> Iterator[Figure]:
        """Measure what an event costs each process, and a device the consumer."""
        processes = {name: pid for name, pid in self._processes().items() if name not in ("publisher", "readers")}
        costs = Costs(self._fleet, self._intake, self._companion, processes)
        yield from costs.of_quiet(self._plan.seconds)
        yield from costs.of_storm(self._plan.seconds, self._plan.rate)
        used = resident_bytes(processes["consumer"])
        device_bytes = (used - self._empty_bytes) / self._fleet.devices
        yield Figure("memory of the consumer a device", f"{device_bytes:,.0f} bytes, {used / 1e6:,.0f} MB in all")

    def _memory(self) -> Figure:
        own = {name: pid for name, pid in self._processes().items() if name not in NO_SERVICES}
        services = ((name, peak_mb(pid)) for name, pid in own.items())
        peaks = [f"{name} {used:,.0f}" for name, used in (*services, ("redis", _used(self._store) / 1e6))]
        return Figure("memory in the end, of services at the most", f"{', '.join(peaks)} MB")


def _shared(shares: Mapping[str, float]) -> Figure:
    cores = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    name = f"  cores: {sum(shares.values()):.1f} of {os.cpu_count()} busy"
    return Figure(name, cores + ("; the readers wait for themselves" if shares["readers"] > BUSY_CORES else ""))


def _oldest(answers: Answers) -> Figure:
    ages = ", ".join(f"{name} {max(ages) / 1000:.1f} s" for name, ages in sorted(answers.ages.items()))
    return Figure("  and at the most old, when they came", ages or "no answer")


def _failed(answers: Answers) -> str:
    return f", {answers.failed:,} failed or came too late" if answers.failed else ""


def _used(store: Store) -> int:
    return int(store.connection.call("INFO", "memory")["used_memory"])
