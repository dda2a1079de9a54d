"""Periodic jobs of several companions on one store: one of them runs each job for all."""

import asyncio

import pytest

from companion.services import scheduler
from companion.services.scheduler import JOBS, Scheduler
from companion.services.turn import Turn
from companion.store.jobs import load_job_runs
from companion.store.store import Store, open_store
from companion.store.summary import save_summary
from companion.text import Json
from companion.times import now_ms
from tests.integration.conftest import MakeSetup, Setup, eventually

OWN_WAYS = {"sweep", "reconcile", "subscriptions", "recordings"}
"""Jobs that settle by themselves who acts: by locks of their own, or because to do it twice is safe."""


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    return make_setup()


def make_turn(setup: Setup, runs: list[str], name: str) -> Turn:
    async def run() -> None:
        runs.append(name)

    return Turn(setup.store, "job", run)


async def test_one_of_two(setup: Setup) -> None:
    """The first companion keeps a job from run to run; another one takes it when it is given back."""
    runs: list[str] = []
    first, second = make_turn(setup, runs, "first"), make_turn(setup, runs, "second")
    for turn in (first, second, first, second):
        await turn.run()
    assert runs == ["first", "first"]
    await asyncio.to_thread(first.release)
    await second.run()
    await first.run()
    assert runs == ["first", "first", "second"]


async def test_companion_that_is_gone(setup: Setup) -> None:
    """Another companion takes a job over when the lease of the first one runs out."""
    runs: list[str] = []
    second = make_turn(setup, runs, "second")
    await make_turn(setup, runs, "gone").run()
    assert not second.keep()
    setup.store.connection.call("DEL", setup.store.keys.turn("job"))
    assert second.keep()
    assert not second.keep()
    await second.run()
    assert runs == ["gone", "second"]


async def test_a_killed_scheduler(setup: Setup) -> None:
    """When the scheduler that has the turns is killed, another one has them within ten seconds and runs the jobs."""
    connection, keys = setup.store.connection, setup.store.keys
    turns = [keys.turn(job.name) for job in JOBS if job.in_turn]

    def load_tokens() -> set[str]:
        return set(connection.pipeline(("GET", turn) for turn in turns)) - {None}

    with setup.process("scheduler") as first:
        await eventually(lambda: len(load_tokens()) == len(turns))
        with setup.process("scheduler"):
            before = load_tokens()
            first.kill()
            killed_ms = now_ms()
            await eventually(
                lambda: len(load_tokens() - before) == len(turns), 20
            )  # ten, and as much for a busy machine
            await eventually(lambda: load_job_runs(setup.store)["media"].at > killed_ms, 5)


async def test_long_run(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is renewed while the job runs, however long that takes."""
    monkeypatch.setattr(scheduler, "KEEP_SECONDS", 0.05)
    connection, key = setup.store.connection, setup.store.keys.turn("summary")
    ended = asyncio.Event()

    async def run_long() -> None:
        for _ in range(2):
            connection.call("PEXPIRE", key, 60_000)
            await eventually(lambda: connection.call("PTTL", key) <= 7000)
        ended.set()

    jobs = [job._replace(make=lambda *_: run_long) if job.name == "summary" else job for job in JOBS]
    monkeypatch.setattr(scheduler, "JOBS", jobs)
    own = Scheduler(setup.config, setup.store)
    running = asyncio.create_task(own.run())
    async with asyncio.timeout(30):
        await ended.wait()
    own.stop()
    await running


def test_each_job_is_run_once() -> None:
    """No job is run by all companions, unless that is its own affair."""
    assert {job.name for job in JOBS if not job.in_turn} == OWN_WAYS


async def test_two_schedulers(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two schedulers one counts the fleet, and the other goes on when it stops."""
    counted: list[object] = []

    def save_and_count(store: Store, summary: Json) -> None:
        counted.append(store)
        save_summary(store, summary)

    monkeypatch.setattr(scheduler, "save_summary", save_and_count)
    jobs = [job._replace(every=lambda _: 0.5, jitter=0) if job.name == "summary" else job for job in JOBS]
    monkeypatch.setattr(scheduler, "JOBS", jobs)
    stores = [setup.store, open_store(setup.config.redis)]
    both = [Scheduler(setup.config, store) for store in stores]
    running = [asyncio.create_task(one.run()) for one in both]
    await eventually(lambda: len(counted) >= 3)
    holder = counted[0]
    assert set(map(id, counted)) == {id(holder)}
    first = stores.index(holder)  # type: ignore[arg-type]
    both[first].stop()
    await running[first]
    await eventually(lambda: counted[-1] is stores[1 - first])
    both[1 - first].stop()
    await running[1 - first]
    stores[1].close()
