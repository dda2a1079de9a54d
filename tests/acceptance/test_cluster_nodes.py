"""A companion in mode enforce while a node of the cluster dies, restarts, or loses its link to the other one."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from companion.store.nodes import load_feeds
from tests.acceptance.cluster import INTERVAL, Cluster, Setting, cluster_with
from tests.acceptance.conftest import Build
from tests.acceptance.crowd import Crowd, phone_at
from tests.acceptance.edge import settled
from tests.sip_phone.phone import Phone

pytestmark = pytest.mark.timeout(400)

CUT_SECONDS = 60
PINGING = [Setting("default"), Setting("ownership")]
Record = Callable[[str, object], None]


async def fill(cluster: Cluster, crowd: Crowd) -> tuple[list[Phone], list[Phone]]:
    """Put three live phones on each WebSocket listener of both nodes, and start the second one for it."""
    first, second = cluster.nodes
    here = [await crowd.add(f"first-{number}", phone_at(url)) for number, url in enumerate(first.urls * 3)]
    await crowd.answered()
    await cluster.join(second, here[-1])
    there = [await crowd.add(f"second-{number}", phone_at(url)) for number, url in enumerate(second.urls * 3)]
    return here, there


async def return_to(url: str, phones: Sequence[Phone]) -> None:
    """Let phones notice that their connection ended, and register elsewhere."""
    for phone in phones:
        await phone.die()
        phone.url = url
        await phone.start()


@pytest.mark.parametrize("setting", PINGING, ids=str)
async def test_killed(build: Build, tmp_path: Path, setting: Setting, record_property: Record) -> None:
    """A whole machine dies: phones that went to the other node stay, and what it held stays until it expires."""
    with cluster_with(build, tmp_path, setting, remediation={"breaker_share": 1}) as cluster:
        first, second = cluster.nodes
        async with Crowd(cluster) as crowd:
            _, there = await fill(cluster, crowd)
            away = [await crowd.add(f"away-{number}", phone_at(second.urls[0]), is_live=False) for number in range(2)]
            if setting.pinging == "ownership":
                await crowd.answered()
            second.kill()
            cluster.bridge.kill()
            await return_to(first.urls[0], there)
            for phone in away:
                await phone.die()
            if setting.pinging == "ownership":  # nobody pings them otherwise, and silence is no evidence
                await cluster.move_tag(second, first)
            await crowd.watch(8 * INTERVAL, 240, nodes=[first])
            assert not any(("remove", "removed") in crowd.decisions(phone) for phone in away)
            await crowd.check_registrations(nodes=[first])


@pytest.mark.parametrize("setting", PINGING, ids=str)
async def test_restarted_and_cut(build: Build, tmp_path: Path, setting: Setting, record_property: Record) -> None:
    """A node restarts without contacts, then the link is cut for a minute: no live phone is removed."""
    with cluster_with(build, tmp_path, setting, remediation={"breaker_share": 1}) as cluster:
        first, second = cluster.nodes
        async with Crowd(cluster) as crowd:
            here, there = await fill(cluster, crowd)
            second.kill()
            second.start()
            await asyncio.to_thread(second.wait)
            await return_to(second.urls[0], there)
            await crowd.watch(6 * INTERVAL, 100)
            await settled(lambda: asyncio.run(cluster.is_registered(second, here[0])))
            await crowd.check_registrations()

            cluster.cut_link()
            moving, closed = here[0], await _close_one(crowd, second.urls[1])
            await return_to(second.urls[1], [moving])
            await crowd.watch(CUT_SECONDS, 100)
            for phone in (*here[1:], *there, moving):
                assert await cluster.is_registered(first if phone in here[1:] else second, phone)

            cluster.heal_link()
            await crowd.watch(6 * INTERVAL, 100)
            record_property("gone_after", crowd.gone_after)
            record_property("closed", crowd.decisions(closed))
            record_property("gaps", {node: feed.gaps for node, feed in load_feeds(cluster.companion.store).items()})
            for phone in (*here[1:], *there, moving):
                assert await cluster.is_registered(first if phone in here[1:] else second, phone)


async def _close_one(crowd: Crowd, url: str) -> Phone:
    """Add a phone while the link is cut, and cut its connection."""
    phone = await crowd.add("closed", phone_at(url), is_live=False)
    await phone.die()
    return phone
