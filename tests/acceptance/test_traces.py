"""The SIP trace of one device on a real OpenSIPS: every message that its phone has in its own log, and no other's."""

from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from companion.recording.recordings import stop_recording
from tests.acceptance.caller import Dialog
from tests.acceptance.conftest import PASSWORD, Build
from tests.acceptance.edge import Companion, device_of, settled
from tests.acceptance.recorded import DeskPhone, LoggedPhone, WebPhone, lines_of
from tests.acceptance.tracing import BODY, DOMAIN, NUMBER, OTHER, filters, record, recording, same, talk, trace

pytestmark = pytest.mark.timeout(300)


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
