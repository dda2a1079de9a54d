"""Evictions of Redis are noticed by its counter."""

from structlog.testing import capture_logs

from companion.http.monitoring.evictions import Evictions
from companion.store.server import ServerState


def test_a_counter_that_rises() -> None:
    """Only a rise is an eviction of now: not what was counted before, nor by another server or before a restart."""
    evictions = Evictions()
    times = []
    for now, (run_id, evicted) in enumerate([("a", 7), ("a", 7), ("a", 8), ("a", 8), ("b", 20), ("b", 21)], 1):
        evictions.observe(ServerState(run_id=run_id, evicted_keys=evicted), now)
        times.append(evictions.at)
    assert times == [0, 0, 3, 3, 3, 6]


def test_one_line_an_episode() -> None:
    """However often it evicts, the log has one line, with the policy and the remedy."""
    evictions = Evictions()
    with capture_logs() as logs:
        for evicted in range(5):
            evictions.observe(ServerState(run_id="a", evicted_keys=evicted, policy="allkeys-lru"), evicted)
    (line,) = logs
    assert line["policy"] == "allkeys-lru"
    assert "noeviction" in line["remedy"]
