"""Readiness tells the truth and in time: while Redis hangs or evicts, and when events are lost or wait."""

import asyncio
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest
from structlog.testing import capture_logs

from companion.doctor import redis as doctor
from companion.doctor.gather import _stored
from companion.http.monitoring import fleet_metrics, watch
from companion.opensips.events import LATENCY
from companion.services.scheduler import JOBS, Scheduler
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.connection import READER, WRITER
from companion.store.consumers import load_consumers
from companion.store.jobs import load_job_runs
from companion.store.redis_errors import RedisTimeoutError
from companion.store.store import Store, open_store
from tests.integration.conftest import Feeder, MakeSetup, until
from tests.integration.test_failover import Handler, Proxy
from tests.integration.test_metrics import Scrape
from tests.integration.web import client, fill, staff

SECONDS = 30.0
LOAD = 60
"""Requests at the same time: more than there are threads for them."""


PATIENCE = {module: module.PATIENCE_SECONDS for module in (fleet_metrics, watch)}
"""As delivered: other tests have more of it."""


class Answer(NamedTuple):
    status: int
    body: str
    seconds: float


def ask(url: str) -> Answer:
    started = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            status, body = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            status, body = error.code, error.read().decode()
    except OSError as error:
        status, body = 0, str(error)
    return Answer(status, body, time.monotonic() - started)


class Swallow(Handler):
    """Carry bytes, but nothing any more once the proxy is closed: the connections stay."""

    server: "Pipe"

    def handle(self) -> None:
        if self.server.is_open.is_set():
            super().handle()
        else:
            self.server.ends.wait(60)


class Pipe(Proxy):
    """A way to Redis that can be made to swallow what is sent."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.RequestHandlerClass = Swallow
        self.is_open, self.ends = threading.Event(), threading.Event()
        self.is_open.set()


@contextmanager
def frozen(server: EmbeddedRedis) -> Iterator[None]:
    """Redis as it is when its machine or its disk hangs: connections are accepted, and nothing is answered."""
    assert server._process
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server._process.pid, signal.SIGCONT)


async def test_redis_hangs(make_setup: MakeSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis hangs under a load of requests, the API refuses in time, and probes and metrics wait for nobody.

    The log has one line about it. All is well again once Redis answers.
    """
    monkeypatch.setattr("companion.http.monitoring.watch.AWAY_SECONDS", 1.0)
    for module, seconds in PATIENCE.items():
        monkeypatch.setattr(module, "PATIENCE_SECONDS", seconds)
    at = f"127.0.0.1:{find_free_port()}"
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as server, capture_logs() as logs:
        setup = make_setup(server=server, api={"listen": at, "dashboard": False})
        await asyncio.to_thread(fill, setup)
        async with setup.running("api"):
            await eventually_answers(f"http://{at}/api/v1/devices", 200)
            with frozen(server):
                with ThreadPoolExecutor(LOAD) as threads:
                    load = [
                        asyncio.wrap_future(threads.submit(ask, f"http://{at}/api/v1/devices")) for _ in range(LOAD)
                    ]
                    probes = [await asyncio.to_thread(ask, f"http://{at}/readyz") for _ in range(3)]
                    scrapes = [await asyncio.to_thread(ask, f"http://{at}/metrics") for _ in range(3)]
                    answers = await asyncio.gather(*load)
                await becomes(f"http://{at}", ["redis-away"])
                reasons = json.loads((await asyncio.to_thread(ask, f"http://{at}/readyz")).body)["reasons"]
            await eventually_answers(f"http://{at}/api/v1/devices", 200)
    assert {(answer.status, json.loads(answer.body)["title"]) for answer in answers} == {(503, "Redis is away")}
    assert median(answer.seconds for answer in answers) < 3
    assert min(answer.seconds for answer in probes) < 1
    assert min(answer.seconds for answer in scrapes) < 1
    assert "Redis or the network hangs" in reasons[0]
    away = [line for line in logs if "Redis" in line["event"]]
    assert [line["event"] for line in away] == ["Redis does not answer readers"]
    assert not [line for line in logs if "exc_info" in line]


async def eventually_answers(url: str, status: int) -> None:
    async with asyncio.timeout(SECONDS):
        while (await asyncio.to_thread(ask, url)).status != status:  # noqa: ASYNC110 - not an event
            await asyncio.sleep(0.1)


def test_patience_of_readers(make_setup: MakeSetup, tmp_path: Path) -> None:
    """Behind a way that swallows everything a reader is refused in time, and the next ones at once; a writer waits."""
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as server, Pipe(server.port) as pipe:
        threading.Thread(target=pipe.serve_forever, daemon=True).start()
        setup = make_setup(server=pipe)
        reader = open_store(setup.config.redis, READER._replace(reply_seconds=0.5, pause_seconds=60))
        reader.connection.redis.connection_pool.disconnect()
        pipe.is_open.clear()
        seconds = [_refusal_seconds(reader) for _ in range(3)]
        pipe.ends.set()
        pipe.shutdown()
        reader.close()
    assert seconds[0] >= 0.5
    assert max(seconds[1:]) < 0.5
    assert READER.connect_seconds + READER.reply_seconds < 3 < WRITER.reply_seconds


def _refusal_seconds(store: Store) -> float:
    started = time.monotonic()
    with pytest.raises(RedisTimeoutError):
        store.connection.call("PING")
    return time.monotonic() - started


def test_redis_evicts(make_setup: MakeSetup, tmp_path: Path) -> None:
    """A full Redis that evicts is a reason, a metric, a failure of the doctor, and one line with the remedy."""
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as server, capture_logs() as logs:
        setup = make_setup(server=server, api={"dashboard": False})
        fill(setup)
        staff(setup)
        call = setup.store.connection.call
        with client(setup) as api:
            assert api.get("/readyz").json()["status"] == "ready"
            call("CONFIG SET", "maxmemory-policy", "allkeys-lru")
            call("CONFIG SET", "maxmemory", int(call("INFO", "memory")["used_memory"]) + 1_000_000)
            until(
                lambda: (
                    call("SET", f"filler:{time.monotonic_ns()}", "x" * 50_000) and call("INFO", "stats")["evicted_keys"]
                )
            )
            answer = api.get("/readyz")
            scrape = Scrape(api.get("/metrics").text)
        findings = doctor.check(_stored(setup.config)).findings
    assert (answer.status_code, answer.json()["names"][0]) == (503, "redis-evicts")
    assert "allkeys-lru" in answer.json()["reasons"][0]
    assert scrape.sure("not_ready", reason="redis-evicts") == 1
    assert scrape.sure("redis_evicted_keys_total") > 0
    (line,) = [line for line in logs if line["event"].startswith("Redis evicts")]
    assert "noeviction" in line["remedy"]
    assert [finding.level for finding in findings if finding.name == "memory"] == ["failure"]


async def load_names(url: str) -> list[str] | None:
    """The names of the reasons; None while nobody answers."""
    answer = await asyncio.to_thread(ask, f"{url}/readyz")
    return json.loads(answer.body).get("names", []) if answer.status else None


async def becomes(url: str, expected: list[str]) -> None:
    async with asyncio.timeout(SECONDS):
        while await load_names(url) != expected:  # noqa: ASYNC110 - not an event
            await asyncio.sleep(0.1)


async def test_events_that_are_lost_and_that_wait(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole companion is ready; it is not while events are lost, or wait too long, each for its time."""
    monkeypatch.setattr("companion.consumer.consumer.REPORT_SECONDS", 0.1)
    monkeypatch.setattr("companion.consumer.consumer.BEHIND_SECONDS", 0.5)
    monkeypatch.setattr("companion.query.readiness.RECENT_MS", 1000)
    at = f"127.0.0.1:{find_free_port()}"
    setup = make_setup(api={"listen": at, "dashboard": False}, bridge={"datagram": "", "stream": ""})
    async with setup.running("consumer", "scheduler", "api"), Feeder.silent(setup) as feeder:
        beating = asyncio.create_task(beat(feeder))
        await becomes(f"http://{at}", [])
        assert set(load_job_runs(setup.store)) == {job.name for job in JOBS}
        feeder.ping()
        feeder.publisher.last_seqs[LATENCY] += 5
        feeder.ping()
        await becomes(f"http://{at}", ["events-lost"])
        await becomes(f"http://{at}", [])
        setup.store.connection.call("CLIENT PAUSE", 1000, "WRITE")
        feeder.ping()
        await becomes(f"http://{at}", ["consumer-behind"])
        await becomes(f"http://{at}", [])
        beating.cancel()
    assert load_consumers(setup.store) == {}


async def beat(feeder: Feeder) -> None:
    while True:
        feeder.beat()
        await asyncio.sleep(0.2)


async def test_a_job_that_fails_because_of_redis(make_setup: MakeSetup) -> None:
    """A job that Redis fails again and again is one line with its remedy, no traceback, and is no run."""
    setup = make_setup()

    async def fail() -> None:
        await asyncio.to_thread(setup.store.connection.call, "NOSUCHCOMMAND")

    run = Scheduler(setup.config, setup.store)._guard("sweep", 15, fail)
    with capture_logs() as logs:
        for _ in range(3):
            await run()
    (line,) = logs
    assert line["event"] == "the job sweep failed and will run again"
    assert line["remedy"]
    assert "exc_info" not in line
    assert load_job_runs(setup.store)["sweep"].seconds == 0
