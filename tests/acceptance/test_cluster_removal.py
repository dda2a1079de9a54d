"""A companion in mode enforce on a cluster of two real nodes: it removes dead phones, and never a live one."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from companion.simulator.phone import SimulatedPush
from tests.acceptance.cluster import (
    DOMAIN,
    INTERVAL,
    Cluster,
    Node,
    Setting,
    can_make_namespaces,
    cluster_with,
    find_quiet_port,
)
from tests.acceptance.conftest import Build
from tests.acceptance.crowd import Crowd, DrowsyPhone, LinphonePush, phone_at
from tests.sip_phone.phone import Phone, connect_from

pytestmark = pytest.mark.timeout(300)

SETTINGS = [
    Setting("default", "own"),
    Setting("cooperation", "advertised"),
    Setting("ownership", "own"),
    Setting("default", "wildcard"),
    Setting("ownership", "wildcard"),
    Setting("default", "same-wildcard"),
    Setting("ownership", "same-wildcard"),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
async def test_fates(
    build: Build, tmp_path: Path, setting: Setting, record_property: Callable[[str, object], None]
) -> None:
    """Of a crowd with many fates the dead are removed, those that may sleep are pushed, the live ones stay."""
    if setting.listening == "same-wildcard" and not can_make_namespaces():
        pytest.skip("two nodes with the same ports on 0.0.0.0 need network namespaces, and these need root")
    with cluster_with(build, tmp_path, setting) as cluster:
        async with Crowd(cluster) as crowd:
            sleepers = await begin(cluster, crowd)
            roaming = await crowd.add("roaming", phone_at(cluster.nodes[1].urls[1]))
            async with crowd.roaming(roaming, [url for node in cluster.nodes for url in node.urls], INTERVAL):
                await crowd.watch(8 * INTERVAL, 150)
            await roaming.die()
            await roaming.start()
            await crowd.check_registrations()
            record_property("gone_after", crowd.gone_after)
            pushes = [crowd.decisions(phone) for phone in sleepers]
            record_property("pushes", pushes)
            if setting.pinging == "ownership":
                assert all(("push", "pushed") in decisions for decisions in pushes)


async def begin(cluster: Cluster, crowd: Crowd) -> list[Phone]:
    """Fill the first node, let the second one join, and let phones die; return those that only fell asleep."""
    first, second = cluster.nodes
    await add_live(crowd, first, 3)
    await crowd.add("drowsy", DrowsyPhone(first.urls[0], f"drowsy@{DOMAIN}"))
    sharing = await crowd.add("sharing", phone_at(first.urls[0], source=first.host, source_port=find_quiet_port()))
    closed = [await crowd.add("closed", phone_at(first.urls[0]), is_live=False, must_go=True)]
    is_owned = cluster.setting.pinging == "ownership"
    # else the node that shares its pings may be one that can not reach it: a doubt, and few of them are asked at a time
    by_holder = is_owned or cluster.setting.listening != "same-wildcard"
    mute = [
        await crowd.add("mute", phone_at(first.urls[1]), is_live=False, must_go=by_holder),
        await crowd.add("mute-udp", phone_at(first.udp_url), is_live=False),
    ]
    sleepers = await add_sleepers(crowd, first)
    await crowd.answered()
    await cluster.join(second, sharing)
    await add_live(crowd, second, 2)
    # else a node may ping none of the phones on its listeners: no answer shows then that silence is the phone's
    closed.append(await crowd.add("closed-2", phone_at(second.urls[0]), is_live=False, must_go=is_owned))
    if is_owned:
        await crowd.answered()  # nothing is drawn from the silence of a phone that never answered
    for phone in [*mute, *sleepers]:
        phone.mute()
    await asyncio.gather(*(phone.die() for phone in closed))
    await share_ports(cluster, sharing)
    return sleepers


async def add_live(crowd: Crowd, node: Node, count: int) -> None:
    """Put live phones on each listener of a node."""
    for url in (*node.urls, node.udp_url):
        for _ in range(count):
            await crowd.add("live", phone_at(url))


async def add_sleepers(crowd: Crowd, node: Node) -> list[Phone]:
    """Add two phones of one AOR and SIP instance with push tokens of their own, and an older Linphone.

    Return those that are to fall asleep: the older one of the two, and the Linphone.
    """
    older = await crowd.add("twin", phone_at(node.urls[0], push=SimulatedPush("fcm", "token-a", "p")))
    token = SimulatedPush("fcm", "token-b", "p")
    await crowd.add("twin", Phone(node.urls[1], older.aor, instance=older.instance, push=token))
    return [older, await crowd.add("linphone", phone_at(node.urls[0], push=LinphonePush("tok")))]


async def share_ports(cluster: Cluster, phone: Phone) -> None:
    """Open connections from the address of a phone to other listeners, and close them."""
    host, _, port = phone.address.rpartition(":")
    first, second = cluster.nodes
    for url in (first.urls[1], first.tcp_url, second.urls[0], second.tcp_url):
        connection = await asyncio.to_thread(connect_from, host, int(port), url)
        connection.sendall(b"\r\n\r\n")
        await asyncio.sleep(0.2)  # a connection that is over at once may be none to OpenSIPS
        connection.close()
