"""Test locks in a real Redis: one holder at a time, and a fence number that grows."""

import time
from typing import Any

import pytest

from companion.store import leases as rules
from companion.store.connection import Unreachable
from companion.store.leases import LEASE_SECONDS, PAUSE_SECONDS, YIELD_SECONDS, Leases
from companion.store.locks import HeldLock, acquire_lock
from companion.store.redis_errors import RedisTimeoutError
from tests.integration.conftest import Kind, MakeSetup, Setup, until


@pytest.fixture(params=["module", "plain"])
def setup(request: pytest.FixtureRequest, make_setup: MakeSetup) -> Setup:
    kind: Kind = request.param
    return make_setup(kind)


def key_of(setup: Setup) -> str:
    return f"{setup.store.keys.prefix}lock"


def test_one_holder(setup: Setup) -> None:
    """A lock has one holder until it is released."""
    first = acquire_lock(setup.store, key_of(setup), 60)
    assert first
    assert acquire_lock(setup.store, key_of(setup), 60) is None
    assert first.release()
    second = acquire_lock(setup.store, key_of(setup), 60)
    assert second
    assert second.release()


def test_the_fence_grows(setup: Setup) -> None:
    """Each holder of a lock with a counter has a larger number than the one before; a refused one counts nothing."""
    fences = []
    for _ in range(3):
        lock = acquire_lock(setup.store, key_of(setup), 60, fence_key=setup.store.keys.fence())
        assert lock
        assert acquire_lock(setup.store, key_of(setup), 60, fence_key=setup.store.keys.fence()) is None
        fences.append(lock.fence)
        lock.release()
    assert fences == [1, 2, 3]


def test_a_lock_that_ran_out(setup: Setup) -> None:
    """A holder whose time ran out can neither renew nor release the lock of the next one."""
    late = acquire_lock(setup.store, key_of(setup), 0.05)
    assert late
    until(lambda: setup.store.connection.call("EXISTS", key_of(setup)) == 0)
    current = acquire_lock(setup.store, key_of(setup), 60)
    assert current
    assert not late.renew()
    assert not late.release()
    assert current.renew()


def test_a_renewed_lock(setup: Setup) -> None:
    """A renewal starts the time of a lock anew."""
    lock = acquire_lock(setup.store, key_of(setup), 60)
    assert lock
    setup.store.connection.call("PEXPIRE", key_of(setup), 1000)
    assert lock.renew()
    assert setup.store.connection.call("PTTL", key_of(setup)) > 50_000


def test_a_lock_whose_reply_was_lost(setup: Setup) -> None:
    """Who repeats an attempt with the same token goes on with the lock that Redis gave it; nobody else does."""
    assert acquire_lock(setup.store, key_of(setup), 60, token="ours")
    setup.store.connection.call("PEXPIRE", key_of(setup), 1000)
    again = acquire_lock(setup.store, key_of(setup), 60, token="ours")
    assert again
    assert setup.store.connection.call("PTTL", key_of(setup)) > 50_000
    assert acquire_lock(setup.store, key_of(setup), 60, token="theirs") is None
    assert again.release()
    assert setup.store.connection.call("EXISTS", key_of(setup)) == 0


class SteadyClock:
    """A clock that goes on, and that tests move on besides."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


def end_lease(setup: Setup) -> None:
    """Let the lease run out, as after its holder was killed."""
    keys = setup.store.keys
    setup.store.connection.call("DEL", keys.cluster_lease("opensips"), keys.lease("opensips"))


def test_a_newcomer_yields_to_a_standby(setup: Setup) -> None:
    """A killed consumer that starts again leaves its lease to the standby, which has what came meanwhile."""
    clock = SteadyClock()
    killed, standby, newcomer = (Leases(setup.store, clock) for _ in range(3))
    assert killed.hold("opensips")
    assert not standby.hold("opensips")
    clock.ahead += LEASE_SECONDS - YIELD_SECONDS
    assert not newcomer.hold("opensips")
    clock.ahead += YIELD_SECONDS
    end_lease(setup)
    assert not newcomer.hold("opensips")
    assert standby.hold("opensips")


def test_a_newcomer_alone(setup: Setup) -> None:
    """A consumer that starts again takes its lease a moment after it ran out when nobody else does."""
    clock = SteadyClock()
    killed, newcomer = Leases(setup.store, clock), Leases(setup.store, clock)
    assert killed.hold("opensips")
    assert not newcomer.hold("opensips")
    end_lease(setup)
    clock.ahead += PAUSE_SECONDS
    assert not newcomer.hold("opensips")
    clock.ahead += YIELD_SECONDS
    assert newcomer.hold("opensips")


def test_a_lease_whose_reply_was_lost(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that did not hear that Redis gave it a lease has it at the next attempt, not when it ran out."""

    def lose_reply(*args: Any, **kwargs: Any) -> HeldLock | None:
        assert acquire_lock(*args, **kwargs)
        raise RedisTimeoutError("Timeout reading from socket")

    consumer, other = Leases(setup.store), Leases(setup.store)
    with monkeypatch.context() as patch:
        patch.setattr(rules, "acquire_lock", lose_reply)
        with pytest.raises(Unreachable):
            consumer.hold("opensips")
    assert not other.hold("opensips")
    assert consumer.hold("opensips")


def test_a_standby_takes_all_nodes_of_a_dead_consumer(setup: Setup) -> None:
    """Leases that run out a moment apart go to the same standby, before it works on one of them."""
    clock, keys = SteadyClock(), setup.store.keys
    killed, standby = Leases(setup.store, clock), Leases(setup.store, clock)
    assert killed.hold_all(["east", "west"]) == ["east", "west"]
    assert standby.hold_all(["east", "west"]) == []
    clock.ahead += LEASE_SECONDS
    setup.store.connection.pipeline(
        [
            *(("DEL", key("east")) for key in (keys.cluster_lease, keys.lease)),
            *(("PEXPIRE", key("west"), 200) for key in (keys.cluster_lease, keys.lease)),
        ]
    )
    assert standby.hold_all(["east", "west"]) == ["east", "west"]


def test_leases_run_out_at_once(setup: Setup) -> None:
    """Leases that were taken at different times are renewed together."""
    consumer = Leases(setup.store)
    for node in ("east", "west"):
        assert consumer.hold(node)
    setup.store.connection.call("PEXPIRE", setup.store.keys.lease("east"), 2000)
    consumer.renew()
    left_ms = [setup.store.connection.call("PTTL", setup.store.keys.lease(node)) for node in ("east", "west")]
    assert min(left_ms) > 1000 * (LEASE_SECONDS - 1)


def cluster_of(node: str) -> str:
    """`edge-1` and `edge-2` are nodes of the cluster `edge`."""
    return node.rpartition("-")[0] or node


def test_a_cluster_is_leased_as_one(setup: Setup) -> None:
    """Who holds a node of a cluster holds the others as soon as it asks for them; nobody else gets one."""
    first, second = (Leases(setup.store, cluster_of=cluster_of) for _ in range(2))
    assert first.hold("edge-1")
    assert second.hold_all(["edge-1", "edge-2", "lone"]) == ["lone"]
    assert first.hold("edge-2")
    assert first.tokens["edge-1"] == first.tokens["edge-2"]
    assert setup.store.connection.call("GET", setup.store.keys.lease("edge-2")) == first.tokens["edge-2"]


@pytest.mark.parametrize("held_first", [False, True])
def test_a_consumer_that_leases_nodes(setup: Setup, held_first: bool) -> None:  # noqa: FBT001
    """While a consumer of an older version holds a node, nobody gets its cluster, and who has it gives it up."""
    leases, node = Leases(setup.store, cluster_of=cluster_of), setup.store.keys.lease("edge-2")
    if held_first:
        assert leases.hold("edge-1")
    older = acquire_lock(setup.store, node, 60, token="older/7/a1/b2")
    assert older
    assert leases.hold_all(["edge-1", "edge-2"]) == (["edge-1"] if held_first else [])
    assert not leases.tokens
    assert setup.store.connection.call("EXISTS", setup.store.keys.cluster_lease("edge")) == 0
    assert older.release()


def test_a_cluster_given_up(setup: Setup) -> None:
    """A cluster that is handed over is free at once, and left to the other consumer for some seconds."""
    clock = SteadyClock()
    first, second = (Leases(setup.store, clock, cluster_of) for _ in range(2))
    assert first.hold_all(["edge-1", "edge-2"]) == ["edge-1", "edge-2"]
    assert not second.hold("edge-1")
    clock.ahead += LEASE_SECONDS
    first.shares_of_others = {"edge"}
    first.give_up({"edge"})
    clock.ahead += PAUSE_SECONDS
    assert not first.hold("edge-1")
    assert second.hold_all(["edge-1", "edge-2"]) == ["edge-1", "edge-2"]


def test_a_share_that_nobody_takes(setup: Setup) -> None:
    """A cluster that is another one's share goes to whoever hears it, when that one leaves it."""
    clock = SteadyClock()
    leases = Leases(setup.store, clock)
    leases.shares_of_others = {"lone"}
    assert not leases.hold("lone")
    clock.ahead += YIELD_SECONDS
    assert leases.hold("lone")
