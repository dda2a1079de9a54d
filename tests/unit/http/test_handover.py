"""Connections that are for another process: two servers in one process, each with an application of its name."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from companion.config import MetricsSection
from companion.http.listeners import open_listeners
from companion.http.server import Listener, Server
from companion.http.siblings import Siblings, make_inboxes
from companion.simulator.redis import find_free_port

NAMES = ["api-1", "api-2"]


def make_app(name: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await PlainTextResponse(f"{name} {len(body)}")(scope, receive, send)

    return app


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve as api-1, whose port this is, and as api-2, which only gets what is handed over."""
    inboxes, outboxes = make_inboxes(NAMES)
    servers, joined, tasks, ports = [], [], [], []
    for name, other in zip(NAMES, reversed(NAMES), strict=True):
        section = MetricsSection(listen=f"127.0.0.1:{find_free_port()}")
        server = Server(make_app(name), section, "metrics")
        siblings = Siblings(name, inboxes[name], {other: outboxes[other]})
        siblings.start()
        server.join(Listener(open_listeners(section, "metrics", 1)[0], siblings))
        servers.append(server)
        joined.append(siblings)
        tasks.append(asyncio.create_task(server.run()))
        ports.append(section.port)
    yield ports[0]
    for server in servers:
        server.stop()
    await asyncio.gather(*tasks)
    for siblings in joined:
        siblings.stop()
    for end in (*inboxes.values(), *outboxes.values()):
        end.close()


def request(path: str, body: bytes = b"") -> bytes:
    return b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


async def read_answer(reader: asyncio.StreamReader) -> str:
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return (await reader.readexactly(length)).decode()


async def test_a_request_for_another_process(port: int) -> None:
    """It is answered by the process that it names, with its body, and so is what follows on the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for path, answer in [
        ("/", "api-1 3"),
        ("/_nicegui_ws/socket.io/?client_id=1&process=api-2&EIO=4", "api-2 3"),
        ("/", "api-2 3"),
        ("/_nicegui_ws/socket.io/?process=api-1", "api-1 3"),
        ("/", "api-1 3"),
    ]:
        writer.write(request(path, b"abc"))
        assert await read_answer(reader) == answer
    writer.close()


async def test_a_body_that_comes_later(port: int) -> None:
    """What the client sends after the connection was handed over reaches the other process."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    whole = request("/_nicegui_ws/socket.io/?process=api-2", b"x" * 50_000)
    for start in range(0, len(whole), 10_000):
        writer.write(whole[start : start + 10_000])
        await writer.drain()
        await asyncio.sleep(0.01)
    assert await read_answer(reader) == "api-2 50000"
    writer.close()


@pytest.mark.parametrize(
    "path",
    [
        "/_nicegui_ws/socket.io/?process=api-3",
        "/_nicegui_ws/socket.io/?process=main",
        "/_nicegui_ws/socket.io/?process=",
        "/_nicegui_ws/socket.io/?process=api-2x",
        "/_nicegui_ws/socket.io/?xprocess=api-2",
        "/_nicegui_ws/socket.io/process=api-2",
        "/api/v1/devices?process=api-2",
        "/x/_nicegui_ws/?process=api-2",
        f"/_nicegui_ws/socket.io/?{'x' * 5000}&process=api-2",
    ],
)
async def test_what_is_handed_over_to_nobody(port: int, path: str) -> None:
    """Only pages name their process; whatever else has such a name in it is answered here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(path))
    assert await read_answer(reader) == "api-1 0"
    writer.close()


async def test_requests_sent_at_once(port: int) -> None:
    """A request that follows another without waiting for its answer stays with it: no answer is lost."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request("/") + request("/_nicegui_ws/socket.io/?process=api-2", b"abc"))
    assert [await read_answer(reader), await read_answer(reader)] == ["api-1 0", "api-1 3"]
    writer.close()
