"""No fault makes remediation remove a phone that can be reached: a short form of `make soak-removals`."""

import pytest

from companion.simulator.redis import EmbeddedRedis
from tests.integration.conftest import Kind
from tests.soak.removals.companion import run_seed

SWEEPS = 80
ONCE_WRONG = (2074, 2104)
"""Seeds in which the way to ask broke and a reachable phone was removed."""


@pytest.mark.parametrize("seed", [*range(12), *ONCE_WRONG])
async def test_no_reachable_phone_is_removed(servers: dict[Kind, EmbeddedRedis], seed: int) -> None:
    """Phones roam, sleep, reload and die while events, feeds, MI and the way to ask fail: no live one is removed."""
    report = await run_seed(seed, servers["module"].url, sweeps=SWEEPS)
    assert report.wrong == []


async def test_dead_contacts_go(servers: dict[Kind, EmbeddedRedis]) -> None:
    """Without faults nearly all contacts that died are gone in time."""
    reports = [await run_seed(seed, servers["module"].url, sweeps=SWEEPS) for seed in (0, 5, 10, 15)]
    removed, left = sum(report.removed for report in reports), sum(report.left for report in reports)
    assert removed > 20
    assert removed / (removed + left) >= 0.9
