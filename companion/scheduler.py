"""Every periodic job, in one table, run by APScheduler."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from companion import log, metrics
from companion.config import Config
from companion.store import summary
from companion.store.store import Store
from companion.view import view

logger = log.get(__name__)


class Job(NamedTuple):
    """What runs how often. A job never overlaps itself; `jitter` keeps several companions apart."""

    name: str
    seconds: float
    jitter: float
    run: Callable[[Config, Store], None]


def _summary(config: Config, store: Store) -> None:
    summary.save(store, summary.compute(store, view(config, store)))


def _retention(config: Config, store: Store) -> None:  # noqa: ARG001 - every job is called alike
    forgotten = store.forget_vanished(int(time.time() * 1000))
    if forgotten:
        logger.info("devices of which nothing is left were taken off the index", count=forgotten)


JOBS: Final = (
    Job("summary", 15, 2, _summary),
    Job("retention", 3600, 300, _retention),
)


class Scheduler:
    """Runs all jobs, each in a thread, until stopped; a job that is running may finish."""

    def __init__(self, config: Config, store: Store) -> None:
        self._stopping = asyncio.Event()
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        for job in JOBS:
            self._scheduler.add_job(
                _guarded(job, config, store),
                "interval",
                id=job.name,
                seconds=job.seconds,
                jitter=job.jitter,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )

    async def run(self) -> None:
        self._scheduler.start()
        await self._stopping.wait()
        self._scheduler.shutdown()

    def stop(self) -> None:
        self._stopping.set()


def _guarded(job: Job, config: Config, store: Store) -> Callable[[], None]:
    def run() -> None:
        try:
            with metrics.JOB_SECONDS.labels(job.name).time():
                job.run(config, store)
        except Exception:
            metrics.JOB_FAILURES.labels(job.name).inc()
            logger.exception("a job failed and will run again", job=job.name)

    return run
