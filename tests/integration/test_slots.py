"""Slots: nothing that the companion sends has keys of two slots, seen on one server with 64 shards.

Stories of other tests run here once more, on a server that is watch.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from companion.simulator.redis import EmbeddedRedis
from companion.store.keys import Keys
from companion.store.nodes import forget_node
from companion.text import Json
from tests.integration import (
    test_fleet,
    test_history,
    test_intake,
    test_reconcile,
    test_recordings,
    test_remediation,
    test_report_budgets,
    test_series,
    test_traces,
)
from tests.integration.conftest import Kind, MakeSetup, Setup
from tests.integration.redis_monitor import DOCUMENT, PREFIX, KeyFinder, Monitor, SlotRules, find_faults, list_keys
from tests.integration.web import READ_SECRET, client, fill, make_web

SHARDS = 64
Story = Callable[[MakeSetup], Any]


def answers(make_setup: MakeSetup) -> None:
    """Ask the API everything that needs no more than a device."""
    setup = make_web(make_setup)
    fill(setup)
    with client(setup, secret=READ_SECRET) as api:
        paths = [path for path, methods in api.get("/api/v1/openapi.json").json()["paths"].items() if "get" in methods]
        urls = [
            "/api/v1" + path.replace("{device}", "ann").replace("{id}", "ann") for path in paths if "events" not in path
        ]
        statuses = [api.get(url).status_code for url in urls if "{" not in url]
    assert statuses.count(200) > len(statuses) / 2


def forgotten_node(make_setup: MakeSetup) -> None:
    setup = make_setup()
    fill(setup)
    assert forget_node(setup.store, "opensips")


STORIES: dict[str, Story] = {
    "remediation": lambda make: test_remediation.live(make(), "enforce"),
    "corrections": test_reconcile.test_corrections_wait_for_the_recorder,
    "recordings": test_recordings.test_life_of_a_recording,
    "traces": lambda make: test_traces.test_recorded_device(make, "udp"),
    "reports": lambda make: test_intake.test_sent_again(make, "module"),
    "budgets": test_report_budgets.test_invented_calls,
    "history": test_history.test_a_minute_is_noted_once,
    "forgotten devices": test_fleet.test_what_the_store_forgets,
    "events": lambda make: test_series.test_every_key_has_its_end(make(), together=True),
    "streams": lambda make: test_series.test_news_are_what_is_later(make(redis={"series": "streams"})),
    "answers": answers,
    "a node is forgotten": forgotten_node,
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("watched"), persistent=False) as redis:
        yield redis


class SlotWatch(NamedTuple):
    """Hold what watches the server, and the keys that each story used, without their prefix."""

    monitor: Monitor
    finder: KeyFinder
    rules: SlotRules
    keys_of_stories: dict[str, set[str]]


@pytest.fixture(scope="module")
def watch(redis: EmbeddedRedis) -> Iterator[SlotWatch]:
    monitor = Monitor(redis.port)
    yield SlotWatch(monitor, KeyFinder(monitor.server), SlotRules(DOCUMENT.read_text(encoding="utf-8")), {})
    monitor.close()


quick = test_reconcile.quick


@pytest.fixture
def prefixes() -> list[str]:
    return []


@pytest.fixture
def make_setup(redis: EmbeddedRedis, prefixes: list[str], tmp_path: Path) -> Iterator[MakeSetup]:
    """Make setups on the watched server, with many shards."""
    made: list[Setup] = []

    def make(kind: Kind = "module", server: object = None, **sections: Json) -> Setup:
        tables = {**sections, "redis": {"shards": SHARDS, **sections.get("redis", {})}}
        made.append(setup := Setup(redis, tmp_path, **tables))
        prefixes.append(setup.config.redis.prefix)
        return setup

    yield make
    for setup in made:
        setup.store.close()


@pytest.mark.parametrize("name", STORIES)
def test_one_slot(make_setup: MakeSetup, watch: SlotWatch, prefixes: list[str], name: str) -> None:
    """Each command, script and transaction has keys of one slot; each key is in the document, and in its slot."""
    outcome = STORIES[name](make_setup)
    if inspect.iscoroutine(outcome):
        asyncio.run(outcome)
    sent = watch.monitor.take()
    names = list_keys(sent, watch.finder)
    keys = {key.replace(prefix, PREFIX) for prefix in prefixes for key in names if key.startswith(prefix)}
    assert list(find_faults(sent, watch.finder)) == []
    assert list(watch.rules.find_faults(keys, SHARDS)) == []
    watch.keys_of_stories[name] = keys


def test_all_keys_are_seen(watch: SlotWatch) -> None:
    """The stories use every key that the document has: so the check is of all of them."""
    if set(watch.keys_of_stories) != set(STORIES):
        pytest.skip("it looks at what all stories left")
    assert watch.rules.list_unused(set().union(*watch.keys_of_stories.values())) == set()


def test_what_is_refused(watch: SlotWatch) -> None:
    """A command, a script and a transaction over several slots are noticed, and so is a key that nobody described."""
    keys, server = Keys(PREFIX, SHARDS), watch.monitor.server
    watch.monitor.take()
    one, other, near = keys.aor("ann"), keys.aor("bob"), keys.device("ann/ann")
    server.delete(one, near)
    server.delete(one, other)
    server.eval("redis.call('GET', KEYS[1]) return redis.call('GET', ARGV[1])", 1, one, other)
    server.eval("return redis.call('GET', ARGV[1])", 1, one, near)
    for pair in ((one, near), (one, other)):
        pipeline = server.pipeline(transaction=True)
        for key in pair:
            pipeline.get(key)
        pipeline.execute()
    pipeline = server.pipeline(transaction=False)
    pipeline.get(one)
    pipeline.get(other)
    pipeline.execute()
    sent = watch.monitor.take()
    assert [line.partition(" has ")[0] for line in find_faults(sent, watch.finder)] == [
        "a command",
        "a script",
        "a transaction",
    ]
    wrong = [one.replace(f"{{{keys.shard('ann')}}}", "{63}"), "companion:unheard-of", "companion:node:a{b}c", one]
    assert [line.split()[0] for line in watch.rules.find_faults(wrong, SHARDS)] == sorted(wrong[:3])
