"""What makes a companion not ready, under which name, and for how long."""

from dataclasses import replace

import pytest

from companion.query.readiness import (
    EVICTED_MS,
    REASONS,
    RECENT_MS,
    REPORT_MS,
    Situation,
    find_reasons,
)
from companion.store.consumers import ConsumerReport
from companion.store.jobs import JobRun
from companion.store.nodes import DEAD_AFTER_MS, Feed
from companion.store.server import ServerState, parse_state

NOW = 1_800_000_000_000
WELL = Situation(
    now=NOW,
    feeds={"a": Feed("a", heartbeat_at=NOW - 1000)},
    consumers={"host/1": ConsumerReport(NOW - 1000)},
    jobs={"sweep": JobRun(NOW - 1000, 15), "retention": JobRun(NOW - 3_000_000, 3600)},
    server=ServerState(run_id="r", policy="noeviction"),
)


def with_feed(**fields: int | str) -> Situation:
    return replace(WELL, feeds={"a": Feed("a", **{"heartbeat_at": NOW, **fields})})  # type: ignore[arg-type]


def with_report(at: int = NOW, **fields: object) -> Situation:
    return replace(WELL, consumers={"host/1": ConsumerReport(at, **fields)})  # type: ignore[arg-type]


def without_consumer(**server: int | str | bool) -> Situation:
    return replace(WELL, consumers={}, server=ServerState(**server))  # type: ignore[arg-type]


def with_job(late_ms: int, every: float = 15, seconds: float = 0) -> Situation:
    return replace(WELL, jobs={**WELL.jobs, "sweep": JobRun(NOW - late_ms, every, seconds)})


CASES: dict[str, tuple[Situation, list[str]]] = {
    "all is well": (WELL, []),
    "INFO is denied": (replace(WELL, server=None), []),
    "another version migrated the data": (replace(WELL, format_error="format 3, not 2"), ["store-format"]),
    "evicted a moment ago": (replace(WELL, evicted_at=NOW - 1), ["redis-evicts"]),
    "evicted within ten minutes": (replace(WELL, evicted_at=NOW - EVICTED_MS), ["redis-evicts"]),
    "evicted long ago": (replace(WELL, evicted_at=NOW - EVICTED_MS - 1), []),
    "no consumer ever": (replace(WELL, consumers={}), ["no-consumer"]),
    "a consumer that is late": (with_report(NOW - REPORT_MS), []),
    "a consumer that is gone": (with_report(NOW - REPORT_MS - 1), ["no-consumer"]),
    "a consumer of a fast clock": (with_report(NOW + REPORT_MS), []),
    "a consumer before the clock was set back": (with_report(NOW + 3_600_000), ["no-consumer"]),
    "no consumer: its feed is silent too": (
        replace(without_consumer(), feeds={"a": Feed("a", heartbeat_at=NOW - 60_000)}),
        ["no-consumer"],
    ),
    "Redis is full": (without_consumer(policy="noeviction", max_bytes=10, used_bytes=11), ["redis-refuses"]),
    "Redis evicts and is full": (without_consumer(policy="allkeys-lru", max_bytes=10, used_bytes=11), ["no-consumer"]),
    "Redis is a replica": (without_consumer(is_replica=True), ["redis-refuses"]),
    "Redis can not save": (without_consumer(can_save=False), ["redis-refuses"]),
    "a replica that a consumer can write to": (replace(WELL, server=ServerState(is_replica=True)), []),
    "writes are refused": (with_report(error="NoPermissionError: no evalsha"), ["redis-refuses"]),
    "the bus refuses us": (with_report(refused={"tcp://a:1": "a wrong key"}), ["bus-refused"]),
    "the only bus refuses us": (
        replace(with_report(refused={"tcp://a:1": "a wrong key"}), feeds={}),
        ["bus-refused"],
    ),
    "two buses refuse us": (with_report(refused={"tcp://a:1": "x", "tcp://b:1": "y"}), ["bus-refused"] * 2),
    "no bridge ever": (replace(WELL, feeds={}), ["no-bridge"]),
    "a bridge that is late": (with_feed(heartbeat_at=NOW - DEAD_AFTER_MS), []),
    "a silent bridge": (with_feed(heartbeat_at=NOW - DEAD_AFTER_MS - 1), ["feed-silent"]),
    "events were lost": (with_feed(lost_at=NOW - RECENT_MS), ["events-lost"]),
    "events were lost long ago": (with_feed(lost_at=NOW - RECENT_MS - 1), []),
    "events were refused": (with_feed(refused_at=NOW - 1, refused_why="ahead"), ["events-refused"]),
    "events were refused long ago": (with_feed(refused_at=NOW - RECENT_MS - 1), []),
    "behind": (with_report(behind_at=NOW - 1), ["consumer-behind"]),
    "behind long ago": (with_report(behind_at=NOW - RECENT_MS - 1), []),
    "no job ever": (replace(WELL, jobs={}), ["no-scheduler"]),
    "no job for long": (replace(WELL, jobs={"sweep": JobRun(NOW - 50_000, 15)}), ["no-scheduler"]),
    "a job that is three intervals late": (with_job(45_000), []),
    "a job that is later": (with_job(45_001), ["job-late"]),
    "a job that takes its time": (with_job(60_000, seconds=5), []),
    "a job that hangs": (with_job(60_001, seconds=5), ["job-late"]),
    "a job of a second": (with_job(10_000, every=1), []),
    "a job before the clock was set back": (with_job(-3_600_000), ["job-late"]),
}


@pytest.mark.parametrize("name", CASES)
def test_reasons(name: str) -> None:
    """Each cause has its name, and ends when its time is over."""
    situation, names = CASES[name]
    assert [reason.name for reason in find_reasons(situation)] == names


def test_every_reason_is_tested() -> None:
    """Each reason but the one for a Redis that does not answer comes from these facts."""
    assert {name for _, names in CASES.values() for name in names} == {*REASONS} - {"redis-away"}


def test_texts_name_what_is_concerned() -> None:
    """A text says which node, endpoint, job or error it is about."""
    cases = {
        "the bus refuses us": "no events from tcp://a:1: a wrong key",
        "a silent bridge": "node a",
        "events were refused": "node a were refused within the last minute: ahead",
        "writes are refused": "no evalsha",
        "a job that is later": "sweep",
    }
    for name, part in cases.items():
        assert part in find_reasons(CASES[name][0])[0].text


def test_state_of_a_server_that_tells_little() -> None:
    """What INFO leaves out is nothing to complain of."""
    assert parse_state({}) == ServerState()
    assert not parse_state({"rdb_last_bgsave_status": "err"}).can_save
    assert parse_state({"maxmemory": 5, "used_memory": 6, "maxmemory_policy": "noeviction"}).is_full
