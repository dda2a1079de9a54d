"""The WebSocket phone against a registrar of a few lines."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from companion.errors import UnavailableError
from companion.simulator.phone import SimulatedPush
from tests.integration.conftest import eventually
from tests.sip_phone import message as sip_message
from tests.sip_phone.message import SipMessage
from tests.sip_phone.phone import ORIGIN, SIP, Phone

CHALLENGE = ("WWW-Authenticate", 'Digest realm="h", nonce="n", qop="auth", algorithm=SHA-256')
PING = "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/WS x\r\nFrom: <sip:p@h>\r\nTo: <sip:a@b>\r\nCSeq: 1 OPTIONS\r\n\r\n"


class Registrar:
    """Takes REGISTERs, and remembers what came. `statuses` are the answers to the next ones, then 200."""

    def __init__(self) -> None:
        self.statuses: list[str] = []
        self.granted = 600
        self.mute = False
        self.registers: list[SipMessage] = []
        self.answers: list[SipMessage] = []
        self.peers: list[ServerConnection] = []
        self.server: Server

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def talk(self, peer: ServerConnection) -> None:
        self.peers.append(peer)
        async for frame in peer:
            message = sip_message.parse(str(frame))
            if message.status:
                self.answers.append(message)
            else:
                self.registers.append(message)
                await self._answer(peer, message)

    async def _answer(self, peer: ServerConnection, request: SipMessage) -> None:
        if self.mute:
            return
        status = self.statuses.pop(0) if self.statuses else "200 OK"
        answer = sip_message.response(request, status, to_tag="r")
        contact = f"<sip:other@x>;expires=7, {request.first('contact')};expires={self.granted}"
        more = CHALLENGE if status.startswith("401") else ("Contact", contact)
        await peer.send(str(SipMessage(answer.start_line, (*answer.headers, more))))


@pytest.fixture
async def registrar() -> AsyncIterator[Registrar]:
    registrar = Registrar()
    async with serve(registrar.talk, "127.0.0.1", 0, subprotocols=[SIP], origins=[ORIGIN]) as server:
        registrar.server = server
        yield registrar


async def test_a_register(registrar: Registrar) -> None:
    """It says who registers, for how long, with the SIP instance and the push parameters, and takes what is granted."""
    phone = Phone(
        registrar.url, "alice@h", instance="urn:uuid:1", push=SimulatedPush("fcm", "token", "proj"), expires=300
    )
    async with phone:
        (sent,) = registrar.registers

    assert sent.start_line == "REGISTER sip:h SIP/2.0"
    assert sent.first("to") == "<sip:alice@h>"
    assert sent.first("expires") == "300"
    assert re.fullmatch(
        r"<sip:alice@[0-9a-f]{12}\.invalid;transport=ws;pn-provider=fcm;pn-prid=token;pn-param=proj>"
        r';\+sip\.instance="<urn:uuid:1>"',
        sent.first("contact"),
    )
    assert phone.granted == 600


async def test_a_challenge_is_answered_once(registrar: Registrar) -> None:
    """A 401 brings one more REGISTER with credentials and the next CSeq; a second 401 is an error."""
    registrar.statuses = ["401 Unauthorized"]
    async with Phone(registrar.url, "alice@h", password="wonder"):
        first, second = registrar.registers
    assert (first.first("authorization"), first.first("cseq")) == ("", "1 REGISTER")
    assert 'username="alice", realm="h"' in second.first("authorization")
    assert second.first("cseq") == "2 REGISTER"

    registrar.statuses = ["401 Unauthorized"] * 2
    refused = Phone(registrar.url, "alice@h", password="wrong")
    with pytest.raises(UnavailableError, match="401"):
        await refused.start()
    await refused.close()


async def test_pings(registrar: Registrar) -> None:
    """A ping is answered after the delay; a mute phone ignores it; both are counted with their times."""
    async with Phone(registrar.url, "alice@h", answer_delay=0.05) as phone:
        asked_at = time.time()
        await registrar.peers[0].send(PING)
        await eventually(lambda: registrar.answers)
        assert time.time() - asked_at >= 0.05
        assert registrar.answers[0].first("via") == "SIP/2.0/WS x"
        await eventually(lambda: len(phone.answered) == 1)
        assert asked_at <= phone.answered[0] <= time.time()

        phone.mute()
        await registrar.peers[0].send(PING)
        await eventually(lambda: len(phone.ignored) == 1)
        phone.unmute()
        await registrar.peers[0].send(PING)
        await eventually(lambda: len(phone.answered) == 2)
    assert len(registrar.answers) == 2


async def test_what_it_can_not_do_is_said(registrar: Registrar) -> None:
    """A call is refused with 405, and what is no SIP is passed over."""
    async with Phone(registrar.url, "alice@h"):
        await registrar.peers[0].send("\r\n\r\n")
        await registrar.peers[0].send(PING.replace("OPTIONS", "INVITE"))
        await eventually(lambda: registrar.answers)
    assert registrar.answers[0].status == 405


async def test_it_stays_registered_until_it_unregisters(registrar: Registrar) -> None:
    """It registers again in half the granted time, with one Call-ID, and after unregistering no more."""
    registrar.granted = 1
    async with Phone(registrar.url, "alice@h") as phone:
        await eventually(lambda: len(registrar.registers) >= 3)
        await phone.unregister()
        count = len(registrar.registers)
        assert registrar.registers[-1].first("expires") == "0"
        assert len({register.first("call-id") for register in registrar.registers}) == 1
        assert phone._refreshing is None
    assert len(registrar.registers) == count


async def test_a_reload_and_a_move(registrar: Registrar) -> None:
    """A reload brings a new contact URI from the same instance; a move the same URI from another address."""
    async with Phone(registrar.url, "alice@h") as phone:
        old = phone.uri
        await phone.reload()
        reloaded = phone.uri
        await phone.move("127.0.0.55")
        assert phone.address.startswith("127.0.0.55:")
        assert phone.uri == reloaded != old
    contacts = [register.first("contact") for register in registrar.registers]
    assert len({contact.partition(";+sip.instance=")[2] for contact in contacts}) == 1
    assert [uri in contact for uri, contact in zip((old, reloaded, reloaded), contacts, strict=True)] == [True] * 3
    assert registrar.peers[2].remote_address[0] == "127.0.0.55"


async def test_a_death_is_no_goodbye(registrar: Registrar) -> None:
    """A phone that dies sends no close frame; one that is closed does."""
    phone = Phone(registrar.url, "alice@h")
    await phone.start()
    await phone.die()
    async with Phone(registrar.url, "alice@h"):
        pass
    await eventually(lambda: all(peer.close_code for peer in registrar.peers))
    assert [peer.close_code for peer in registrar.peers] == [1006, 1000]
    assert phone.address == ""


async def test_without_a_registrar(registrar: Registrar) -> None:
    """No server, a silent one, one that hangs up or refuses: each is an UnavailableError and leaves nothing open."""
    registrar.mute = True
    silent = Phone(registrar.url, "alice@h", timeout=0.2)
    with pytest.raises(UnavailableError, match="no answer"):
        await silent.start()
    await silent.close()
    hung_up = Phone(registrar.url, "alice@h")
    starting = asyncio.create_task(hung_up.start())
    await eventually(lambda: len(registrar.registers) == 2)
    registrar.peers[1].transport.abort()
    with pytest.raises(UnavailableError, match="no answer"):
        await starting
    await hung_up.close()
    with pytest.raises(UnavailableError, match="no connection"):
        await hung_up.register()
    with pytest.raises(UnavailableError, match="no WebSocket"):
        await Phone("ws://127.0.0.1:9", "alice@h").start()
