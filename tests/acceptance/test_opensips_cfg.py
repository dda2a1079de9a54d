"""The shipped opensips.cfg with the companion beside it: real phones, what they did and what is told of them."""

import asyncio
import json
import os
import ssl
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from companion.errors import UnavailableError
from companion.opensips.mi import Mi
from companion.opensips.probe import Prober, Question
from companion.remediation import audit
from companion.simulator.phone import SimulatedPush
from companion.simulator.redis import find_free_port
from companion.store.devices import load_device
from companion.store.nodes import load_feeds
from companion.store.timeline import load_timeline
from tests.acceptance.caller import Caller, Dialog, contact_of
from tests.acceptance.conftest import PASSWORD, Build, eventually
from tests.acceptance.edge import INTERVAL, Companion, Edge, device_of, edge_with, make_certificate, settled, stop_pings
from tests.acceptance.registering import register
from tests.sip_phone.phone import Phone

pytestmark = pytest.mark.timeout(300)
DOMAIN = "127.0.0.1"
# of a dead connection, of one that hangs; 408 and 481 would end the call (RFC 3261, 12.2.1.2)
MOMENTARY = (477, 504)


@pytest.fixture
def edge(build: Build, tmp_path: Path) -> Iterator[Edge]:
    with edge_with(build, tmp_path) as edge:
        yield edge


@pytest.fixture
def companion(edge: Edge, tmp_path: Path) -> Iterator[Companion]:
    with Companion(tmp_path, edge.datagram, edge.server.mi_url) as companion:
        yield companion


def phone_of(edge: Edge, user: str = "", **settings: Any) -> Phone:
    """A phone with an AOR of its own."""
    return Phone(edge.server.ws_url, f"{user or uuid.uuid4().hex[:12]}@{DOMAIN}", **settings)


@asynccontextmanager
async def started(phones: Sequence[Phone], at_once: int = 50) -> AsyncIterator[None]:
    """All of them registered, until the end of the block."""
    turns = asyncio.Semaphore(at_once)

    async def start(phone: Phone) -> None:
        async with turns:
            await phone.start()

    try:
        await asyncio.gather(*(start(phone) for phone in phones))
        yield
    finally:
        await asyncio.gather(*(phone.close() for phone in phones))


# Pings


async def test_ten_phones(edge: Edge, companion: Companion) -> None:
    """For each phone as many answered and lost pings are told as it answered and ignored, and its own latency."""
    phones = [phone_of(edge, answer_delay=0.03 * number) for number in range(10)]
    ids = {device_of(edge.server, phone): phone for phone in phones}
    async with started(phones):
        await eventually(lambda: all(phone.answered for phone in phones))
        for phone in phones[:4]:
            phone.mute()
        await eventually(lambda: all(len(phone.ignored) >= 2 for phone in phones[:4]))
        for phone in phones[:4]:
            phone.unmute()
        await eventually(lambda: all(len(phone.answered) >= 4 for phone in phones))
        await stop_pings(edge.server)
        await settled(
            lambda: all(_stored_counts(companion, device_id) == _own_counts(ids[device_id]) for device_id in ids)
        )

        for device, phone in ids.items():
            page = await asyncio.to_thread(companion.page, device)
            assert page["status"] == "online"
            median = statistics.median(latency_ms for _, latency_ms in page["samples"] if latency_ms is not None)
            assert 0 <= median - 1000 * phone.answer_delay <= 20


def _stored_counts(companion: Companion, device: str) -> tuple[int, int]:
    latency = companion.page(device)["latency"]
    return latency["answered"], latency["lost"]


def _own_counts(phone: Phone) -> tuple[int, int]:
    return len(phone.answered), len(phone.ignored)


async def test_a_reloaded_page(edge: Edge, companion: Companion) -> None:
    """A reload is a switch-over with its outage; the ghost it leaves is removed, and nothing else."""
    async with phone_of(edge) as phone, phone_of(edge) as other, Mi(edge.server.mi_url) as mi:
        device, aor = device_of(edge.server, phone), phone.aor
        await settled(lambda: companion.counts(device)[0])
        died_at = time.time()
        await phone.die()
        await settled(lambda: "disconnected" in companion.events(device))
        await phone.reload()
        away_ms = 1000 * (time.time() - died_at)
        assert len(await mi.show_contact("location", aor)) == 2
        await settled(lambda: companion.decisions(device))

        assert companion.decisions(device) == [("remove", "removed")]
        assert [contact.uri for contact in await mi.show_contact("location", aor)] == [phone.uri]
        (switched,) = [e for e in load_timeline(companion.store, device, 0, 1 << 52) if e["event"] == "switched-over"]
        assert 0 < int(switched["outage_ms"]) <= away_ms + 500  # the bridge may hear of it after the phone
        assert switched["to"] == phone.address
        assert companion.statuses([device]) == ["online"]
        assert companion.decisions(device_of(edge.server, other)) == []


async def test_opensips_removes(build: Build, tmp_path: Path) -> None:
    """With remove_on_timeout=1 OpenSIPS removes a mute phone, which is told as its doing; one with push stays."""
    changes = {"remove_on_timeout=i:0": "remove_on_timeout=i:1", '"max_pings_lost", 5': '"max_pings_lost", 2'}
    observing = {"mode": "observe"}
    with (
        edge_with(build, tmp_path, **changes) as edge,
        Companion(tmp_path, edge.datagram, edge.server.mi_url, remediation=observing) as companion,
    ):
        mute, sleeping = phone_of(edge), phone_of(edge, push=SimulatedPush("fcm", "token", "proj-1"))
        async with started([mute, sleeping]), Mi(edge.server.mi_url) as mi:
            mute.mute()
            sleeping.mute()
            device = device_of(edge.server, mute)
            await settled(lambda: "removed-after-lost-pings" in companion.events(device))
            await settled(lambda: companion.counts(device_of(edge.server, sleeping))[1] > 2)

            assert await mi.show_contact("location", mute.aor) == []
            assert len(await mi.show_contact("location", sleeping.aor)) == 1


async def test_questions_to_phones(edge: Edge, companion: Companion) -> None:
    """Over the socket that its events name a live phone answers at once, and a muted one not within 5 seconds."""
    async with phone_of(edge) as live, phone_of(edge) as mute, Prober(edge.server.probe_url) as prober:
        ids = [device_of(edge.server, phone) for phone in (live, mute)]
        await settled(lambda: all(companion.statuses(ids)))
        mute.mute()
        questions = [
            Question(contact.binding.uri, contact.registration.received, contact.registration.socket)
            for device in map(partial(load_device, companion.store), ids)
            if device
            for contact in device.contacts
        ]
        assert {question.socket for question in questions} == {edge.server.ws_socket}
        replies = await asyncio.gather(*map(prober.ask, questions))
        assert [reply.result for reply in replies] == ["answered", "unanswered"]
        assert replies[0].duration_ms < 1000
        assert 3500 < replies[1].duration_ms < 7000

        other = await prober.ask(questions[0]._replace(socket="ws:127.0.0.1:9"))
        assert (other.result, other.detail) == ("failed", "404 Local socket not found")


async def test_companion_ping(edge: Edge, tmp_path: Path) -> None:
    """`companion ping` prints the round trips of a live phone, and of a muted one that nothing came."""
    with Companion(tmp_path, edge.datagram, edge.server.mi_url, edge.server.probe_url) as companion:
        async with phone_of(edge, answer_delay=0.05) as live, phone_of(edge) as mute:
            ids = [device_of(edge.server, phone) for phone in (live, mute)]
            await settled(lambda: all(companion.statuses(ids)))
            mute.mute()
            answered, silent = await asyncio.gather(
                companion.cli("ping", ids[0], "--count", "3", "--json"), companion.cli("ping", ids[1], "--count", "1")
            )
            summary = json.loads(answered[1])
            assert (answered[0], summary["answered"], summary["lost"]) == (0, 3, 0)
            assert 50 <= summary["min_ms"] <= summary["max_ms"] < 1000
            assert silent[0] == 1
            assert "no answer via opensips: seq=1 (408 Request Timeout after" in silent[1]
            assert all("pinged" in companion.events(device_id) for device_id in ids)


# Push


async def test_a_push_that_wakes(build: Build, tmp_path: Path) -> None:
    """With the push lines on, the gateway is posted who sleeps and where; the phone wakes, and that is told."""
    woken: list[dict[str, list[str]]] = []
    port = find_free_port()
    changes = {"http://127.0.0.1:8090/push": f"http://127.0.0.1:{port}/push"}
    with (
        edge_with(build, tmp_path, "push", **changes) as edge,
        Companion(tmp_path, edge.datagram, edge.server.mi_url) as companion,
    ):
        phone = phone_of(edge, push=SimulatedPush("fcm", "token", "proj-1"))

        async def wake(form: dict[str, list[str]]) -> None:
            woken.append(form)
            phone.unmute()
            await phone.register()

        device = device_of(edge.server, phone)
        async with phone, gateway(port, wake):
            await settled(lambda: companion.counts(device)[0])
            phone.mute()
            await settled(lambda: ("push", "woken") in companion.decisions(device))

            assert woken == [{"aor": [phone.aor], "uri": [phone.uri], "reason": ["keepalive"]}]
            assert "remove" not in {action for action, _ in companion.decisions(device)}
            assert companion.statuses([device]) == ["online"]


@asynccontextmanager
async def gateway(port: int, receive: Any) -> AsyncIterator[None]:
    """A push gateway: hands on each form that is posted to it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split()[0])
        form = parse_qs((await reader.readexactly(length)).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await receive(form)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        yield


# Who may register


async def test_passwords(build: Build, tmp_path: Path) -> None:
    """With the authentication lines on, only who knows the password of an address registers it."""
    tables = tmp_path / "tables"
    tables.mkdir()
    ha1 = md5(f"alice:{DOMAIN}:{PASSWORD}".encode(), usedforsecurity=False).hexdigest()
    (tables / "version").write_text("table_name(string) table_version(int)\nsubscriber:8\n")
    (tables / "subscriber").write_text(
        f"id(int,auto) username(string) domain(string) ha1(string)\n1:alice:{DOMAIN}:{ha1}\n"
    )
    changes = {"db_mysql.so": "db_text.so", "mysql://opensips:password@127.0.0.1/opensips": f"text://{tables}"}
    with edge_with(build, tmp_path, "auth", **changes) as edge:
        async with phone_of(edge, "alice", password=PASSWORD) as alice, Mi(edge.server.mi_url) as mi:
            assert len(await mi.show_contact("location", alice.aor)) == 1
        for user, password in (("alice", "no"), ("bob", PASSWORD), ("alice", "")):
            phone = phone_of(edge, user, password=password)
            with pytest.raises(UnavailableError, match="401"):
                await phone.start()
            await phone.close()


async def test_tls(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the wss lines on and a certificate, a phone registers over TLS and is pinged."""
    await asyncio.to_thread(make_certificate, tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert ssl.create_default_context().cert_store_stats()["x509"] == 1
    with edge_with(build, tmp_path, "wss", **{"/etc/opensips/tls": str(tmp_path)}) as edge:
        async with Phone(edge.server.wss_url, f"alice@{DOMAIN}") as phone, Mi(edge.server.mi_url) as mi:
            await eventually(lambda: phone.answered)
            (contact,) = await mi.show_contact("location", phone.aor)
            assert contact.received == f"sip:{phone.address};transport=wss"


# Calls


SDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"


def callers(edge: Edge) -> tuple[Caller, Caller]:
    alice, bob = (Caller(edge.server.ws_url, f"{user}@{DOMAIN}", timeout=20) for user in ("alice", "bob"))
    return alice, bob


async def test_a_call(edge: Edge) -> None:
    """Two browsers call each other: INVITE, ACK and BYE arrive, media descriptions untouched; nobody is a 404."""
    alice, bob = callers(edge)
    async with alice, bob:
        answer = await alice.call(bob.aor, SDP)
        assert (answer.status, answer.body) == (200, SDP)
        dialog = Dialog.made(answer)
        await alice.acknowledge(dialog)
        assert (await alice.say(dialog, method="BYE")).status == 200
        await eventually(lambda: len(bob.requests) == 3)
        assert [message.method for message in bob.requests] == ["INVITE", "ACK", "BYE"]
        assert bob.requests[0].body == SDP
        assert bob.uri in bob.requests[0].start_line

        assert (await alice.call(f"carol@{DOMAIN}", SDP)).status == 404
        await bob.die()
        assert (await alice.call(bob.aor, SDP)).status >= 400


@asynccontextmanager
async def talking(edge: Edge) -> AsyncIterator[tuple[Caller, Dialog, Caller, Dialog]]:
    """A call: who called and who was called, each with its dialog."""
    alice, bob = callers(edge)
    async with alice, bob:
        made = Dialog.made(await alice.call(bob.aor, SDP))
        await alice.acknowledge(made)
        await eventually(lambda: len(bob.requests) == 2)
        yield alice, made, bob, Dialog.of_callee(bob.requests[0])


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_a_call_moves(edge: Edge, who: str) -> None:
    """A phone that comes back on a new connection re-INVITEs over it, and is found there from then on."""
    async with talking(edge) as (alice, made, bob, callee_dialog):
        moving, own, staying, theirs = (
            (alice, made, bob, callee_dialog) if who == "caller" else (bob, callee_dialog, alice, made)
        )
        await moving.move("")
        answer = await moving.say(own, SDP)
        assert (answer.status, contact_of(answer)) == (200, own.target)
        await moving.acknowledge(own)
        await eventually(lambda: staying.requests[-1].method == "ACK")
        again = staying.requests[-2]
        assert again.method == "INVITE"
        assert f"@{moving.address};" in contact_of(again)

        theirs.target = contact_of(again)
        assert (await staying.say(theirs, method="BYE")).status == 200
        assert moving.requests[-1].method == "BYE"


async def test_a_call_outlives_all_connections(edge: Edge) -> None:
    """When both sides of a call are back on new connections, each finds the other, though it knows only the old one."""
    async with talking(edge) as (alice, made, bob, callee_dialog):
        await asyncio.gather(alice.move(""), bob.move(""))
        answer = await alice.say(made, SDP)
        assert (answer.status, contact_of(answer)) == (200, f"sip:bob@{bob.address};transport=ws")
        await alice.acknowledge(made)  # to where bob was, as SIP.js does
        await eventually(lambda: bob.requests[-1].method == "ACK")
        assert (await bob.say(callee_dialog, method="BYE")).status == 200
        assert alice.requests[-1].method == "BYE"


async def test_who_hangs_up(edge: Edge) -> None:
    """A BYE finds a phone whose old connection hangs where it is registered now."""
    async with talking(edge) as (alice, made, bob, _):
        await bob.roam()
        assert (await alice.say(made, method="BYE")).status == 200
        assert bob.requests[-1].method == "BYE"


@pytest.mark.parametrize("how", ["dead", "mute"])
async def test_a_phone_that_is_away(edge: Edge, how: str) -> None:
    """Whoever re-INVITEs a phone that is away for a moment is told so, and not by an answer that ends the call."""
    async with talking(edge) as (alice, made, bob, callee_dialog):
        if how == "dead":
            await bob.die()
        else:
            bob.mute()
        assert (await alice.say(made, SDP)).status in MOMENTARY

        bob.unmute()
        await bob.move("")
        assert (await bob.say(callee_dialog, SDP)).status == 200


# Load


@pytest.mark.skipif(not os.environ.get("ACCEPTANCE_LARGE"), reason="takes two minutes: set ACCEPTANCE_LARGE=1")
async def test_two_thousand_phones(build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost between OpenSIPS and Redis: of 2,000 phones each ping is stored as answered or lost."""
    interval = 10
    with (
        edge_with(build, tmp_path, **{f'"natping_interval", {INTERVAL}': f'"natping_interval", {interval}'}) as edge,
        Companion(tmp_path, edge.datagram, edge.server.mi_url, pings={"interval": interval}) as companion,
    ):
        phones = [phone_of(edge, expires=3600, timeout=30) for _ in range(2000)]
        ids = {device_of(edge.server, phone): phone for phone in phones}
        async with started(phones):
            for phone in phones[::20]:
                phone.mute()
            started_at, cpu = time.monotonic(), companion.cpu_seconds()
            await settled(lambda: time.monotonic() - started_at >= 60)
            used, took = companion.cpu_seconds() - cpu, time.monotonic() - started_at
            await stop_pings(edge.server)
            await settled(lambda: all(companion.counts(device_id) == _own_counts(ids[device_id]) for device_id in ids))
        answered, lost = (sum(counts) for counts in zip(*map(_own_counts, phones), strict=True))
        feed = load_feeds(companion.store)["opensips"]
        assert (feed.invalid, feed.kernel_drops, feed.gaps, feed.missed) == (0, 0, 0, 0)
        with capsys.disabled():
            print(
                f"\n{len(phones)} phones, {answered} + {lost} lost pings, {feed.received} events, all stored; "
                f"companion {100 * used / took:.1f} % of one core, {companion.memory_bytes() >> 20} MB"
            )


async def test_opensips_crashes(edge: Edge, companion: Companion) -> None:
    """OpenSIPS killed under load: that is noticed, nobody is removed wrongly, and who registers again is back."""
    phones = [phone_of(edge) for _ in range(200)]
    back, away = phones[:160], phones[160:]
    ids = [device_of(edge.server, phone) for phone in phones]
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(started(phones))
        await settled(lambda: all(companion.counts(device_id)[0] for device_id in ids))
        edge.server.kill()
        await settled(lambda: set(companion.statuses(ids)) <= {"unknown", "stale"})
        assert "unknown" in companion.statuses(ids)

        edge.server.start()
        await asyncio.to_thread(edge.server.wait)
        await asyncio.gather(*(phone.close() for phone in phones))
        await stack.enter_async_context(started(back))
        await settled(lambda: set(companion.statuses(ids[: len(back)])) == {"online"})
        await settled(lambda: set(companion.statuses(ids[len(back) :])) == {"offline"}, 200)

        async with Mi(edge.server.mi_url) as mi:
            held = {contact.aor async for contact in mi.dump()}
        assert held == {phone.aor for phone in back}
        assert set(companion.statuses(ids[: len(back)])) == {"online"}
        assert not [decision for _, decision in audit.read(companion.store) if decision["result"] == "removed"]
        assert away


# What it answers to a REGISTER

PUSH_CONTACT = "<sip:p@192.0.2.1;pn-provider={};pn-param=a;pn-prid=b>"
FIRST, SECOND = ("urn:uuid:00000000-0000-4000-8000-00000000000" + digit for digit in "12")
ONE_WORKER = {"udp_workers=4": "udp_workers=1"}


@pytest.fixture
def one_worker(build: Build, tmp_path: Path) -> Iterator[Edge]:
    with edge_with(build, tmp_path, **ONE_WORKER) as edge:
        yield edge


@pytest.mark.parametrize(
    ("provider", "status"), [("apns", 200), ("apns.dev", 200), ("fcm", 200), ("webpush", 200), ("smoke", 555)]
)
async def test_push_services(one_worker: Edge, provider: str, status: int) -> None:
    """A push service is accepted or refused with 555 (RFC 8599), by one final reply."""
    contact = PUSH_CONTACT.format(provider)
    assert [status] == await register(one_worker.server.udp_port, f"push@{DOMAIN}", [contact])


async def test_a_register_that_is_refused(one_worker: Edge) -> None:
    """Whatever save() refuses has one final reply."""
    for contacts in (["<sip:broken"], ["*", "<sip:a@192.0.2.1>"], ["*"]):
        statuses = await register(one_worker.server.udp_port, f"odd@{DOMAIN}", contacts)
        assert len(statuses) == 1
        assert statuses[0] >= 400


@pytest.mark.parametrize("separator", [", ", "\r\nContact: "])
async def test_two_contacts_in_one_register(one_worker: Edge, separator: str) -> None:
    """The SIP instance of one contact is not handed over as that of another; MI knows both."""
    port, aor = one_worker.server.udp_port, f"two@{DOMAIN}"
    contacts = [f'<sip:two@192.0.2.{n}>;+sip.instance="<{urn}>"' for n, urn in enumerate((FIRST, SECOND), 1)]
    assert await register(port, aor, [separator.join(contacts)]) == [200]
    async with Mi(one_worker.server.mi_url) as mi:
        stored = await mi.show_contact("location", one_worker.server.aor("two"))
    assert sorted((contact.instance, contact.attr) for contact in stored) == [(FIRST, ""), (SECOND, "")]


async def test_one_contact_in_a_register(one_worker: Edge) -> None:
    """The SIP instance of the only contact is handed over with it."""
    contact = f'<sip:one@192.0.2.1>;+sip.instance="<{FIRST}>"'
    assert await register(one_worker.server.udp_port, f"one@{DOMAIN}", [contact]) == [200]
    async with Mi(one_worker.server.mi_url) as mi:
        stored = await mi.show_contact("location", one_worker.server.aor("one"))
    assert [(contact.instance, contact.attr) for contact in stored] == [(FIRST, f"<{FIRST}>")]


async def test_two_contacts_of_whom_one_can_be_woken(build: Build, tmp_path: Path) -> None:
    """With remove_on_timeout=1, too, OpenSIPS is not told to remove one that may sleep."""
    changes = {"remove_on_timeout=i:0": "remove_on_timeout=i:1", **ONE_WORKER}
    plain, sleeper = "<sip:p@192.0.2.1>", "<sip:p@192.0.2.2;pn-provider=fcm;pn-param=a;pn-prid=b>"
    older = "<sip:p@192.0.2.3;app-id=x;pn-type=apple;pn-tok=t>"
    with edge_with(build, tmp_path, **changes) as edge:
        for user, contacts in {"a": [plain], "b": [plain, sleeper], "c": [sleeper], "d": [older]}.items():
            assert await register(edge.server.udp_port, f"{user}@{DOMAIN}", contacts) == [200]
        async with Mi(edge.server.mi_url) as mi:
            flags = {
                user: {"SIP_PING_RTN" in c.cflags for c in await mi.show_contact("location", edge.server.aor(user))}
                for user in "abcd"
            }
    assert flags == {"a": {True}, "b": {False}, "c": {False}, "d": {False}}
