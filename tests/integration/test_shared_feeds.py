"""Test that readers share feeds, and for how long."""

from companion.query.shared_feeds import FRESH_SECONDS, SharedFeeds
from companion.store.nodes import Feed, prepare_feed
from tests.integration.conftest import MakeSetup, Setup


def test_feeds_are_shared_for_a_while(make_setup: MakeSetup) -> None:
    """A change of a feed shows when the feeds that serve are no longer fresh, and not before."""
    now, setup = 0.0, make_setup()
    feeds = SharedFeeds(setup.store, lambda: now)
    write(setup, Feed("one", heartbeat_at=1))
    assert feeds.load()["one"].heartbeat_at == 1

    write(setup, Feed("one", heartbeat_at=2))
    write(setup, Feed("two"))
    assert feeds.load()["one"].heartbeat_at == 1
    now += FRESH_SECONDS
    assert feeds.load()["one"].heartbeat_at == 2
    assert list(feeds.load()) == ["one", "two"]


def write(setup: Setup, feed: Feed) -> None:
    setup.store.connection.pipeline(prepare_feed(setup.store.keys, feed, {}))
