"""`companion nodes` and `companion node forget`: what hangs on a node, and what is left of one that is gone."""

import inspect
import json
import time
from contextlib import nullcontext
from typing import Any

import pytest

from companion.cli import nodes as companion_nodes
from companion.config import Config
from companion.consumer import expiry, feeds, recorder
from companion.errors import UsageError
from companion.opensips.events import INSERT, LATENCY
from companion.quality import Bounds
from companion.query.now import View
from companion.store import nodes
from companion.store.consumers import ConsumerReport, save_consumer
from companion.store.leases import Leases
from companion.store.nodes import Feed, forget_node, load_feeds, prepare_feed
from companion.times import now_ms
from companion.usrloc.contact import Clock
from tests.integration.conftest import Feeder, MakeSetup, Setup, cli, eventually, phone_event
from tests.integration.web import client, fill, make_web, staff

LEFT = {"lease"}
"""Keys of a node that run out by themselves, once nobody holds them."""


def say(setup: Setup, node: str, silent_seconds: float, **fields: Any) -> None:
    """Store how a node's feed is."""
    at = int((time.time() - silent_seconds) * 1000)
    feed = Feed(node, node, 1, at, at, at, **fields)
    setup.store.connection.pipeline(prepare_feed(setup.store.keys, feed, {INSERT: 7}))


def keys_of(setup: Setup, node: str) -> dict[str, str]:
    """Every key there may be of a node alone, by what it is."""
    made = {
        name: method
        for name, method in inspect.getmembers(setup.store.keys, inspect.ismethod)
        if list(inspect.signature(method).parameters) in (["node"], ["group"])
    }
    return {name: method(node) for name, method in made.items()}


def there(setup: Setup, node: str) -> set[str]:
    return {name for name, key in keys_of(setup, node).items() if setup.store.connection.call("EXISTS", key)}


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    """A node that lives, with phones, and one that has been silent for an hour, with all that is ever kept of one."""
    made = make_web(make_setup)
    fill(made)
    say(made, "opensips", -60)  # alive for as long as the commands of a test may take
    say(made, "old", 3600, missed=3)
    keys = keys_of(made, "old")
    made.store.connection.call("SET", keys.pop("lease"), "elsewhere/7/a1/b2")
    for key in keys.values():
        made.store.connection.call("HSET", key, "opened_at", 1_700_000_000_000)
    return made


def test_list(setup: Setup) -> None:
    """`companion nodes` has a line for each: is it alive, when was it heard of, who stores its events, its breaker.

    --json has all of it.
    """
    leases = Leases(setup.store)
    assert leases.hold("opensips")
    table, as_json = setup.cli("nodes"), setup.cli("nodes", "--json")
    assert (table.returncode, table.stderr) == (0, "")
    head, *lines = table.stdout.splitlines()
    assert head.split() == [
        "NODE",
        "CLUSTER",
        "FEED",
        "HEARD",
        "OF",
        "LAST",
        "EVENT",
        "CONTACTS",
        "MISSED",
        "CONSUMER",
        "BREAKER",
    ]
    assert [line.split()[:3] for line in lines] == [["old", "old", "silent"], ["opensips", "opensips", "alive"]]
    assert "open, " in lines[0]
    rows = {row["node"]: row for row in json.loads(as_json.stdout)}
    assert (rows["old"]["alive"], rows["old"]["missed"], rows["opensips"]["alive"]) == (False, 3, True)
    holder = "/".join(leases.owner.split("/")[:2])
    assert (rows["old"]["consumer"], rows["opensips"]["consumer"]) == ("elsewhere/7", holder)
    assert holder in lines[1]
    assert (rows["old"]["breaker"], rows["opensips"]["breaker"]) == ("2023-11-14T22:13:20.000Z", None)


def test_a_node_that_nobody_records(setup: Setup) -> None:
    """A node that a consumer hears, and the one that holds its cluster does not, is listed with who hears it."""
    now = now_ms()
    save_consumer(setup.store, "host/7/a1", ConsumerReport(now, nodes=("old", "new")))
    save_consumer(setup.store, "elsewhere/7/a1", ConsumerReport(now, nodes=("opensips",)))
    rows = {row["node"]: row["heard_by"] for row in json.loads(setup.cli("nodes", "--json").stdout)}
    assert rows == {"new": ["host/7"], "old": ["host/7"], "opensips": ["elsewhere/7"]}
    assert "nobody; host/7 hears it" in setup.cli("nodes").stdout
    assert Leases(setup.store).hold("opensips")
    setup.store.connection.call("SET", setup.store.keys.lease("opensips"), "elsewhere/7/a1/b2")
    setup.store.connection.call("SET", setup.store.keys.lease("old"), "older/7/a1/b2")
    rows = {row["node"]: row["heard_by"] for row in json.loads(setup.cli("nodes", "--json").stdout)}
    assert rows == {"new": ["host/7"], "old": [], "opensips": []}


def test_no_nodes(make_setup: MakeSetup) -> None:
    """Where no node was ever heard of the command says so."""
    setup = make_setup()
    assert "no node is known yet" in setup.cli("nodes").stdout
    assert json.loads(setup.cli("nodes", "--json").stdout) == []


def test_forget(setup: Setup) -> None:
    """All that is kept of the node itself goes, and what went is told; contacts and other nodes stay as they are."""
    others, pages = there(setup, "opensips") - LEFT, setup.pages()
    done = setup.cli("node", "forget", "old")
    assert (done.returncode, done.stderr) == (0, "")
    deleted = {key for name, key in keys_of(setup, "old").items() if name not in LEFT}
    sentence, _, keys = done.stdout.strip().partition("; deleted: ")
    assert (sentence, set(keys.split(", "))) == ("old is forgotten", deleted)
    assert there(setup, "old") == LEFT
    assert list(load_feeds(setup.store)) == ["opensips"]
    assert (others, pages.keys()) == (there(setup, "opensips") - LEFT, setup.pages().keys())


def test_what_waited_for_it_waits_no_more(setup: Setup) -> None:
    """/readyz and the feed's metrics, which the alert goes by, speak of a silent node until it is forgotten."""
    staff(setup)
    with client(setup) as api:
        assert "the feed of node old is silent" in api.get("/readyz").json()["reasons"]
    assert setup.cli("node", "forget", "old").returncode == 0
    with client(setup) as api:
        assert not [reason for reason in api.get("/readyz").json()["reasons"] if "node" in reason]
        assert 'node="old"' not in api.get("/metrics").text


@pytest.mark.parametrize(
    ("node", "silent_seconds", "says"),
    [
        ("nobody", None, "error: there is no node 'nobody'; `companion nodes` lists the nodes"),
        (
            "young",
            -60,
            "young was alive 0 s ago: stop its bridge, and remove its bus from [consumer] subscribe",
        ),
    ],
)
def test_refused(setup: Setup, node: str, silent_seconds: float | None, says: str) -> None:
    """A node that there is not, or whose bridge was heard of just now, is not forgotten: a line says why, code 2."""
    if silent_seconds is not None:
        say(setup, node, silent_seconds)
    before = there(setup, node)
    refused = setup.cli("node", "forget", node)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert there(setup, node) == before


@pytest.mark.parametrize(("silent_ms", "refused"), [(0, True), (29_999, True), (30_000, False)])
def test_only_who_was_silent_for_long(silent_ms: int, refused: bool) -> None:  # noqa: FBT001
    """A bridge that only restarts is not forgotten meanwhile."""
    now = 1_700_000_000_000
    view = View(Clock(now, 120_000, 3), {"n": Feed("n", heartbeat_at=now - silent_ms)}, Bounds())
    with pytest.raises(UsageError) if refused else nullcontext():
        companion_nodes._check_is_gone("n", view)


def test_a_table_that_is_left(setup: Setup) -> None:
    """Who forgets a node that the configuration still names is told to take it out there, too."""
    file = setup.file()
    file.write_text(file.read_text() + '[[opensips]]\nnode = "old"\n')
    assert "remove it, too" in cli("node", "forget", "old", "-c", str(file)).stdout


async def test_a_consumer_lets_go(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a feed is silent no contact is taken for expired; forgotten, it holds up nobody; come back, it is new."""
    for module in (feeds, nodes):
        monkeypatch.setattr(module, "DEAD_AFTER_MS", 1000)
    monkeypatch.setattr(recorder, "EXPIRY_SECONDS", 0.1)
    monkeypatch.setattr(expiry, "EXPIRY_GRACE_MS", 0)
    setup = make_setup()
    old_bus = make_setup()
    setup.tables["consumer"]["subscribe"] += old_bus.tables["consumer"]["subscribe"]
    setup.config = Config.model_validate(setup.tables)
    async with setup.running("consumer"), Feeder.silent(setup, "live") as live, Feeder.silent(old_bus, "old") as old:
        for feeder in (live, old):
            assert await feeder.publisher.subscribed(10)
        old.say(LATENCY, phone_event("ann", latency=20_000))
        old.beat()
        await eventually(lambda: live.beat() or setup.feed("old").silences)
        live.say(INSERT, phone_event("bob", expires=int(time.time()) + 1))
        await eventually(lambda: live.beat() or setup.events_done("live"))
        await eventually(lambda: live.beat() or setup.page("bob")["status"] == "offline")
        assert setup.page("bob")["contacts"][0]["ended_by"] == ""

        forget_node(setup.store, "old")
        await eventually(lambda: live.beat() or setup.page("bob")["contacts"][0]["ended_by"] == "expired")
        assert list(load_feeds(setup.store)) == ["live"]
        assert setup.page("ann")["status"] == "unknown"

        old.say(LATENCY, phone_event("ann", latency=30_000))
        old.beat()
        await eventually(lambda: live.beat() or setup.page("ann")["last_latency_ms"] == 30)
        assert setup.feed("old").run == old.publisher.run
