"""The SIP trace of a device in a cluster of two real OpenSIPS: both nodes mirror it."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from companion.query.reader import Reader
from companion.simulator.redis import find_free_port
from companion.store.nodes import load_feeds
from companion.trace.packet import Packet
from tests.acceptance.conftest import PASSWORD, Build
from tests.acceptance.edge import Companion, device_of, edge_with, settled
from tests.acceptance.recorded import Line, WebPhone, line_of, lines_of
from tests.acceptance.tracing import DOMAIN, bridge_of, changes_for, filters, record, same, talk, trace

pytestmark = pytest.mark.timeout(300)


CROSSING = """    if ($socket_in(proto) =~ "^ws") {{
        $du = "sip:127.0.0.1:{other}";
        route(RELAY);
    }}

    lookup("location");"""
"""Calls of web phones go through the other node."""
FROM_PHONE = 'if ($socket_in(proto) =~ "^ws") fix_nated_contact();'
"""A node leaves the Contact alone that the other one has corrected."""
SHARED = """single-instance-no-db")"""
CLUSTER = """full-sharing-cluster")
modparam("usrloc", "location_cluster", 1)
modparam("clusterer", "db_mode", 0)
modparam("clusterer", "my_node_id", {own})
modparam("clusterer", "my_node_info", "cluster_id=1,url=bin:127.0.0.1:{bin}{flags}")
modparam("clusterer", "neighbor_node_info", "cluster_id=1,node_id={neighbour},url=bin:127.0.0.1:{far_bin}")"""


class Node(NamedTuple):
    """Hold the ports that the other node and the companion must know."""

    number: int
    hep: int
    sip: int
    bin: int

    def changes(self, other: "Node") -> dict[str, str]:
        """Return the changes of opensips.cfg for a node that shares usrloc, and calls through the other one."""
        changes = changes_for(self.hep)
        sockets = [changes["hep_udp:127.0.0.1:9061"], f"socket=udp:127.0.0.1:{self.sip}"]
        flags = ",flags=seed" if self.number == 1 else ""
        cluster = CLUSTER.format(own=self.number, bin=self.bin, flags=flags, neighbour=other.number, far_bin=other.bin)
        modules = 'loadmodule "proto_bin.so"\nloadmodule "clusterer.so"\n'
        return {
            **changes,
            "hep_udp:127.0.0.1:9061": "\n".join([*sockets, f"socket=bin:127.0.0.1:{self.bin}"]),
            'loadmodule "usrloc.so"': modules + changes['loadmodule "usrloc.so"'],
            '    lookup("location");': CROSSING.format(other=other.sip),
            SHARED: cluster,
            "    fix_nated_contact();": f"    {FROM_PHONE}",
        }


async def test_two_nodes(build: Build, tmp_path: Path) -> None:
    """A device is recorded on every node of its cluster: where it registers, and where its calls come through.

    Each message of a call that crosses the nodes is there once for each leg: the phone's, between the nodes, the other
    end's.
    """
    nodes = [Node(number, *(find_free_port() for _ in range(3))) for number in (1, 2)]
    buses = [f"tcp://127.0.0.1:{find_free_port()}" for _ in range(2)]
    folders = [tmp_path / name for name in ("n1", "n2")]
    for folder in folders:
        folder.mkdir()
    with (
        edge_with(build, folders[0], "trace", **nodes[0].changes(nodes[1])) as first,
        edge_with(build, folders[1], "trace", **nodes[1].changes(nodes[0])) as second,
    ):
        heps = [f"udp:127.0.0.1:{node.hep}" for node in nodes]
        tables = [
            {"node": node, "cluster": "c", "mi_url": edge.server.mi_url, "hep_to": hep}
            for node, edge, hep in zip(("n1", "n2"), (first, second), heps, strict=True)
        ]
        sections: dict[str, Any] = {
            "bridge": {"node": "n1", "hep": heps[0], "publish": buses[0]},
            "consumer": {"subscribe": buses},
            "opensips": tables,
        }
        datagram = f"udp:127.0.0.1:{second.datagram}"
        with (
            bridge_of(folders[1], node="n2", datagram=datagram, publish=buses[1], hep=heps[1]),
            Companion(tmp_path, first.datagram, first.server.mi_url, **sections) as companion,
        ):
            await settled(lambda: len(load_feeds(companion.store)) == 2, 30)
            async with WebPhone(first.server.ws_url, f"dave@{DOMAIN}", PASSWORD) as dave:
                device = device_of(first.server, dave)
                await record(companion, device)
                assert filters(companion, first)
                assert filters(companion, second)
                dave.log.clear()
                await dave.register()
                dave.url = second.server.ws_url
                await dave.reload()
                await same(companion, device, dave)
                assert {packet.node for packet in trace(companion, device)} == {"n1", "n2"}
                await settled(lambda: all(user(dave) in str(filters(companion, one)) for one in (first, second)))
                async with WebPhone(first.server.ws_url, f"alice@{DOMAIN}", PASSWORD) as alice:
                    for phone in (dave, alice):
                        phone.log.clear()
                    companion.store.connection.call("DEL", companion.store.keys.trace(device))
                    await talk(alice, dave)
                    await talk(dave, alice)
                    await same(companion, device, dave)
                    packets = trace(companion, device)
                    assert lines_of(packets, alice.addresses) == alice.log
                    check_middle(packets, dave, alice)
                    check_columns(companion, device)


def user(phone: WebPhone) -> str:
    """Return the user of its Contact."""
    return phone.uri.partition(":")[2].partition("@")[0]


def check_middle(packets: list[Packet], dave: WebPhone, alice: WebPhone) -> None:
    """Each message that both phones have went between the nodes once; a retransmission counts as the same."""
    ends = {*dave.addresses, *alice.addresses}
    middle = {(one.source, one.target, one.sip) for one in packets if not {one.source, one.target} & ends}
    between = Counter(name(line_of(sip, is_sent=True)) for _, _, sip in middle)
    forwarded = {*map(name, dave.log)} & {*map(name, alice.log)}
    assert len(forwarded) >= 2 * 8
    assert dict.fromkeys(forwarded, 1) == {message: between[message] for message in forwarded}


def name(line: Line) -> tuple[str, str, str]:
    """Return what a message has in common on all legs: its method or its status line, CSeq and Call-ID."""
    return line.start if line.start.startswith("SIP/") else line.start.split(" ")[0], line.cseq, line.call_id


def check_columns(companion: Companion, device: str) -> None:
    """The phone is left, both nodes have their columns, the other end is right."""
    page = Reader(companion.config, companion.store).trace(device)
    assert [one["name"] for one in page["participants"]] == ["Phone", "n2", "n1", "Other end"]
