"""What the consumer says of repeated, lost and refused events of a feed."""

import msgspec
from structlog.testing import capture_logs

from companion.bus.envelope import Heartbeat, Message
from companion.consumer.feeds import Feeds
from companion.errors import InvalidEventError
from companion.opensips.events import LATENCY
from companion.steady_clock import steady_ms
from companion.store.nodes import Feed
from companion.times import now_ms

NOTHING = msgspec.Raw(b"\x80")


def message(seq: int, run: int = 5) -> Message:
    return Message(LATENCY, "n", run, seq, [(1, NOTHING)])


def resumed() -> Feeds:
    feeds = Feeds()
    feeds.take_over(Feed("n", run=5), {LATENCY: 9})
    return feeds


def warnings(feeds: Feeds, *messages: Message) -> list[str]:
    with capture_logs() as logs:
        for one in messages:
            feeds.check(one)
    return [line["event"] for line in logs if line["log_level"] == "warning"]


def test_a_take_over_is_no_fault() -> None:
    """What the consumer before us stored still comes over the bus, also of an earlier run: nothing to warn of."""
    assert warnings(resumed(), message(3, run=4), message(8), message(9), message(10)) == []


def test_what_is_stored_is_left_out() -> None:
    """Of what was kept of a node taken over, only what the consumer before did not store is decoded."""
    old, new = message(9), message(10)
    partly = Message(LATENCY, "n", 5, 9, [(1, NOTHING)] * 2)
    others = [message(3, run=4), message(0, run=6)]  # the check of runs says what becomes of these
    assert resumed().drop_repeats([old, new, partly, *others]) == [new, partly, *others]


def test_two_bridges_with_one_name() -> None:
    """Events of an earlier run that come between newer ones are those of another bridge."""
    (warning,) = warnings(resumed(), message(10), message(3, run=4), message(11), message(4, run=4))
    assert "no two bridges have the same [bridge] node" in warning


def test_one_bridge_twice() -> None:
    """Events of the same run that come twice are those of one bridge, subscribed twice."""
    (warning,) = warnings(resumed(), message(10), message(10), message(11), message(11))
    assert "subscribe names each bridge once" in warning


def test_times_of_loss_and_refusal() -> None:
    """A gap, datagrams that the kernel dropped, and refused events leave their time in the feed."""
    feeds = resumed()
    feed = feeds.held["n"]
    assert (feed.lost_at, feed.refused_at) == (0, 0)
    feeds.check(message(20))
    assert feed.lost_at
    feed.lost_at = 0
    feeds.take_heartbeat("n", Heartbeat(seqs={}, kernel_drops=1), 1)
    assert feed.lost_at
    feeds.take_refusals("n", [InvalidEventError("shape", aor="alice")])
    assert (bool(feed.refused_at), feed.refused_why) == (True, "shape")
    feeds.refuse("n")
    assert (feed.refused, feed.refused_why, feed.refused_aor) == (2, "ahead", "")


def test_old_heartbeat_of_a_queue() -> None:
    """A heartbeat that waited in a queue tells when the bridge lived, and that events may be missing until now."""
    feeds = Feeds()
    feeds.queued.add("n")
    feeds.take_over(Feed("n", run=5, heartbeat_at=now_ms()), {})
    feed, old, began = feeds.held["n"], now_ms() - 60_000, now_ms()
    assert not feeds.watch(steady_ms())
    feeds.take_heartbeat("n", Heartbeat(seqs={}), old)
    assert (feed.heartbeat_at, feed.said_at, feed.steady_since >= began) == (old, old, True)
    assert not feeds.watch(steady_ms())
    feeds.take_heartbeat("n", Heartbeat(seqs={}), now_ms())
    assert feed.heartbeat_at >= began
    assert feeds.watch(steady_ms())


def test_repeats_out_of_a_queue() -> None:
    """A queue may bring messages twice after a connection was lost: nobody has to be told."""
    feeds = resumed()
    feeds.queued.add("n")
    assert warnings(feeds, message(10), message(10), message(11)) == []
