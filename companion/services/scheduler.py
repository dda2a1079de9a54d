"""Run every periodic job, from one table, with APScheduler."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from companion import log, metrics
from companion.config import Config
from companion.opensips.subscriptions import EVERY_SECONDS as SUBSCRIBE_SECONDS
from companion.opensips.subscriptions import Renewer
from companion.query.call_quality import compute_call_quality
from companion.query.fleet_follower import FleetFollower
from companion.query.history import record_summary
from companion.query.now import load_view
from companion.reconcile.job import EVERY_SECONDS, Reconciler
from companion.recording.job import EVERY_SECONDS as RECORDINGS_SECONDS
from companion.recording.job import RecordingJob
from companion.remediation.sweep import Sweeper
from companion.services.elapsed_trigger import ElapsedTrigger
from companion.services.turn import KEEP_SECONDS, Turn
from companion.steady_clock import SteadyClock
from companion.store.call_quality import save_call_quality
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.devices import forget_vanished_devices
from companion.store.jobs import JobRun, begin_job, forget_other_jobs, save_job_run
from companion.store.networks import save_network_counts
from companion.store.redis_errors import explain, is_redis_error
from companion.store.store import Store
from companion.store.summary import FRESH_MS, save_summary
from companion.times import now_ms

logger = log.get(__name__)

END_SECONDS: Final = 10.0
"""How long a running job may take to finish; a dump of a big OpenSIPS would take minutes."""

SLOWEST_SECONDS: Final = 600.0
"""A run that takes longer counts as one that hangs."""
WATCH_SECONDS: Final = 1.0
LEAST_CONTACTS: Final = 5
"""A network with fewer contacts has no mass event of its own."""

Run = Callable[[], Awaitable[bool | None]]
"""Run a job; False when another companion runs it."""


class Job(NamedTuple):
    """Describe a job. It never overlaps itself; `jitter` (seconds) keeps several companions apart.

    `in_turn`: one companion runs it for all. The other jobs settle that themselves.
    """

    name: str
    every: Callable[[Config], float]
    jitter: float
    make: Callable[[Config, Store], Run]
    in_turn: bool = False


def _make_summary(config: Config, store: Store) -> Run:
    fleet = FleetFollower(store)

    def run_summary() -> None:
        fleet.catch_up(partial(load_view, config, store))
        summary = fleet.summarise()
        save_summary(store, summary)
        record_summary(store, summary)
        save_network_counts(store, fleet.networks(LEAST_CONTACTS), FRESH_MS)

    return lambda: asyncio.to_thread(run_summary)


def _make_call_quality(config: Config, store: Store) -> Run:
    episodes = log.Episodes(logger, quiet_seconds=3600)

    def compute_quality() -> None:
        quality = compute_call_quality(store, load_view(config, store))
        save_call_quality(store, quality)
        if quality["cut"]:
            episodes.warn(
                "too many calls: the quality is that of the newest ones",
                calls=quality["total"],
                looked_at=quality["calls"],
            )

    return lambda: asyncio.to_thread(compute_quality)


def _make_retention(_: Config, store: Store) -> Run:
    def forget_vanished() -> None:
        forget_other_jobs(store, {job.name for job in JOBS})
        forgotten = forget_vanished_devices(store, now_ms())
        if forgotten:
            logger.info("devices without data were removed from the index", count=forgotten)

    return lambda: asyncio.to_thread(forget_vanished)


JOBS: Final = (
    Job("sweep", lambda config: config.remediation.sweep_interval, 0, lambda config, store: Sweeper(config, store).run),
    Job("summary", lambda _: 10, 1, _make_summary, in_turn=True),
    Job("reconcile", lambda _: EVERY_SECONDS, 2, lambda config, store: Reconciler(config, store).run),
    Job("subscriptions", lambda _: SUBSCRIBE_SECONDS, 2, lambda config, _: Renewer(config).run),
    Job("recordings", lambda _: RECORDINGS_SECONDS, 0, lambda config, store: RecordingJob(config, store).run),
    Job("media", lambda _: 30, 5, _make_call_quality, in_turn=True),
    Job("retention", lambda _: 3600, 300, _make_retention, in_turn=True),
)


class Scheduler:
    """Run all jobs until stopped. A job that is running then has END_SECONDS to finish."""

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._episodes = log.Episodes(logger)
        self._stopping = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._turns: list[Turn] = []
        for job in JOBS:
            self._scheduler.add_job(
                self._guard(job.name, job.every(config), self._make_run(job, config, store)),
                ElapsedTrigger(job.every(config), job.jitter),
                id=job.name,
                name=job.name,
                next_run_time=datetime.now(UTC),
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )

    def _make_run(self, job: Job, config: Config, store: Store) -> Run:
        run = job.make(config, store)
        if not job.in_turn:
            return run
        turn = Turn(store, job.name, run)
        self._turns.append(turn)
        return turn.run

    async def run(self) -> None:
        self._scheduler.start()
        aside = [asyncio.create_task(self._watch_clock()), *map(asyncio.create_task, map(self._keep, self._turns))]
        await self._stopping.wait()
        aside[0].cancel()
        self._scheduler.pause()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=END_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        self._scheduler.shutdown(wait=False)
        for task in aside:
            task.cancel()
        await asyncio.wait(aside)
        with contextlib.suppress(*Unreachable, ResponseError):  # then the leases run out
            await asyncio.to_thread(self._release_turns)

    def stop(self) -> None:
        self._stopping.set()

    def _release_turns(self) -> None:
        for turn in self._turns:
            turn.release()

    async def _keep(self, turn: Turn) -> None:
        """Renew a turn, and run its job at once when it was another companion's that is gone."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            with contextlib.suppress(*Unreachable, NotNowError, ResponseError):  # the next time may succeed
                if await asyncio.to_thread(turn.keep):
                    self._scheduler.modify_job(turn.name, next_run_time=datetime.now(UTC))

    async def _watch_clock(self) -> None:
        """Let jobs go on at once when the machine's clock was set back."""
        clock = SteadyClock()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if step_ms := clock.follow():
                logger.warning("the machine's clock was set: jobs go on by elapsed time", by_ms=step_ms)
                self._rearm(datetime.now(UTC))

    def _rearm(self, now: datetime) -> None:
        for job in self._scheduler.get_jobs():
            if job.next_run_time and job.trigger.is_too_late(job.next_run_time, now):
                job.modify(next_run_time=now)

    def _guard(self, name: str, every_seconds: float, run: Run) -> Run:
        failures = metrics.JOB_FAILURES.labels(name)  # made now: a counter that begins at 1 shows no rise
        slowest: float | None = None

        async def run_and_note() -> None:
            nonlocal slowest
            if slowest is None:
                slowest = (await asyncio.to_thread(begin_job, self._store, name, every_seconds, now_ms())).seconds
            started = time.monotonic()
            if await run() is False:
                return
            slowest = min(SLOWEST_SECONDS, max(slowest, time.monotonic() - started))
            await asyncio.to_thread(save_job_run, self._store, name, JobRun(now_ms(), every_seconds, slowest))

        async def guarded() -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - APScheduler runs coroutines as tasks
            self._running.add(task)
            try:
                with metrics.JOB_SECONDS.labels(name).time():
                    await run_and_note()
            except Exception as error:  # noqa: BLE001 - whatever it is, the job runs again
                failures.inc()
                fields: dict[str, Any] = explain(error) if is_redis_error(error) else {"exc_info": error}
                self._episodes.warn(f"the job {name} failed and will run again", **fields)
            finally:
                self._running.discard(task)

        return guarded
