"""What the silence of a phone is worth: another phone on the same way must answer a later question."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from companion.opensips.probe import Prober, ProbeResult, Question
from companion.remediation.questions import Questioner, is_witness
from companion.usrloc.contact import Contact
from tests.unit.remediation.test_policy import contact

LISTENER = "wss:192.0.2.11:443"
OTHER_LISTENER = "wss:192.0.2.11:8443"


def on(socket: str = LISTENER, path: str = "", **fields: Any) -> Contact:
    made = replace(contact(holder="n"), **fields)
    return replace(made, registration=made.registration._replace(socket=socket, path=path))


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (on(), True),
        (on(holder=""), True),
        (on(OTHER_LISTENER), False),
        (on(""), False),
        (on(node="n2"), False),
        (on(holder="n2"), False),
        (on(path="<sip:edge.example;lr>"), False),
        (on(ended_at=1), False),
        (on(disconnected_at=1), False),
        (on(consecutive_lost=1), False),
    ],
)
def test_witness(other: Contact, expected: bool) -> None:  # noqa: FBT001
    """Only a live phone on the same listening socket of the same node shows that the way works."""
    assert is_witness(other, on(), "n") == expected


class ScriptedProber(Prober):
    """Answer the questions in their order; each takes five seconds of a clock, silent or not."""

    def __init__(self, *results: ProbeResult) -> None:
        super().__init__("udp:127.0.0.1:1")
        self._results = list(results)
        self.now = 0.0

    async def _ask(self, question: Question) -> tuple[ProbeResult, str]:
        await asyncio.sleep(0)
        self.now += 5
        return self._results.pop(0), question.socket


async def probe(prober: ScriptedProber, *contacts: Contact) -> list[str]:
    access: Any = SimpleNamespace(prober=lambda _: prober)
    table: Any = SimpleNamespace(node="n")
    questioner = Questioner(None, access, clock=lambda: prober.now)  # type: ignore[arg-type]
    questioner._load_witness = lambda *_: None  # type: ignore[method-assign]
    return list(await asyncio.gather(*(questioner._probe(one, table) for one in contacts)))


async def test_an_answer_to_an_earlier_question() -> None:
    """Two lines share an address, so the second question waits for its turn: what the first proved came before it."""
    assert await probe(ScriptedProber("answered", "unanswered"), on(), on()) == ["answered", "unwitnessed"]


async def test_an_answer_to_a_later_question() -> None:
    """A phone that answered a later question verifies the silence."""
    questioner = Questioner(None, SimpleNamespace(), clock=lambda: 0.0)  # type: ignore[arg-type]
    questioner._note_answer(("n", LISTENER), 10.0)
    table: Any = SimpleNamespace(node="n")
    assert await questioner._verify(on(), table, 9.0) == "unanswered"
