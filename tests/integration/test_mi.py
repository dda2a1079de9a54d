"""The MI client against the simulated OpenSIPS and against servers that misbehave."""

import asyncio
import json
import logging
import shutil
import socket
import ssl
import subprocess
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from companion import log, metrics
from companion.errors import ConfigError, MiCallError, MiRefusedError, MiUnreachableError
from companion.opensips import mi
from companion.opensips.mi import Mi
from companion.simulator.mi_server import Fault
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone, SimulatedPush
from tests.integration.conftest import eventually


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mi, "PAUSES", (0.01, 0.01))


@pytest.fixture
async def opensips() -> AsyncIterator[SimulatedOpenSIPS]:
    phones = [SimulatedPhone("alice", "a1"), SimulatedPhone("bob", "b1", push=SimulatedPush("fcm", "token", "proj-1"))]
    async with SimulatedOpenSIPS("one", phones, events_to="", ping_interval=0.2, ping_threshold=0.15) as opensips:
        await eventually(lambda: len(opensips.contacts) == 2)
        yield opensips


@pytest.fixture
async def client(opensips: SimulatedOpenSIPS) -> AsyncIterator[Mi]:
    async with Mi(opensips.mi_url, timeout=2) as client:
        yield client


def called(opensips: SimulatedOpenSIPS) -> list[str]:
    return [call.method for call in opensips.mi_calls]


async def test_showing_a_contact(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """An AOR's contacts come typed; one that OpenSIPS does not know has none."""
    (contact,) = await client.show_contact("location", "bob")

    assert (contact.domain, contact.aor, contact.uri) == ("location", "bob", opensips.find_phone("bob").uri)
    assert (contact.instance, contact.state, contact.push) == ("urn:uuid:b1", "active", True)
    assert contact.received == f"sip:{contact.received[4:].split(';')[0]};transport=ws"
    assert await client.show_contact("location", "nobody") == []


async def test_removing_a_contact(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """The first removal removes, the second finds it gone."""
    uri = opensips.find_phone("alice").uri

    assert await client.remove_contact("location", "alice", uri) == "removed"
    assert await client.remove_contact("location", "alice", uri) == "already-gone"


async def test_raising_an_event(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """Named parameters reach the script; an event that no route names is a 404."""
    await client.raise_event("E_COMPANION_PUSH", {"aor": "bob", "uri": opensips.find_phone("bob").uri})
    assert json.loads(opensips.mi_calls[-1].params["params"])["aor"] == "bob"

    with pytest.raises(MiCallError, match="Event not registered") as refused:
        await client.raise_event("E_NOT_THERE", {})
    assert (refused.value.code, refused.value.gone) == (404, False)


async def test_an_unknown_table(client: Mi) -> None:
    """A table that OpenSIPS does not have says nothing of a contact: it is an error, and not "already gone"."""
    with pytest.raises(MiCallError, match="Table not found"):
        await client.show_contact("elsewhere", "bob")
    with pytest.raises(MiCallError, match="Table not found"):
        await client.remove_contact("elsewhere", "bob", "sip:bob@192.0.2.1")


async def test_version_and_up_time(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """The version is a number, and the up time seconds that fall with a restart."""
    opensips.mi.started_at -= 500

    assert await client.version() == "3.6.8"
    assert 500 <= await client.uptime_seconds() < 530
    opensips.restart()
    assert await client.uptime_seconds() < 30


async def test_a_dump_has_every_contact(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """A dump gives what show_contact gives, of all AORs."""
    dumped = {contact.aor: contact async for contact in client.dump()}

    assert set(dumped) == {"alice", "bob"}
    (bob,) = await client.show_contact("location", "bob")
    assert dumped["bob"].uri == bob.uri


@pytest.mark.parametrize("method", ["ul_rm_aor", "shutdown", "", "UL_DUMP"])
async def test_other_methods_are_never_sent(opensips: SimulatedOpenSIPS, client: Mi, method: str) -> None:
    """What is not in the list is a ValueError, before anything is sent."""
    with pytest.raises(ValueError, match="not a method"):
        await client.call(method)
    assert opensips.mi_calls == []


@pytest.mark.parametrize("wrong", ["", None, 5])
async def test_names_must_be_text(opensips: SimulatedOpenSIPS, client: Mi, wrong: Any) -> None:
    """An empty name, or one that is no text, is never sent: it would lock OpenSIPS' table."""
    with pytest.raises(ValueError, match="contact must be"):
        await client.remove_contact("location", "alice", wrong)
    with pytest.raises(ValueError, match="aor must be"):
        await client.show_contact("location", wrong)
    assert opensips.mi_calls == []


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.SERVER_ERROR, Fault.CLOSE])
async def test_reads_are_tried_three_times(opensips: SimulatedOpenSIPS, client: Mi, fault: Fault) -> None:
    """A read outlives two failures, not three."""
    opensips.mi_server.fail(fault, times=2)
    assert await client.version() == "3.6.8"
    opensips.mi_server.fail(fault, times=3)
    with pytest.raises(MiUnreachableError):
        await client.version()
    assert await client.version() == "3.6.8"


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.SERVER_ERROR, Fault.CLOSE, Fault.CLOSE_AFTER])
async def test_changes_are_sent_once(opensips: SimulatedOpenSIPS, client: Mi, fault: Fault) -> None:
    """What changes something is not sent again, whether or not it was done."""
    uri = opensips.find_phone("alice").uri
    opensips.mi_server.fail(fault, times=1)

    with pytest.raises(MiUnreachableError):
        await client.remove_contact("location", "alice", uri)
    assert called(opensips) == (["ul_rm_contact"] if fault is Fault.CLOSE_AFTER else [])


async def test_a_dump_is_asked_for_once(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """A dump that fails is not asked for again at once: a big one holds OpenSIPS up."""
    opensips.mi_server.fail(Fault.SERVER_ERROR, times=1)
    with pytest.raises(MiUnreachableError, match="HTTP 500"):
        _ = [contact async for contact in client.dump()]
    assert len([contact async for contact in client.dump()]) == 2


async def test_a_hanging_mi_is_given_up(opensips: SimulatedOpenSIPS) -> None:
    """The timeout is for the whole request, and frees the way for the next."""
    async with Mi(opensips.mi_url, timeout=0.3) as client:
        opensips.mi_server.fail(Fault.HANG, times=1)
        with pytest.raises(MiUnreachableError, match=r"no answer within 0\.3 s"):
            await client.raise_event("E_COMPANION_PUSH", {})
        assert await client.version() == "3.6.8"


async def test_one_request_at_a_time(opensips: SimulatedOpenSIPS, client: Mi) -> None:
    """Ten calls at once go one after the other; those who wait do not time out."""
    opensips.mi_server.slow_seconds = 0.3
    opensips.mi_server.fail(Fault.SLOW)

    answers = await asyncio.gather(*(client.version() for _ in range(10)))

    assert answers == ["3.6.8"] * 10


async def test_a_dump_left_early_lets_others_in(client: Mi) -> None:
    """Who leaves a dump after the first contact does not block the node."""
    async with aclosing(client.dump()) as contacts:
        await anext(contacts)
    assert await client.version() == "3.6.8"


async def test_nobody_there() -> None:
    """A closed port is unreachable, at once."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Mi(f"http://127.0.0.1:{port}/mi") as client:
        with pytest.raises(MiUnreachableError):
            await client.version()


async def test_credentials(opensips: SimulatedOpenSIPS, caplog: pytest.LogCaptureFixture) -> None:
    """A login is sent from the arguments or the URL; a wrong one is refused once, and never shown."""
    opensips.mi_server._login = "me:s3cret"
    url = opensips.mi_url
    for logger in ("httpx2", "httpcore2", "companion"):
        caplog.set_level("DEBUG", logger)
    for right in (Mi(url, user="me", password="s3cret"), Mi(url.replace("//", "//me:s3cret@"))):
        async with right:
            assert await right.version() == "3.6.8"
    async with Mi(url.replace("//", "//me:wr0ng@")) as wrong:
        with pytest.raises(MiRefusedError) as refused:
            await wrong.version()
        assert wrong.url == url
    assert "wr0ng" not in str(refused.value)
    assert "s3cret" not in caplog.text


def test_logging_keeps_http_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one line a call, and nothing of what is sent, even when everything else is logged."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    log.configure(level="debug")
    assert not logging.getLogger("httpx2").isEnabledFor(logging.INFO)
    assert not logging.getLogger("httpcore2.http11").isEnabledFor(logging.DEBUG)


@pytest.mark.parametrize("url", ["127.0.0.1:8888/mi", "ftp://h/mi", "http://", "http://h:port/"])
async def test_urls_that_are_none(url: str) -> None:
    """A URL that can not be used is a ConfigError that does not repeat it: it may hold a password."""
    with pytest.raises(ConfigError, match="URL of MI"):
        Mi(url)


@asynccontextmanager
async def serving(
    answer: bytes, head: str = "200 OK", more: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server that gives everyone this answer; its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(f"HTTP/1.1 {head}\r\n{more}Connection: close\r\n\r\n".encode() + answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield url_of(server).replace("http:", "https:" if tls else "http:")


def url_of(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mi"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b'"OK"',
        b'{"result":{},"id":1}',
        b'{"jsonrpc":"2.0","result":{"Up time":"1 [sec]"},"id":99}',
        b'{"jsonrpc":"2.0","result":{"Up time":"1 [sec]"}}',
        b'{"jsonrpc":"2.0","result":{"Up time":"soon"},"id":1}',
        b'{"jsonrpc":"2.0","result":["Up time"],"id":1}',
        b'{"jsonrpc":"2.0","id":1}',
        b"[" * 100_000,
    ],
)
async def test_answers_that_are_none(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no JSON-RPC, answers something else or lacks what was asked for, is unreachable."""
    monkeypatch.setattr(mi, "PAUSES", ())
    async with serving(answer) as url, Mi(url) as client:
        with pytest.raises(MiUnreachableError):
            await client.uptime_seconds()


async def test_redirects_are_not_followed(opensips: SimulatedOpenSIPS) -> None:
    """A redirect is a failure: credentials and commands go nowhere else."""
    async with serving(b"", "307 Temporary Redirect", f"Location: {opensips.mi_url}\r\n") as url, Mi(url) as client:
        with pytest.raises(MiUnreachableError, match="HTTP 307"):
            await client.version()
    assert opensips.mi_calls == []


async def test_long_answers_are_cut_off() -> None:
    """An answer without end costs a bounded amount of memory."""
    async with serving(b'{"jsonrpc":"' + b"2" * (mi.MAX_ANSWER_BYTES + 10)) as url, Mi(url) as client:
        with pytest.raises(MiUnreachableError, match="too long"):
            await client.version()


async def test_errors_of_mi_are_fit_to_be_shown() -> None:
    """A JSON-RPC error keeps code and text, without what a terminal would act on; nothing in it is trusted."""
    answer = b'{"jsonrpc":"2.0","error":{"code":500,"message":"no\\u001b[31m","data":"x"},"id":1}'
    async with serving(answer) as url, Mi(url) as client:
        with pytest.raises(MiCallError) as refused:
            await client.version()
    assert (refused.value.code, refused.value.message, refused.value.gone) == (500, "no\ufffd[31m: x", False)


def dump_of(records: list[Any], *, number: int = 1) -> bytes:
    domain = {"name": "location", "hash_size": 512, "AORs": records}
    return json.dumps({"jsonrpc": "2.0", "result": {"Domains": [domain]}, "id": number}).encode()


CONTACT = {"Contact": "sip:a@h", "Expires": 5, "User-agent": "x" * 500}


async def test_contacts_that_are_none_are_counted() -> None:
    """Broken records in a dump are left out and counted; the others come through."""
    before = metrics.total(metrics.INVALID, where="mi")
    broken = [7, {"AOR": "b", "Contacts": [CONTACT | {"Contact": 5}]}, {"Contacts": [CONTACT]}]
    broken += [{"AOR": "c", "Contacts": {}}, {"AOR": "d", "Contacts": []}, {"AOR": "e"}]
    async with serving(dump_of([*broken, {"AOR": "a", "Contacts": [CONTACT]}])) as url, Mi(url) as client:
        assert [contact.aor async for contact in client.dump()] == ["a"]
    assert metrics.total(metrics.INVALID, where="mi") - before == 4


@pytest.mark.parametrize("size", [60, 300, -1])
async def test_a_dump_cut_short_is_an_error(size: int) -> None:
    """Whoever takes the contacts of a dump that broke off learns that they are not all."""
    answer = dump_of([{"AOR": "a", "Contacts": [CONTACT]}])[:size]
    async with serving(answer) as url, Mi(url) as client:
        with pytest.raises(MiUnreachableError):
            _ = [contact async for contact in client.dump()]


async def test_a_dump_that_is_refused() -> None:
    """An error in place of a dump is a MiCallError."""
    answer = b'{"jsonrpc":"2.0","error":{"code":-32603,"message":"no memory"},"id":1}'
    async with serving(answer) as url, Mi(url) as client:
        with pytest.raises(MiCallError, match="no memory"):
            _ = [contact async for contact in client.dump()]


async def test_a_slow_dump_is_given_up() -> None:
    """A dump has a time of its own, and what it gave until then is no whole dump."""
    stopped = asyncio.Event()

    async def dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + dump_of([{"AOR": "a", "Contacts": [CONTACT] * 3}])[:-14])
        await stopped.wait()
        writer.close()

    async def take(client: Mi) -> None:
        async for contact in client.dump(seconds=0.3):
            uris.append(contact.uri)  # noqa: PERF401 - what came before the error counts

    uris: list[str] = []
    async with await asyncio.start_server(dawdle, "127.0.0.1", 0) as server, Mi(url_of(server)) as client:
        with pytest.raises(MiUnreachableError, match="no answer within"):
            await take(client)
        stopped.set()
    assert len(uris) == 3


async def test_a_big_dump_is_never_held_whole() -> None:
    """The memory a dump takes does not grow with its length."""
    head, tail = dump_of([]).split(b"]", 1)
    records = 20_000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + head)
        for number in range(records):
            writer.write(b"," * bool(number) + json.dumps({"AOR": f"a{number}", "Contacts": [CONTACT]}).encode())
            await writer.drain()
        writer.write(b"]" + tail)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, Mi(url_of(server)) as client:
        tracemalloc.start()
        count = sum([1 async for _ in client.dump()])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == records
    assert peak < records * len(json.dumps(CONTACT)) / 4


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a self-signed certificate for 127.0.0.1 and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=mi", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, check=True, capture_output=True)
    file = tmp_path / "both.pem"
    file.write_text((tmp_path / "cert.pem").read_text() + (tmp_path / "key.pem").read_text())
    return file


async def test_tls_is_verified(certificate: Path) -> None:
    """A certificate that nobody vouches for is refused before anything is sent; with its CA file it is taken."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    answer = b'{"jsonrpc":"2.0","result":{"Server":"OpenSIPS (4.0.1 (x86_64/linux))"},"id":1}'
    async with serving(answer, tls=tls) as url:
        async with Mi(url) as stranger:
            with pytest.raises(MiUnreachableError, match="certificate verify failed"):
                await stranger.raise_event("E_COMPANION_PUSH", {})
        async with Mi(url, ca_file=certificate) as friend:
            assert await friend.version() == "4.0.1"


def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    """A CA file that is missing or holds no certificate is a ConfigError that names it."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=name):
            Mi("https://127.0.0.1/mi", ca_file=tmp_path / name)
