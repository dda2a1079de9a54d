"""Processes that serve one API ask each other, and hand connections over; here all in one process."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from companion import metrics
from companion.http import siblings as siblings_module
from companion.http.siblings import MAX_MESSAGE, Siblings, make_inboxes

NAMES = ["main", "api-1", "api-2"]


@pytest.fixture
def three() -> Iterator[dict[str, Siblings]]:
    inboxes, outboxes = make_inboxes(NAMES)
    yield {
        name: Siblings(name, inboxes[name], {other: end for other, end in outboxes.items() if other != name})
        for name in NAMES
    }
    for end in (*inboxes.values(), *outboxes.values()):
        end.close()


async def test_all_others_answer(three: dict[str, Siblings]) -> None:
    """A question reaches each other process, with its payload, and the answers come with their names."""
    for name, one in three.items():

        async def answer(payload: bytes, name: str = name) -> bytes:
            return name.encode() + b" got " + payload + b"\n" * 300_000

        one.on(b"topic", answer)
        one.start()
    answers = await three["api-1"].ask(b"topic", b"a\nb")
    assert {name: text.strip() for name, text in answers.items()} == {
        "main": b"main got a\nb",
        "api-2": b"api-2 got a\nb",
    }
    assert {len(text.partition(b"a\nb")[2]) for text in answers.values()} == {300_000}
    for one in three.values():
        one.stop()


async def test_who_does_not_answer_is_left_out(three: dict[str, Siblings], monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs, that fails, or that knows no such topic keeps no answer from the others."""
    monkeypatch.setattr(siblings_module, "PATIENCE_SECONDS", 0.2)
    three["main"].start()  # knows no topic; api-2 does not listen at all
    assert await three["api-1"].ask(b"topic") == {}
    three["main"].stop()


async def test_a_process_that_serves_alone() -> None:
    """Without siblings there is nobody to ask, and no other place for a connection."""
    alone = Siblings()
    alone.start()
    assert await alone.ask(b"topic") == {}
    assert not alone.hand_over("api-1", b"", 0)
    assert not alone
    assert alone.logs_for_all
    alone.stop()


async def test_a_connection_is_handed_over(three: dict[str, Siblings]) -> None:
    """A connection goes on at the other process, with the bytes that were read from it before."""
    ours, theirs = socket.socketpair()
    adopted: asyncio.Queue[tuple[socket.socket, bytes]] = asyncio.Queue()

    async def adopt(connection: socket.socket, received: bytes) -> None:
        await adopted.put((connection, received))

    three["api-2"].on_connection(adopt)
    three["api-2"].start()
    assert three["api-1"].hand_over("api-2", b"GET /", theirs.fileno())
    theirs.close()
    connection, received = await asyncio.wait_for(adopted.get(), 30)
    connection.send(b"answer")
    assert (received, ours.recv(100)) == (b"GET /", b"answer")
    connection.close()
    ours.close()
    three["api-2"].stop()


def test_what_does_not_fit_is_refused(three: dict[str, Siblings]) -> None:
    """A full inbox and a huge message are no errors: the connection stays, and the drop is counted and logged once."""
    ours, theirs = socket.socketpair()
    before = metrics.total(metrics.DROPPED, queue="siblings")
    assert not three["api-1"].hand_over("api-2", b"x" * MAX_MESSAGE, ours.fileno())
    with capture_logs() as logs:
        while three["api-1"].hand_over("api-2", b"x" * 10_000, ours.fileno()):
            pass
        assert not three["api-1"].hand_over("api-2", b"x" * 10_000, ours.fileno())
    assert metrics.total(metrics.DROPPED, queue="siblings") == before + 2
    assert [line["to"] for line in logs] == ["api-2"]
    ours.close()
    theirs.close()
