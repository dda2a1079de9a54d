"""MI over UDP as the simulated OpenSIPS serves it, against what a running OpenSIPS 3.6.8 replied."""

import json
from typing import Any

import pytest

from companion.opensips.probe import Question, encode_question, read_reply
from companion.simulator.mi import SimulatedMi
from companion.simulator.mi_datagram import SimulatedMiDatagram
from companion.simulator.node import Node, Settings
from companion.simulator.phone import SimulatedPhone
from companion.simulator.subscriptions import Subscriptions


class Desk:
    """Hold a node with a browser phone and a desk phone, and the replies of its mi_datagram."""

    def __init__(self, speed: float = 1.0) -> None:
        self.node = Node(Settings(speed=speed), lambda *_: None, lambda now: 1795452109 + now)
        mi = SimulatedMi(self.node, Subscriptions(), lambda *_: None)
        self.mi_datagram = SimulatedMiDatagram(self.node, mi)
        self.replies: list[bytes] = []
        self.browser, self.phone = SimulatedPhone("alice"), SimulatedPhone("bob", transport="udp")
        for phone in (self.browser, self.phone):
            self.node.add(phone)

    def send(self, datagram: bytes) -> None:
        self.mi_datagram.answer(datagram, self.replies.append)

    def ask(self, phone: SimulatedPhone, **changes: str) -> tuple[str, str]:
        """Ask a phone, and return what the reply proves within the next six seconds."""
        question = Question(phone.uri, phone.received, self.node.sockets[phone.transport])._replace(**changes)
        self.send(encode_question(question, "q-1"))
        self.node.advance(self.node.agenda.now + 6 * self.node.settings.speed)
        reply = json.loads(self.replies.pop())
        assert reply["id"] == "q-1"
        return read_reply(reply)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_live_phone(desk: Desk) -> None:
    """A phone that lives answers, over a WebSocket as over UDP, and the question is kept for tests to look at."""
    assert desk.ask(desk.browser) == ("answered", "200 OK")
    assert desk.ask(desk.phone) == ("answered", "200 OK")
    assert [question["ruri"] for question in desk.mi_datagram.questions] == [desk.browser.uri, desk.phone.uri]


def test_lossy_phone(desk: Desk) -> None:
    """A phone on a bad network answers one of the retransmissions."""
    desk.browser.loss = 0.3
    assert [desk.ask(desk.browser)[0] for _ in range(10)].count("answered") > 8


@pytest.mark.parametrize("change", ["mute", "die", "fall_asleep", "reload"])
def test_silent_phone(desk: Desk, change: str) -> None:
    """A phone that is mute, dead, asleep or between two pages does not answer: OpenSIPS gives up."""
    getattr(desk.browser, change)()
    assert desk.ask(desk.browser) == ("unanswered", "408 Request Timeout")


def test_give_up_time(desk: Desk) -> None:
    """OpenSIPS gives up after five seconds and not earlier."""
    desk.browser.mute()
    desk.send(encode_question(Question(desk.browser.uri, desk.browser.received, ""), "q-1"))
    desk.node.advance(4.9)
    assert desk.replies == []
    desk.node.advance(5.1)
    assert len(desk.replies) == 1


def test_latency_is_real() -> None:
    """At ten times the speed the answer still comes after as many real seconds as the phone's latency."""
    desk = Desk(speed=10)
    desk.browser.jitter = 0
    desk.browser.latency_ms = 900
    desk.send(encode_question(Question(desk.browser.uri, desk.browser.received, ""), "q-1"))
    desk.node.advance(8.9)
    assert desk.replies == []
    desk.node.advance(9.1)
    assert b"200 OK" in desk.replies[0]


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"socket": "ws:127.0.0.1:1"}, "404 Local socket not found"),
        ({"received": ""}, "476 Unresolvable destination (476/MI/UAC)"),
        ({"received": "<sip:192.0.2.1>"}, "400 Invalid next_hop"),
        ({"uri": "x"}, "400 Invalid ruri"),
    ],
)
def test_refused(desk: Desk, changes: dict[str, str], detail: str) -> None:
    """A socket that OpenSIPS has not, and an address that leads nowhere, are refused: that proves nothing."""
    assert desk.ask(desk.browser, **changes) == ("failed", detail)


def test_other_socket(desk: Desk) -> None:
    """Over another listening socket of OpenSIPS even a live phone seems dead."""
    assert desk.ask(desk.browser, socket=desk.node.sockets["udp"])[0] == "unanswered"


def test_other_requests(desk: Desk) -> None:
    """Other commands are answered at once, wrong ones refused, and what is no JSON has no id."""
    request: dict[str, Any] = {"jsonrpc": "2.0", "id": 7, "method": "version"}
    desk.send(json.dumps(request).encode())
    assert json.loads(desk.replies.pop())["result"] == {"Server": "OpenSIPS (3.6.8 (x86_64/linux))"}
    desk.send(json.dumps(request | {"method": "t_uac_dlg", "params": ["OPTIONS"]}).encode())
    assert json.loads(desk.replies.pop())["error"]["code"] == -32602
    desk.send(b"{")
    assert desk.replies.pop() == b"400 Parse_error"
