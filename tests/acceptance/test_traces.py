"""The SIP trace of one device on a real OpenSIPS: every message that its phone has in its own log, and no other's."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from companion.recording.recordings import start_recording, stop_recording
from companion.simulator.redis import find_free_port
from companion.store.traces import load_trace
from companion.trace.packet import Packet, drop_copies, unpack
from tests.acceptance.caller import Dialog
from tests.acceptance.conftest import Build
from tests.acceptance.edge import Companion, Edge, device_of, edge_with, settled
from tests.acceptance.recorded import WebPhone, lines_of

pytestmark = pytest.mark.timeout(300)
DOMAIN = "127.0.0.1"


@pytest.fixture
def edge(build: Build, tmp_path: Path) -> Iterator[Edge]:
    sender = find_free_port()
    with edge_with(build, tmp_path, "trace", **{"hep_udp:127.0.0.1:9061": f"hep_udp:127.0.0.1:{sender}"}) as edge:
        yield edge


@pytest.fixture
def companion(edge: Edge, tmp_path: Path) -> Iterator[Companion]:
    bridge = {"hep": f"udp:127.0.0.1:{find_free_port()}"}
    with Companion(tmp_path, edge.datagram, edge.server.mi_url, bridge=bridge) as companion:
        yield companion


def trace(companion: Companion, device: str) -> list[Packet]:
    return drop_copies(map(unpack, load_trace(companion.store, device)))


async def record(companion: Companion, device: str) -> None:
    await settled(lambda: companion.statuses([device]) == ["online"])
    started = await start_recording(companion.config, companion.store, device, 5, "test")
    assert not started.failures


async def test_call_between_web_phones(edge: Edge, companion: Companion) -> None:
    """A call to a device with a random contact user: each message of its own leg is there once and in order."""
    dave, alice = WebPhone(edge.server.ws_url, f"dave@{DOMAIN}"), WebPhone(edge.server.ws_url, f"alice@{DOMAIN}")
    bob = WebPhone(edge.server.ws_url, f"bob@{DOMAIN}")
    async with dave, alice, bob:
        device = device_of(edge.server, dave)
        await record(companion, device)
        dave.log.clear()
        await dave.register()
        answer = await alice.call(dave.aor, "v=0\r\n")
        dialog = Dialog.made(answer)
        await alice.acknowledge(dialog)
        await alice.say(dialog, "v=0\r\n")
        await alice.acknowledge(dialog)
        await alice.say(dialog, method="BYE")
        await alice.call(bob.aor, "v=0\r\n")
        await settled(lambda: len(lines_of(trace(companion, device), dave.addresses)) >= len(dave.log), 20)
        await asyncio.sleep(1)
        packets = trace(companion, device)
        for packet in packets:
            print(packet.source, packet.target, packet.sip.split(b"\r\n")[0])
        assert lines_of(packets, dave.addresses) == dave.log
        assert lines_of(packets, bob.addresses) == []
        call = [line for line in alice.log if line.call_id == answer.first("call-id")]
        assert lines_of(packets, alice.addresses) == call
        await stop_recording(companion.config, companion.store, device, "test")
