"""A real OpenSIPS that mirrors SIP messages, the companion beside it, and what both hold of a device."""

import asyncio
import difflib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from companion.recording.recordings import start_recording
from companion.simulator.redis import find_free_port
from companion.store.traces import load_trace
from companion.trace.legs import arrange_packets
from companion.trace.packet import Packet, unpack
from tests.acceptance.caller import Dialog
from tests.acceptance.conftest import Build
from tests.acceptance.edge import Companion, Edge, edge_with, settled
from tests.acceptance.recorded import LoggedPhone, lines_of

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
    await acknowledge(caller, callee, dialog)
    await caller.say(dialog, BODY)
    await acknowledge(caller, callee, dialog)
    await caller.say(dialog, method="BYE")


async def acknowledge(caller: LoggedPhone, callee: LoggedPhone | str, dialog: Dialog) -> None:
    """Send an ACK, and wait until it is there: what is sent right behind it may overtake it in OpenSIPS."""
    await caller.acknowledge(dialog)
    ack = f"{dialog.cseq} ACK", dialog.call_id
    if isinstance(callee, LoggedPhone):
        await settled(lambda: any(line[2:] == ack for line in callee.log))


async def same(companion: Companion, device: str, phone: LoggedPhone) -> None:
    """Wait until the trace has as many messages of a phone as the phone, and compare them."""
    with suppress(TimeoutError):
        await settled(lambda: len(lines_of(trace(companion, device), phone.addresses)) >= len(phone.log), 15)
    assert phone.log
    await asyncio.sleep(0.7)
    lines = lines_of(trace(companion, device), phone.addresses)
    assert lines == phone.log, "\n".join(difflib.ndiff(list(map(str, phone.log)), list(map(str, lines))))


def filters(companion: Companion, edge: Edge) -> list[str]:
    """Return the filters of the dynamic traces that OpenSIPS has."""
    for method in ("trace", "tracer:trace"):
        body = {"jsonrpc": "2.0", "id": 1, "method": method}
        answer = httpx2.post(edge.server.mi_url, json=body).json()
        if "result" in answer:
            rows = answer["result"]["trace destinations"]
            return [json.dumps(row["filters"]) for row in rows if row["name"].startswith("companion-")]
    raise AssertionError
