"""Watch the services during a run: their memory, their ends, when each job ran, and what is stored by now."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import httpx2
from redis.exceptions import RedisError

from companion.bus.envelope import HEARTBEAT
from companion.errors import CompanionError
from companion.services.scheduler import JOBS
from companion.store.nodes import load_feed
from tests.soak.faults import Faults
from tests.soak.service import Service
from tests.soak.world import LOADS, World

WATCH_SECONDS: Final = 1.0
PROGRESS_SECONDS: Final = 5.0


class Gap(NamedTuple):
    """Hold a time of the monotonic clock at which a job of a service ran, and the next one."""

    service: str
    job: str
    since: float
    until: float

    @property
    def seconds(self) -> float:
        return self.until - self.since


@dataclass
class _JobCount:
    pid: int
    count: float
    at: float


class JobWatch:
    """Find the gaps between the runs of each job, in each life of each scheduler."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self._counts: dict[tuple[str, str], _JobCount] = {}

    def note(self, service: Service, metrics: dict[str, float]) -> None:
        """Take in what a scheduler counts now; nothing when it did not answer."""
        now = time.monotonic()
        for job in (job.name for job in JOBS) if metrics else ():
            count = metrics.get(f'job_seconds_count{{job_name="{job}"}}', 0.0)
            last = self._counts.get((service.name, job))
            if last is None or last.pid != service.pid or count > last.count:
                if last and last.pid == service.pid:
                    self.gaps.append(Gap(service.name, job, last.at, now))
                self._counts[service.name, job] = _JobCount(service.pid, count, now)

    def finish(self) -> None:
        """End the last gap of each job."""
        now = time.monotonic()
        self.gaps += [Gap(service, job, count.at, now) for (service, job), count in self._counts.items()]

    def never_ran(self) -> list[str]:
        """Return the jobs that ran in no scheduler."""
        ran = {job for (_, job), count in self._counts.items() if count.count} | {gap.job for gap in self.gaps}
        return [job.name for job in JOBS if job.name not in ran]


class Watch:
    """Look at everything once a second, and print how it stands every few seconds."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.jobs = JobWatch()
        self.counters: defaultdict[tuple[str, int], dict[str, float]] = defaultdict(dict)
        """The last counters of each life of each service."""
        self.began = time.monotonic()
        self.config = world.config
        self._world = world
        self._faults = faults

    async def run(self) -> None:
        async with httpx2.AsyncClient(trust_env=False) as client, asyncio.TaskGroup() as tasks:
            for service in self._world.services.values():
                tasks.create_task(self._follow(service, client))
            tasks.create_task(self._print_progress())

    async def _follow(self, service: Service, client: httpx2.AsyncClient) -> None:
        while True:
            service.observe()
            pid, metrics = service.pid, await service.read_metrics(client)
            if pid and pid == service.pid and metrics:
                self.counters[service.name, pid] = metrics
                if service.kind == "scheduler":
                    self.jobs.note(service, metrics)
            await asyncio.sleep(WATCH_SECONDS)

    async def _print_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            print(await self._describe(), flush=True)

    async def _describe(self) -> str:
        world, minutes = self._world, divmod(round(time.monotonic() - self.began), 60)
        published = sum(world.tap.count_published(node).total() for node in LOADS)
        behind, missed = await asyncio.to_thread(self._read_progress)
        return (
            f"{minutes[0]:>2}:{minutes[1]:02} {self._faults.current or '-':<30} published {published:,}"
            f" behind {behind} missed {missed} removed {world.phones.removed} wrong {len(world.phones.wrong)}"
            f" tracebacks {count_tracebacks(world)} MB {_describe_memory(world)}"
        )

    def _read_progress(self) -> tuple[str, str]:
        """Return how many events of the loads' present runs are not stored yet, and how many were missed."""
        behind = missed = 0
        try:
            for node in LOADS:
                feed, seqs = load_feed(self._world.store, node)
                run, published = self._world.tap.last_run(node)
                stored = seqs if feed.run == run else {}
                behind += sum(seq - stored.get(event, -1) for event, seq in published.items() if event != HEARTBEAT)
                missed += feed.missed
        except (RedisError, OSError, CompanionError):
            return "?", "?"
        return f"{behind:,}", f"{missed:,}"


def _describe_memory(world: World) -> str:
    """Return the MB of each service, by kind: "bridge 81 81 82 consumer 98 109"."""
    sizes: defaultdict[str, list[str]] = defaultdict(list)
    for service in world.services.values():
        sizes[service.kind].append(str(service.rss[-1].size // 1_000_000) if service.rss else "-")
    return " ".join(f"{kind} {' '.join(own)}" for kind, own in sizes.items())


def count_tracebacks(world: World) -> int:
    return sum(_read(service.log_file).count("Traceback (most recent") for service in world.services.values())


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""
