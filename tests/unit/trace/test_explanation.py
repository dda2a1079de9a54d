"""The common failures are explained in one line, which points at the step that failed."""

import cProfile
from typing import NamedTuple

import pytest

from companion.trace.ladder import build_ladder
from companion.trace.packet import Packet
from tests.unit.trace.messages import EDGE, FAR, PHONE, packet, sip

CREDENTIALS = 'Authorization: Digest username="dave", nonce="n", response=***'
STALE = 'WWW-Authenticate: Digest realm="r", nonce="n", stale=true'
OLD = "192.0.2.7:30000"
TAGGED = "<sip:bob@example.com>;tag=z"


class Case(NamedTuple):
    """A trace, and what its explanation says; `step` is the number of the message that failed."""

    packets: list[Packet]
    text: str
    step: int


def register(at_ms: int, cseq: int, *, more: str = "", source: str = PHONE) -> Packet:
    return packet(at_ms, source, EDGE, sip("REGISTER sip:example.com", cseq=f"{cseq} REGISTER", call_id="r", more=more))


def registered(at_ms: int, cseq: int, reply: str, *, more: str = "") -> Packet:
    return packet(at_ms, EDGE, PHONE, sip(reply, cseq=f"{cseq} REGISTER", call_id="r", more=more))


def outgoing(at_ms: int, method: str = "INVITE", *, cseq: int = 1, to: str = "<sip:bob@example.com>") -> Packet:
    return packet(at_ms, PHONE, EDGE, sip(f"{method} sip:bob@example.com", cseq=f"{cseq} {method}", to=to))


def incoming(
    at_ms: int, method: str = "INVITE", *, cseq: int = 1, to: str = "<sip:bob@example.com>", at: str = PHONE
) -> Packet:
    return packet(at_ms, EDGE, at, sip(f"{method} sip:k3@x.invalid", cseq=f"{cseq} {method}", to=to))


def answer(at_ms: int, reply: str, *, source: str = EDGE, target: str = PHONE, cseq: str = "1 INVITE") -> Packet:
    return packet(at_ms, source, target, sip(reply, cseq=cseq))


def refused(code: str) -> list[Packet]:
    return [outgoing(0), answer(1, "100 Trying"), answer(2, code)]


CASES = {
    "wrong password": Case(
        [
            register(0, 1),
            registered(1, 1, "401 Unauthorized"),
            register(2, 2, more=CREDENTIALS),
            registered(3, 2, "401 Unauthorized"),
        ],
        "the password is wrong",
        3,
    ),
    "wrong password, 403": Case(
        [register(0, 2, more=CREDENTIALS), registered(1, 2, "403 Forbidden")], "password is wrong", 1
    ),
    "stale nonce": Case(
        [register(0, 2, more=CREDENTIALS), registered(1, 2, "401 Unauthorized", more=STALE)], "the nonce was too old", 1
    ),
    "registration 404": Case(
        [register(0, 1), registered(1, 1, "404 Not Found")], "Registration refused (404 Not Found)", 1
    ),
    "registration 555": Case([register(0, 1), registered(1, 1, "555 Push")], "push service", 1),
    "call 403": Case(refused("403 Forbidden"), "Call failed (403 Forbidden): OpenSIPS or the other end forbids it", 2),
    "call 404": Case(refused("404 Not Found"), "nobody is registered under that address", 2),
    "call 486": Case(refused("486 Busy Here"), "the other end is busy", 2),
    "call 408": Case(refused("408 Request Timeout"), "nobody answered in time", 2),
    "call 480": Case(refused("480 Away"), "the other end is not reachable now", 2),
    "call 477": Case(refused("477 Send failed"), "the connection of the phone is gone", 2),
    "cancelled": Case(
        refused("487 Request Terminated"), "Call cancelled (487 Request Terminated): the caller gave up", 2
    ),
    "the device is busy": Case(
        [incoming(0), answer(1, "486 Busy Here", source=PHONE, target=EDGE)], "the device is busy", 1
    ),
    "no answer, repeated": Case([incoming(0), incoming(500)], "No answer to INVITE from this device", 0),
    "no answer, later": Case(
        [
            packet(0, FAR, EDGE, sip("INVITE sip:dave@example.com")),
            incoming(1),
            packet(5001, EDGE, FAR, sip("408 Request Timeout", cseq="1 INVITE")),
        ],
        "No answer to INVITE from this device",
        1,
    ),
    "ACK never came": Case(
        [outgoing(0), answer(1, "200 OK"), answer(501, "200 OK"), answer(1501, "200 OK")],
        "The ACK never came from this device",
        1,
    ),
    "re-INVITE after a switch-over": Case(
        [
            register(0, 1, source=OLD),
            register(9, 2),
            incoming(10, cseq=2, to=TAGGED, at=OLD),
            incoming(510, cseq=2, to=TAGGED, at=OLD),
        ],
        "No answer to the re-INVITE: the device has switched over",
        2,
    ),
    "BYE to a dead connection": Case(
        [incoming(0, "BYE", cseq=3, to=TAGGED), incoming(500, "BYE", cseq=3, to=TAGGED)], "sent to a dead connection", 0
    ),
    "BYE that OpenSIPS can not send": Case(
        [
            packet(0, FAR, EDGE, sip("BYE sip:k3@x.invalid", cseq="3 BYE", to=TAGGED)),
            packet(1, EDGE, FAR, sip("477 Send failed", cseq="3 BYE", to=TAGGED)),
        ],
        "The BYE was sent to a dead connection",
        1,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_explanation(case: Case) -> None:
    """Each common failure is told from the others, and its step is the one that failed."""
    ladder = build_ladder(case.packets, phones=[PHONE, OLD])
    assert ladder.explanation
    assert case.text in ladder.explanation.text
    assert case.step == ladder.explanation.number
    assert ladder.steps[case.step].is_failed


QUIET = {
    "nothing": [],
    "challenge": [register(0, 1), registered(1, 1, "401 Unauthorized")],
    "registered after a challenge": [
        register(0, 1),
        registered(1, 1, "401 Unauthorized"),
        register(2, 2, more=CREDENTIALS),
        registered(3, 2, "200 OK"),
    ],
    "registered after a stale nonce": [
        register(0, 2, more=CREDENTIALS),
        registered(1, 2, "401 Unauthorized", more=STALE),
        register(2, 3, more=CREDENTIALS),
        registered(3, 3, "200 OK"),
    ],
    "an INVITE that has just been sent": [incoming(0)],
    "a call": [
        outgoing(0),
        answer(1, "200 OK"),
        outgoing(2, "ACK"),
        outgoing(3, "BYE", cseq=2),
        answer(4, "200 OK", cseq="2 BYE"),
    ],
}


@pytest.mark.parametrize("packets", QUIET.values(), ids=QUIET)
def test_no_explanation(packets: list[Packet]) -> None:
    """Where nothing failed, nothing is explained."""
    assert build_ladder(packets, phones=[PHONE]).explanation is None


def test_many_failures() -> None:
    """A trace full of failures is explained in a time that grows with it, not with its square."""

    def count_calls(number: int) -> int:
        packets = [
            one
            for n in range(1, number + 1)
            for one in (register(3 * n, n), registered(3 * n + 1, n, "403 No"), incoming(3 * n + 2, cseq=n, to=TAGGED))
        ]
        profile = cProfile.Profile()
        profile.runcall(build_ladder, packets, phones=[PHONE])
        return sum(entry.callcount for entry in profile.getstats())

    assert count_calls(400) < 5 * count_calls(100)


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b1m\u202e"


@pytest.mark.parametrize("packets", [[register(0, 1), registered(1, 1, f"404 {ESCAPES}")], refused(f"486 {ESCAPES}")])
def test_nothing_acts_on_a_terminal(packets: list[Packet]) -> None:
    """A reason phrase with escape sequences is explained without them."""
    explanation = build_ladder(packets, phones=[PHONE]).explanation
    assert explanation
    assert explanation.text.isprintable()
    assert "owned" in explanation.text
