"""Questions to phones: what is sent, and what a reply proves."""

import asyncio
import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.opensips.probe import Prober, Question, doubt_silence, encode_question, read_reply

URI = "sip:alice@one.invalid;transport=ws"
QUESTION = Question(URI, "sip:192.0.2.1:1111;transport=ws", "ws:203.0.113.1:8080")


def test_question() -> None:
    """The OPTIONS goes to the contact, over its own address and the listening socket of OpenSIPS."""
    request = json.loads(encode_question(QUESTION, "n-1"))
    assert request["method"] == "t_uac_dlg"
    assert request["params"] == {
        "method": "OPTIONS",
        "ruri": URI,
        "headers": f"From: <sip:companion@companion.invalid>;tag=n-1\r\nTo: <{URI}>\r\n",
        "next_hop": "sip:192.0.2.1:1111;transport=ws",
        "socket": "ws:203.0.113.1:8080",
    }


def test_question_without_received() -> None:
    """Where the URI leads to the phone there is no next hop: an empty one is refused."""
    assert "next_hop" not in json.loads(encode_question(QUESTION._replace(received=""), "n-1"))["params"]


@pytest.mark.parametrize(
    ("uri", "received", "expected"),
    [
        ("sip:a@192.0.2.1:5062;transport=tcp", "", "failed"),
        ("sips:a@192.0.2.1:5062", "", "failed"),
        ("sip:a@192.0.2.1:5062;transport=ws", "", "failed"),
        ("sip:a@192.0.2.1:5062", "", "unanswered"),
        ("sip:a@10.0.0.1:5062;transport=tcp", "sip:192.0.2.1:40123;transport=tcp", "unanswered"),
    ],
)
def test_silence_of_a_phone_to_be_dialled(uri: str, received: str, expected: str) -> None:
    """A live phone without an open connection is silent: OpenSIPS dials nobody for a question."""
    question = Question(uri, received, "tcp:203.0.113.1:5060")
    assert doubt_silence(question, "unanswered", "408")[0] == expected
    assert doubt_silence(question, "answered", "200 OK")[0] == "answered"


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        ({"result": {"Status": "200 OK", "Message": "Via: x"}}, "answered"),
        ({"result": {"Status": "486 Busy Here", "Message": ""}}, "answered"),
        ({"result": {"Status": "408 Request Timeout", "Message": "Via: x"}}, "answered"),
        ({"result": {"Status": "408 Request Timeout"}}, "unanswered"),
        ({"result": {"Status": "477 Send failed"}}, "failed"),
        ({"error": {"code": 404, "message": "Local socket not found"}}, "failed"),
        ({"error": {"code": 476, "message": "Unresolvable destination"}}, "failed"),
        ({"result": "OK"}, "failed"),
        ({"result": {"Status": 408}}, "failed"),
        ({}, "failed"),
    ],
)
def test_replies(reply: dict[str, Any], result: str) -> None:
    """Only a message of the phone is life, only OpenSIPS' own 408 is silence, all else proves nothing."""
    assert read_reply(reply)[0] == result


@given(
    st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers(), st.dictionaries(st.text(), st.text())))
)
def test_any_reply(reply: dict[str, Any]) -> None:
    """No reply without a Message is taken for life."""
    assert read_reply(reply)[0] in {"unanswered", "failed"} or "Message" in reply["result"]


class MiDatagram(asyncio.DatagramProtocol):
    """Answer questions by the user of their URI: live ones at once, others never."""

    def __init__(self) -> None:
        self.in_flight = self.most = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, datagram: bytes, address: Any) -> None:
        request = json.loads(datagram)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        asyncio.get_running_loop().call_later(0.02, self._answer, request, address)

    def _answer(self, request: dict[str, Any], address: Any) -> None:
        self.in_flight -= 1
        outcome = {"Status": "408 Request Timeout"}
        if "live" in request["params"]["ruri"]:
            outcome = {"Status": "200 OK", "Message": request["params"]["ruri"]}
        self.transport.sendto(b"garbage", address)
        self.transport.sendto(json.dumps({"id": request["id"], "result": outcome}).encode(), address)


async def start_server() -> tuple[asyncio.DatagramTransport, MiDatagram, str]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(MiDatagram, local_addr=("127.0.0.1", 0))
    return transport, server, f"udp:127.0.0.1:{transport.get_extra_info('sockname')[1]}"


async def close(transport: asyncio.DatagramTransport) -> None:
    transport.close()
    await asyncio.sleep(0)


async def test_many_at_once() -> None:
    """Many questions are in flight at once, but never more than the receiver holds; each gets its own reply."""
    transport, server, url = await start_server()
    async with Prober(url) as prober:
        uris = [f"sip:{'live' if number % 3 else 'dead'}{number}@h" for number in range(200)]
        replies = await asyncio.gather(*(prober.ask(Question(uri, "", "")) for uri in uris))
    await close(transport)
    assert ["answered" if "live" in uri else "unanswered" for uri in uris] == [reply.result for reply in replies]
    assert 10 < server.most <= 50


async def test_one_question_per_address() -> None:
    """Two questions to one address follow each other: OpenSIPS mixes up simultaneous replies of one WebSocket."""
    transport, server, url = await start_server()
    async with Prober(url) as prober:
        await asyncio.gather(*(prober.ask(QUESTION) for _ in range(5)))
    await close(transport)
    assert server.most == 1


async def test_nobody_listens() -> None:
    """Where no mi_datagram listens, the question failed: that proves nothing about the phone."""
    transport, _, url = await start_server()
    await close(transport)
    async with Prober(url) as prober:
        reply = await prober.ask(QUESTION)
    assert reply.result == "failed"
    assert "can not be reached" in reply.detail
