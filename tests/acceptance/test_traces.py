"""The SIP trace of one device on a real OpenSIPS: every message that its phone has in its own log, and no other's."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from companion.recording.recordings import start_recording, stop_recording
from companion.simulator.redis import find_free_port
from companion.store.nodes import load_feeds
from companion.store.traces import load_trace
from companion.trace.legs import arrange_packets
from companion.trace.packet import Packet, unpack
from tests.acceptance.caller import Dialog
from tests.acceptance.conftest import PASSWORD, Build
from tests.acceptance.edge import Companion, Edge, device_of, edge_with, settled
from tests.acceptance.recorded import DeskPhone, LoggedPhone, WebPhone, lines_of

pytestmark = pytest.mark.timeout(300)
DOMAIN = "127.0.0.1"
OTHER = "other.example"
NUMBER = "4912345"
AUTH = """
    $avp(user) = $tU;
    $avp(password) = "wonder";
    if (!pv_www_authorize("127.0.0.1")) {
        www_challenge("127.0.0.1", "auth", "MD5");
        exit;
    }
    # Store the source address as"""
AUTH_MODULE = """loadmodule "auth.so"
modparam("auth", "username_spec", "$avp(user)")
modparam("auth", "password_spec", "$avp(password)")
modparam("auth", "calculate_ha1", 1)
loadmodule "usrloc.so\""""
EVERY_CALL = """
modparam("proto_hep", "hep_id", "[companion] 127.0.0.1:{hep}; transport=udp; version=3")
modparam("tracer", "trace_id", "[companion]uri=hep:companion")
"""
BODY = "v=0\r\na=ice-pwd:s3cr3tV4lue\r\n"


def changes_for(hep: int, *, use_domain: int = 1, every_call: bool = False) -> dict[str, str]:
    """Return the changes of opensips.cfg: passwords, a second domain, a number, ports, and the mirror of every call."""
    mirror = EVERY_CALL.format(hep=hep).replace("\nm", "\n#trace m") if every_call else ""
    number = f'    if ($rU == "{NUMBER}") $rU = "dave";\n    lookup("location");'
    return {
        "hep_udp:127.0.0.1:9061": f"hep_udp:127.0.0.1:{find_free_port()}",
        "#alias=sip.example.com": f"alias={OTHER}",
        'loadmodule "usrloc.so"': AUTH_MODULE,
        "\n    # Store the source address as": AUTH,
        '"use_domain", 1) # alice': f'"use_domain", {use_domain}) # alice',
        '"fr_timeout", 5)': '"fr_timeout", 2)',
        '    lookup("location");': number + ('\n    trace("companion", "t", "sip");' if every_call else ""),
        'loadmodule "tracer.so"': 'loadmodule "tracer.so"' + mirror,
    }


@contextmanager
def recording(
    build: Build, folder: Path, *, use_domain: int = 1, every_call: bool = False
) -> Iterator[tuple[Edge, Companion]]:
    """The shipped opensips.cfg with tracing and passwords, and a companion beside it."""
    hep = find_free_port()
    changes = changes_for(hep, use_domain=use_domain, every_call=every_call)
    with (
        edge_with(build, folder, "trace", **changes) as edge,
        Companion(folder, edge.datagram, edge.server.mi_url, bridge={"hep": f"udp:127.0.0.1:{hep}"}) as companion,
    ):
        edge.server._domain = bool(use_domain)
        yield edge, companion


@contextmanager
def bridge_of(folder: Path, **table: str) -> Iterator[None]:
    """`companion run bridge` in a process of its own."""
    environment = {**os.environ, "COMPANION_BRIDGE": json.dumps(table)}
    with (folder / "bridge.log").open("wb") as log:
        command = [sys.executable, "-m", "companion", "run", "bridge"]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def trace(companion: Companion, device: str) -> list[Packet]:
    return arrange_packets(map(unpack, load_trace(companion.store, device)))


async def record(companion: Companion, device: str) -> None:
    await settled(lambda: companion.statuses([device]) == ["online"])
    started = await start_recording(companion.config, companion.store, device, 5, "test")
    assert not started.failures


async def talk(caller: LoggedPhone, callee: LoggedPhone | str) -> None:
    """Call, re-INVITE, and hang up."""
    dialog = Dialog.made(await caller.call(callee if isinstance(callee, str) else callee.aor, BODY))
    await caller.acknowledge(dialog)
    await caller.say(dialog, BODY)
    await caller.acknowledge(dialog)
    await caller.say(dialog, method="BYE")


async def same(companion: Companion, device: str, phone: LoggedPhone) -> None:
    """Wait until the trace has as many messages of a phone as the phone, and compare them."""
    with suppress(TimeoutError):
        await settled(lambda: len(lines_of(trace(companion, device), phone.addresses)) >= len(phone.log), 15)
    assert phone.log
    await asyncio.sleep(0.7)
    assert lines_of(trace(companion, device), phone.addresses) == phone.log


@pytest.mark.parametrize("use_domain", [1, 0])
async def test_web_phone(build: Build, tmp_path: Path, use_domain: int) -> None:
    """Registration with a challenge, calls both ways, cancel, busy, a hang, a reload, the end: all is there, once.

    Nothing is there of the same user in another domain, nor of a call between others.
    """
    with recording(build, tmp_path, use_domain=use_domain) as (edge, companion):
        url = edge.server.ws_url
        dave = WebPhone(url, f"dave@{DOMAIN}", PASSWORD)
        alice, bob, other = (
            WebPhone(url, aor, PASSWORD)
            for aor in (f"alice@{DOMAIN}", f"bob@{DOMAIN}", f"{'dave' if use_domain else 'eve'}@{OTHER}")
        )
        async with dave, alice, bob, other:
            device = device_of(edge.server, dave)
            await record(companion, device)
            for phone in (dave, alice, bob, other):
                phone.log.clear()
            await dave.register()
            await talk(alice, dave)
            await talk(dave, alice)
            dave.reply = "180 Ringing"
            await alice.cancel(dave.aor)
            dave.reply = "486 Busy Here"
            await alice.call(dave.aor, BODY)
            dave.reply = "200 OK"
            dave.mute()
            assert (await alice.call(dave.aor, BODY)).status >= 400
            dave.unmute()
            await same(companion, device, dave)
            await dave.reload()
            await settled(
                lambda: any(
                    "callee" in one and dave.uri.split(":")[1].split("@")[0] in one for one in filters(companion, edge)
                )
            )
            await talk(alice, dave)
            await bob.call(alice.aor, BODY)
            await talk(bob, other)
            await dave.unregister()
            await same(companion, device, dave)
            packets = trace(companion, device)
            assert lines_of(packets, other.addresses) == lines_of(packets, bob.addresses) == []
            await show(companion, device, dave)
            await stop_recording(companion.config, companion.store, device, "test")
            assert filters(companion, edge) == []


async def show(companion: Companion, device: str, dave: LoggedPhone) -> None:
    """Read the trace by every way, and look for secrets in each."""
    responses = [one.sip for one in trace(companion, device)]
    assert any(b"Authorization: Digest" in sip and b"response=***" in sip for sip in responses)
    code, drawn = await companion.cli("trace", "show", device, "--texts")
    assert code == 0
    assert "REGISTER" in drawn
    base = f"http://{companion.config.api.listen}/api/v1/devices/{quote(device, safe='')}/trace"
    async with httpx2.AsyncClient() as client:
        answers = [(await client.get(base + end)).content for end in ("", ".txt", ".pcap")]
    connection = companion.store.connection
    key = companion.store.keys.trace(device)
    packed = b"".join(connection.call_for_bytes("ZRANGE", key, 0, -1))
    for content in (*answers, drawn.encode(), packed, *responses):
        assert b"s3cr3tV4lue" not in content
        assert b'response="' not in content


def filters(companion: Companion, edge: Edge) -> list[str]:
    """Return the filters of the dynamic traces that OpenSIPS has."""
    for method in ("trace", "tracer:trace"):
        body = {"jsonrpc": "2.0", "id": 1, "method": method}
        answer = httpx2.post(edge.server.mi_url, json=body).json()
        if "result" in answer:
            rows = answer["result"]["trace destinations"]
            return [json.dumps(row["filters"]) for row in rows if row["name"].startswith("companion-")]
    raise AssertionError


@pytest.mark.parametrize("use_domain", [1, 0])
async def test_desk_phone(build: Build, tmp_path: Path, use_domain: int) -> None:
    """A phone over UDP whose contact user is that of its AOR: both legs of its calls are there."""
    with recording(build, tmp_path, use_domain=use_domain) as (edge, companion):
        dave = DeskPhone(f"udp://127.0.0.1:{edge.server.udp_port}", f"dave@{DOMAIN}", PASSWORD)
        alice = WebPhone(edge.server.ws_url, f"alice@{DOMAIN}", PASSWORD)
        async with dave, alice:
            device = device_of(edge.server, dave)
            await record(companion, device)
            dave.log.clear()
            alice.log.clear()
            await talk(alice, dave)
            await same(companion, device, dave)
            assert lines_of(trace(companion, device), alice.addresses) == alice.log
            other = device_of(edge.server, alice)
            await record(companion, other)  # two recordings at once: messages that both catch are there once in each
            dave.log.clear()
            alice.log.clear()
            companion.store.connection.call("DEL", companion.store.keys.trace(device))
            await talk(alice, dave)
            await same(companion, device, dave)
            await same(companion, other, alice)
            await stop_recording(companion.config, companion.store, device, "test")
            assert filters(companion, edge)
            assert not any("dave" in one for one in filters(companion, edge))
            await stop_recording(companion.config, companion.store, other, "test")
            assert filters(companion, edge) == []


async def test_call_to_a_number(build: Build, tmp_path: Path) -> None:
    """With one line in the script also a call to a number that is mapped to the device is whole."""
    with recording(build, tmp_path, every_call=True) as (edge, companion):
        dave, alice, bob = (
            WebPhone(edge.server.ws_url, f"{user}@{DOMAIN}", PASSWORD) for user in ("dave", "alice", "bob")
        )
        async with dave, alice, bob:
            device = device_of(edge.server, dave)
            await record(companion, device)
            for phone in (dave, alice):
                phone.log.clear()
            await talk(alice, f"{NUMBER}@{DOMAIN}")
            await talk(bob, alice)
            await same(companion, device, dave)
            packets = trace(companion, device)
            assert lines_of(packets, bob.addresses) == []
            assert [line for line in alice.log if line.is_sent][:1] == lines_of(packets, alice.addresses)[:1]


async def test_in_the_middle_of_a_call(build: Build, tmp_path: Path) -> None:
    """A recording that begins during a call has the rest of it; OpenSIPS may restart, and the companion die."""
    with recording(build, tmp_path) as (edge, companion):
        dave, alice = (WebPhone(edge.server.ws_url, f"{user}@{DOMAIN}", PASSWORD) for user in ("dave", "alice"))
        async with dave, alice:
            device = device_of(edge.server, dave)
            dialog = Dialog.made(await alice.call(dave.aor, BODY))
            await alice.acknowledge(dialog)
            await record(companion, device)
            dave.log.clear()
            await alice.say(dialog, BODY)
            await alice.acknowledge(dialog)
            await alice.say(dialog, method="BYE")
            await same(companion, device, dave)
        edge.server.kill()
        edge.server.start()
        edge.server.wait()
        await settled(lambda: len(filters(companion, edge)) >= 2, 30)
        async with WebPhone(edge.server.ws_url, f"dave@{DOMAIN}", PASSWORD, instance=dave.instance) as again:
            await same(companion, device, again)


async def test_two_nodes(build: Build, tmp_path: Path) -> None:
    """A device is recorded on every node of its cluster: also where it registers later."""
    ports = [find_free_port() for _ in range(2)]
    buses = [f"tcp://127.0.0.1:{find_free_port()}" for _ in range(2)]
    folders = [tmp_path / name for name in ("n1", "n2")]
    for folder in folders:
        folder.mkdir()
    with (
        edge_with(build, folders[0], "trace", **changes_for(ports[0])) as first,
        edge_with(build, folders[1], "trace", **changes_for(ports[1])) as second,
    ):
        heps = [f"udp:127.0.0.1:{port}" for port in ports]
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
