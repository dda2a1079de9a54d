"""What a run says at its end is counted, also when its last events never arrived."""

from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import metrics
from companion.bus.envelope import HEARTBEAT, Heartbeat, Message
from companion.bus.run_ends import MOST_NODES, MOST_RUNS, RunEnds
from companion.consumer.feeds import Feeds
from companion.opensips.events import INSERT, LATENCY
from companion.steady_clock import steady_ms
from companion.store.nodes import Feed

NODE = "opensips"
MINUTE_MS = 60_000
beats = count()
NOTHING = msgspec.Raw(b"\x80")


def event(run: int, seq: int, name: str = LATENCY, events: int = 1) -> Message:
    return Message(name, NODE, run, seq, [(1, NOTHING)] * events)


def make_feeds() -> Feeds:
    feeds = Feeds()
    feeds.take_over(Feed(NODE), {})
    return feeds


def beat(feeds: Feeds, run: int, seqs: dict[str, int], *, end: bool = False) -> None:
    """A heartbeat that comes among the events."""
    if not feeds.check(Message(HEARTBEAT, NODE, run, next(beats), [(1, NOTHING)])):
        feeds.take_heartbeat(NODE, Heartbeat(seqs, end=end), 1)


def hear(feeds: Feeds, run: int, seqs: dict[str, int], *, end: bool = False) -> None:
    """A heartbeat that comes on its own way."""
    feeds.ends.hear(NODE, run, Heartbeat(seqs, end=end))


def unknown_ends() -> float:
    return metrics.total(metrics.UNENDED_RUNS, node=NODE)


runs = st.lists(
    st.tuples(
        st.lists(st.booleans(), max_size=5),  # which events arrive
        st.booleans(),  # whether its end comes among the events
        st.booleans(),  # whether a heartbeat comes on its own way; it is the last one
    ),
    min_size=1,
    max_size=4,
)


@given(runs, st.booleans())
def test_published_is_received_and_missed(runs: list[tuple[list[bool], bool, bool]], ahead: bool) -> None:  # noqa: FBT001
    """Of runs whose end was told on either way, each event is received or counted as missed, whatever was lost.

    It may be told before the first event of the run arrives, or behind the last one.
    """
    feeds, received, published = make_feeds(), 0, 0
    ends = [(number, len(arrives) - 1) for number, (arrives, _, is_heard) in enumerate(runs, 1) if is_heard]
    for number, seq in ends if ahead else ():
        hear(feeds, number, {LATENCY: seq} if seq >= 0 else {}, end=True)
    before = unknown_ends()
    unknown = 0
    for number, (arrives, is_ended, is_heard) in enumerate(runs, 1):
        seqs = {LATENCY: len(arrives) - 1} if arrives else {}
        beat(feeds, number, {})
        for seq, arrived in enumerate(arrives):
            received += int(arrived and not feeds.check(event(number, seq)))
        if is_ended:
            beat(feeds, number, seqs, end=True)
        if is_heard and not ahead:
            hear(feeds, number, seqs, end=True)
        last_arrived = max((seq for seq, arrived in enumerate(arrives) if arrived), default=-1)
        published += len(arrives) if is_ended or is_heard else last_arrived + 1
        unknown += not (is_ended or is_heard)
    beat(feeds, len(runs) + 1, {})
    assert received + feeds.held[NODE].missed == published
    assert unknown_ends() == before + unknown


def test_run_of_which_nothing_arrived() -> None:
    """All events of a run that came and went while the consumer was behind are missed."""
    feeds, before = make_feeds(), unknown_ends()
    feeds.check(event(1, 0))
    hear(feeds, 1, {LATENCY: 0}, end=True)
    hear(feeds, 2, {LATENCY: 9, INSERT: 4}, end=True)
    hear(feeds, 3, {LATENCY: 99})
    feeds.check(event(3, 0))
    assert feeds.held[NODE].missed == 15
    assert unknown_ends() == before


def test_silence_after_the_end() -> None:
    """When a bridge stopped and stays away, what never arrived is counted as soon as it counts as silent, once."""
    feeds = make_feeds()
    beat(feeds, 1, {LATENCY: -1})
    hear(feeds, 1, {LATENCY: 99}, end=True)
    feeds.check(event(1, 0, events=10))
    assert feeds.held[NODE].missed == 0
    feeds.watch(steady_ms() + MINUTE_MS)
    feeds.watch(steady_ms() + MINUTE_MS)
    feed = feeds.held[NODE]
    assert (feed.missed, feed.ended_run, feed.silences) == (90, 1, 1)


def test_silence_of_events_alone() -> None:
    """While the heartbeats of their own way come, events that are late are not counted as missed."""
    feeds = make_feeds()
    beat(feeds, 1, {})
    hear(feeds, 1, {LATENCY: 99})
    feeds.watch(steady_ms() + MINUTE_MS)
    assert feeds.held[NODE].missed == 0


def test_known_end_is_stored() -> None:
    """A consumer that takes over after the end of a run knows from the store that it is known."""
    feeds, before = Feeds(), unknown_ends()
    feeds.take_over(Feed(NODE, run=1, ended_run=1), {LATENCY: 5})
    feeds.check(event(2, 0))
    assert unknown_ends() == before
    feeds.check(event(3, 0))
    assert unknown_ends() == before + 1


@pytest.mark.parametrize("is_end", [True, False])
def test_nothing_follows_an_end(is_end: bool) -> None:  # noqa: FBT001
    """A heartbeat that comes behind the end of its run changes nothing."""
    ends = RunEnds()
    ends.hear(NODE, 1, Heartbeat({LATENCY: 5}, end=is_end))
    ends.hear(NODE, 1, Heartbeat({LATENCY: 9}))
    end = ends.find(NODE, 1)
    assert end
    assert end.seqs == {LATENCY: 5 if is_end else 9}


def test_bounds() -> None:
    """Neither nodes nor runs that heartbeats name fill the memory."""
    ends = RunEnds()
    for number in range(3 * MOST_NODES):
        ends.hear(f"node{number}", 1, Heartbeat({}))
    for run in range(3 * MOST_RUNS):
        ends.hear("last", run, Heartbeat({}))
    assert len(ends._nodes) == MOST_NODES
    assert list(ends._nodes["last"]) == list(range(2 * MOST_RUNS, 3 * MOST_RUNS))


def test_silent_node_is_left_alone() -> None:
    """A node whose end was counted is not written again: otherwise it could not be forgotten."""
    feeds = make_feeds()
    beat(feeds, 1, {})
    hear(feeds, 1, {LATENCY: 9}, end=True)
    feeds.watch(steady_ms() + MINUTE_MS)
    feeds._touched.clear()
    feeds.watch(steady_ms() + MINUTE_MS)
    assert feeds.drop_forgotten(set()) == {NODE}
