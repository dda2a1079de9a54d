"""Share clusters among consumers: every cluster is held, shares are even, and nothing moves without need."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.bus.envelope import Heartbeat
from companion.consumer.shares import LIVE_SECONDS, SILENT_SECONDS, STEADY_SECONDS, Shares, share
from companion.store.consumers import ConsumerReport

CLUSTERS = [f"c{number}" for number in range(7)]
CONSUMERS = ["ann", "bob", "cyd", "dan"]
hearing_of_one = st.dictionaries(st.sampled_from(CLUSTERS), st.integers(1, 3))
hearings = st.dictionaries(st.sampled_from(CONSUMERS), hearing_of_one)
holders_before = st.dictionaries(st.sampled_from(CLUSTERS), st.sampled_from([*CONSUMERS, "gone"]))


@given(hearings, holders_before)
def test_every_cluster_is_held(hearing: Mapping[str, Mapping[str, int]], holders: Mapping[str, str]) -> None:
    """Each cluster that anybody hears goes to one who hears most of its nodes."""
    targets = share(hearing, holders)
    assert targets.keys() == {cluster for clusters in hearing.values() for cluster in clusters}
    for cluster, consumer in targets.items():
        assert hearing[consumer][cluster] == max(clusters.get(cluster, 0) for clusters in hearing.values())


@given(hearings, holders_before)
def test_nothing_flaps(hearing: Mapping[str, Mapping[str, int]], holders: Mapping[str, str]) -> None:
    """What was shared once stays as it is."""
    targets = share(hearing, holders)
    assert share(hearing, targets) == targets


@given(st.sets(st.sampled_from(CONSUMERS), min_size=1), hearing_of_one, holders_before)
def test_equals_have_equal_shares(equals: set[str], clusters: Mapping[str, int], holders: Mapping[str, str]) -> None:
    """Consumers that hear the same clusters hold as many, or one less."""
    loads = Counter(share(dict.fromkeys(equals, clusters), holders).values())
    assert max(loads[one] for one in equals) - min(loads[one] for one in equals) <= 1


@given(st.sets(st.sampled_from(CONSUMERS), min_size=1), hearing_of_one, st.sampled_from(CONSUMERS))
def test_no_more_moves_than_needed(equals: set[str], clusters: Mapping[str, int], newcomer: str) -> None:
    """A consumer that comes gets its share, and nothing else moves."""
    before = share(dict.fromkeys(equals, clusters), {})
    after = share(dict.fromkeys({*equals, newcomer}, clusters), before)
    assert {after[cluster] for cluster in after if after[cluster] != before[cluster]} <= {newcomer}


def test_who_hears_more_of_a_cluster() -> None:
    """A cluster moves to the consumer that hears more of its nodes, whatever else that one holds."""
    hearing = {"ann": {"edge": 1}, "bob": {"edge": 2, "lone": 1}}
    assert share(hearing, {"edge": "ann", "lone": "bob"}) == {"edge": "bob", "lone": "bob"}


# Over time


class World:
    """Consumers whose reports and leases reach a `Shares` as Redis brings them."""

    def __init__(self) -> None:
        self.now = 100.0
        self.shares = Shares("ann", lambda node: node.rpartition("-")[0] or node, lambda: self.now)
        self.nodes: dict[str, tuple[str, ...]] = {"ann": ("n1", "n2", "n3", "n4"), "bob": ("n1", "n2", "n3", "n4")}
        self.holders = dict.fromkeys(("n1", "n2", "n3", "n4"), "ann")
        self.dead: set[str] = set()
        self._reports: dict[str, ConsumerReport] = {}

    def go_on(self, seconds: float, **fields: object) -> None:
        """Let time go on, with a report of each consumer every two seconds; bob's has these fields."""
        end = self.now + seconds
        while self.now < end:
            self.now += 2
            at = int(self.now * 1000) + 3_600_000  # another machine's clock
            for name in self.nodes.keys() - self.dead:
                more = fields if name == "bob" else {}
                self._reports[name] = ConsumerReport(at, nodes=self.nodes[name], **more)  # type: ignore[arg-type]
            others = {name: report for name, report in self._reports.items() if name != "ann"}
            self.shares.update(self._reports["ann"], others, self.holders)


@pytest.fixture
def world() -> World:
    return World()


def test_a_newcomer_gets_its_share(world: World) -> None:
    """A new consumer gets half, when it has been there for some time."""
    world.go_on(STEADY_SECONDS)
    assert world.shares.surplus() == set()
    world.go_on(2)
    assert world.shares.surplus() == {"n3", "n4"}
    world.shares.hand_over({"n3", "n4"})
    assert world.shares.surplus() == set()
    assert world.shares.of_others == {"n3", "n4"}
    world.holders |= {"n3": "bob", "n4": "bob"}
    world.go_on(60)
    assert world.shares.surplus() == set()
    assert world.shares.of_others == set()


@pytest.mark.parametrize("trouble", [{"error": "Redis hangs"}, {"behind_at": 1 << 52}])
def test_nothing_moves_in_trouble(world: World, trouble: dict[str, object]) -> None:
    """While a consumer is behind or Redis does not take its events, nothing moves."""
    world.go_on(60, **trouble)
    assert world.shares.surplus() == set()


def test_a_consumer_that_is_gone(world: World) -> None:
    """A consumer that reports no more is given nothing, and what it held is for those that are left."""
    world.holders |= {"n3": "bob", "n4": "bob"}
    world.go_on(4)
    world.dead.add("bob")
    world.go_on(LIVE_SECONDS + 2)
    assert world.shares.of_others == set()


def test_what_another_one_takes(world: World) -> None:
    """What is handed over to another consumer is not taken back, and a third one leaves it alone."""
    world.nodes["cyd"] = world.nodes["bob"]
    world.holders = {"n1": "ann", "n2": "ann"}
    world.go_on(2)
    assert len(world.shares.of_others) == 2


def test_a_node_that_its_holder_does_not_hear(world: World) -> None:
    """A node that we hear, and the holder of its cluster does not, is reported when that lasts."""
    world.nodes = {"ann": ("edge-1",), "bob": ("edge-2",)}
    world.holders = {"edge": "bob"}
    world.go_on(STEADY_SECONDS)
    assert world.shares.unheard() == set()
    world.go_on(2)
    assert world.shares.unheard() == {"edge-1"}
    world.nodes["bob"] = ("edge-1", "edge-2")
    world.go_on(2)
    assert world.shares.unheard() == set()


def test_which_nodes_are_heard() -> None:
    """A node is heard from a heartbeat on, until it ends or is silent for long."""
    now = 100.0
    shares = Shares("ann", str, lambda: now)
    for node in ("n1", "n2"):
        shares.hear(node, Heartbeat({}))
    assert shares.nodes() == {"n1", "n2"}
    shares.hear("n1", Heartbeat({}, end=True))
    assert shares.nodes() == {"n2"}
    now += SILENT_SECONDS + 1
    assert shares.nodes() == set()
