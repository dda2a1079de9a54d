"""Nothing that a trace is stored in, or shown as, holds a secret of the phones: on a real OpenSIPS."""

import asyncio
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx2
import pytest

from companion.dashboard.markup import trace as trace_markup
from companion.query.reader import Reader
from companion.store.traces import load_trace
from companion.trace.packet import unpack
from tests.acceptance.caller import Dialog
from tests.acceptance.conftest import PASSWORD, Build
from tests.acceptance.edge import Companion, device_of, settled
from tests.acceptance.recorded import DeskPhone, LoggedPhone, WebPhone
from tests.acceptance.tracing import DOMAIN, record, recording, trace

pytestmark = pytest.mark.timeout(300)
TOKENS: Final = [f"t0ken{n}Secret" for n in range(1, 8)]
KEYS: Final = [f"k3y{n}Secret" for n in range(1, 8)]
"""What stands in contact URIs, and in bodies."""
SDP: Final = "\r\n".join(
    (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0",
        f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEYS[0]}|2^20|1:4",
        f"a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:{KEYS[1]};inline:{KEYS[2]}|1:2",
        f"a=ice-ufrag:abcd\r\na=ice-pwd:{KEYS[3]}\r\na=key-mgmt:mikey {KEYS[4]}\r\nk=clear:{KEYS[5]}\r\n",
    )
)
DIGITS: Final = f"Signal={KEYS[6]}\r\nDuration=160\r\n"
UNMASKED: Final = ("contact:", "corrections:", "push")
"""Keys of Redis that hold contact URIs as they are: docs/redis.md says why."""


class RfcPush:
    uri_params = f";pn-provider=fcm;pn-param={TOKENS[0]};pn-prid={TOKENS[1]}:remote&{TOKENS[2]}:voip"


class OldPush:
    uri_params = f";app-id={TOKENS[3]};pn-type=apple;pn-tok={TOKENS[4]};pn-voip-tok={TOKENS[5]}"


async def talk(caller: LoggedPhone, aor: str) -> None:
    """Call with keys in the offer, send a digit, and hang up."""
    answer = await caller.call(aor, SDP)
    assert answer.status == 200
    dialog = Dialog.made(answer)
    await caller.acknowledge(dialog)
    await caller.say(dialog, DIGITS, method="INFO")
    await caller.say(dialog, method="BYE")


def find_answers(phones: Iterable[LoggedPhone]) -> set[str]:
    """Return what each phone sent to prove its password: whoever has it may guess the password."""
    sent = "".join(text for phone in phones for text in phone.texts)
    return set(re.findall(r'\b(?:response|cnonce)="?([0-9a-zA-Z]{8,})', sent))


def dump(companion: Companion) -> Iterator[tuple[str, str]]:
    """Yield the content of all keys of Redis, messages unpacked, but for those that hold URIs on purpose."""
    connection, prefix = companion.store.connection, companion.store.keys.prefix
    reads: dict[str, tuple[str, tuple[Any, ...]]] = {
        "string": ("GET", ()),
        "hash": ("HGETALL", ()),
        "set": ("SMEMBERS", ()),
    }
    reads |= {"list": ("LRANGE", (0, -1)), "zset": ("ZRANGE", (0, -1)), "stream": ("XRANGE", ("-", "+"))}
    for key in map(str, connection.call("KEYS", f"{prefix}*")):
        name = re.sub(r"^\{.*?\}:", "", key.removeprefix(prefix))
        if "trace:" in key:
            device = key.partition("trace:")[2]
            yield key, "".join(unpack(packed).sip.decode() for packed in load_trace(companion.store, device))
        elif not name.startswith(UNMASKED):
            command, arguments = reads.get(str(connection.call("TYPE", key)), ("", ()))
            yield key, str(connection.call(command, key, *arguments)) if command else ""


async def run_commands(companion: Companion, device: str) -> list[tuple[str, str]]:
    """Read a trace, and the audit, with commands."""
    shows = (("trace", "show", device, "--texts"), ("trace", "export", device, "-"), ("remediations", "--json"))
    return [(" ".join(one), (await companion.cli(*one))[1]) for one in shows]


async def read(companion: Companion, device: str) -> list[tuple[str, str]]:
    """Read a trace over HTTP, as a page, and in the log."""
    outputs: list[tuple[str, str]] = []
    base = f"http://{companion.config.api.listen}/api/v1/devices/{quote(device, safe='')}"
    async with httpx2.AsyncClient() as client:
        for end in ("", "/trace", "/trace.txt", "/trace.pcap", "/timeline"):
            answer = await client.get(base + end)
            assert answer.status_code == 200
            outputs.append((f"API {end}", answer.content.decode("latin-1")))
    page = await asyncio.to_thread(Reader(companion.config, companion.store).trace, device)
    every_step = frozenset(step["number"] for step in page["steps"])
    outputs.append(("page", json.dumps([trace_markup.ladder(page, every_step), trace_markup.explanation(page)])))
    outputs.append(("log", companion.log))
    return outputs


async def test_no_secret(build: Build, tmp_path: Path) -> None:
    """Digest answers, push tokens, SRTP keys, ICE passwords and typed digits are in no store and in no answer."""
    with recording(build, tmp_path) as (edge, companion):
        web: Any = {"url": edge.server.ws_url, "password": PASSWORD}
        dave, eve = WebPhone(aor=f"dave@{DOMAIN}", push=RfcPush(), **web), WebPhone(aor=f"eve@{DOMAIN}", **web)
        bob = DeskPhone(f"udp://127.0.0.1:{edge.server.udp_port}", f"bob@{DOMAIN}", PASSWORD, push=OldPush())
        async with dave, eve, bob:
            devices = [device_of(edge.server, phone) for phone in (dave, eve, bob)]
            for device in devices:
                await record(companion, device)
            for phone in (dave, eve, bob):
                await phone.register()
            await talk(dave, bob.aor)
            await talk(bob, eve.aor)
            await settled(lambda: all(has_bye(companion, device) for device in devices))
            secrets = {*TOKENS[:6], *KEYS, PASSWORD, *find_answers((dave, eve, bob))}
            assert len(secrets) >= 14 + 2 * 3
            sent = "".join(text for phone in (dave, eve, bob) for text in phone.texts)
            assert not [secret for secret in secrets - {PASSWORD} if secret not in sent]
            outputs = [*dump(companion), *await run_commands(companion, devices[0])]
            assert sum("trace:" in name for name, _ in outputs) == 3
            for device in devices:
                outputs += await read(companion, device)
            assert all(
                "ice-ufrag:abcd" in text for name, text in outputs if name in {"API /trace.txt", "API /trace.pcap"}
            )
            leaks = {(name, secret) for name, text in outputs for secret in secrets if secret in text}
            assert leaks == set()


def has_bye(companion: Companion, device: str) -> bool:
    return any(packet.sip.startswith(b"BYE ") for packet in trace(companion, device))
