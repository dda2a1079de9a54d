"""How long a feed is silent is counted by a clock that no step of the machine's clock moves."""

import pytest

from companion.bus.envelope import Heartbeat
from companion.consumer import feeds as feeds_module
from companion.consumer.feeds import Feeds
from companion.steady_clock import steady_ms
from companion.store.nodes import DEAD_AFTER_MS, Feed
from companion.times import now_ms

NODE = "opensips"
HOUR_MS = 3_600_000


@pytest.mark.parametrize("step_ms", [-HOUR_MS, HOUR_MS])
@pytest.mark.parametrize("stepped", ["before the heartbeat", "after the heartbeat"])
def test_silence_across_a_step(monkeypatch: pytest.MonkeyPatch, step_ms: int, stepped: str) -> None:
    """A bridge is silent ten seconds after its last heartbeat, not an hour later or at once."""
    feeds = Feeds()
    feeds.take_over(Feed(NODE), {})
    if stepped == "before the heartbeat":
        monkeypatch.setattr(feeds_module, "now_ms", lambda: now_ms() + step_ms)
    feeds.take_heartbeat(NODE, Heartbeat({}), now_ms())
    monkeypatch.setattr(feeds_module, "now_ms", lambda: now_ms() + step_ms)
    heard_at = steady_ms()
    assert feeds.watch(heard_at + DEAD_AFTER_MS - 1000)
    assert not feeds.watch(heard_at + DEAD_AFTER_MS + 1000)
    assert feeds.held[NODE].silences == 1


def test_silence_of_a_node_that_was_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is silent when it is taken over has its time too, however the clock was set before."""
    feeds = Feeds()
    feeds.take_over(Feed(NODE, heartbeat_at=now_ms() + HOUR_MS), {})
    monkeypatch.setattr(feeds_module, "now_ms", lambda: now_ms() - HOUR_MS)
    assert feeds.watch(steady_ms())
    assert not feeds.watch(steady_ms() + DEAD_AFTER_MS + 1000)
