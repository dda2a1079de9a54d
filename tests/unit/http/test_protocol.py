"""HTTP/1.1 on a socket: headers are bounded, bodies are the application's business, no client is waited for long."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from structlog.testing import capture_logs

from companion import metrics
from companion.config import MetricsSection
from companion.http import server
from companion.http.connections import HttpLimits
from companion.http.protocol import MAX_HEADER_BYTES
from companion.http.server import Server
from companion.simulator.redis import find_free_port

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\n"


async def count_body(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve the application that counts the bytes of bodies."""
    section = MetricsSection(listen=f"127.0.0.1:{find_free_port()}")
    server = Server(count_body, section, "metrics")
    task = asyncio.create_task(server.run())
    yield section.port
    server.stop()
    await task


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(10):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)


async def exchange(port: int, pieces: Iterator[bytes]) -> bytes:
    """Send piece after piece until the server closes or there are no more, and return its answer."""
    reader, writer = await connect(port)
    async with asyncio.timeout(20):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            answer += await reader.readexactly(length)
        except ConnectionError:
            answer = b"closed"
        finally:
            writer.close()
    return answer


def endless(start: bytes, piece: bytes) -> Iterator[bytes]:
    """Send a start, and then a piece for as long as it takes."""
    yield start
    for _ in range(100 * MAX_HEADER_BYTES // len(piece)):
        yield piece


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (HEAD, b"x: " + b"y" * 1000 + b"\r\n"),
        (HEAD + b"x: ", b"y" * 1000),
        (b"POST /", b"y" * 1000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
    ],
    ids=["many headers", "one header", "a path", "trailers"],
)
async def test_endless_headers(port: int, start: bytes, piece: bytes) -> None:
    """A client that sends headers, a path or trailers without end is refused and cut off."""
    answer = await exchange(port, endless(start, piece))
    assert answer == b"closed" or b" 400 " in answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies(port: int, *, chunked: bool) -> None:
    """Bodies are no headers: a large one passes, and so does the next request on the connection."""
    piece, pieces = b"y" * 4096, 10 * MAX_HEADER_BYTES // 4096
    length = f"Content-Length: {pieces * len(piece)}\r\n\r\n".encode()
    frames = [b"1000\r\n" + piece + b"\r\n"] * pieces + [b"0\r\n\r\n"] if chunked else [piece] * pieces
    request = [HEAD, b"Transfer-Encoding: chunked\r\n\r\n" if chunked else length, *frames]
    assert (await exchange(port, iter(request))).endswith(str(pieces * len(piece)).encode())


SHORT = 0.2
LIMITS = HttpLimits(head=SHORT, body=SHORT, answer=SHORT, idle=1.0)
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
BODY = HEAD + b"Content-Length: 60000\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def answer_much(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo to a WebSocket, count the body of a POST, stream to /stream without end, and send much to all others."""
    if scope["type"] == "websocket":
        await echo(WebSocket(scope, receive, send))
    elif scope["method"] == "POST":
        await count_body(scope, receive, send)
    elif scope["path"] == "/stream":
        await StreamingResponse(endless_stream())(scope, receive, send)
    else:
        await PlainTextResponse("x" * 10_000_000)(scope, receive, send)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


async def endless_stream() -> AsyncIterator[bytes]:
    while True:
        yield b"x"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def serving(limits: HttpLimits) -> AsyncIterator[int]:
    """Serve; loopback is a proxy, which may have all connections."""
    section = MetricsSection(listen=f"127.0.0.1:{find_free_port()}")
    limited = Server(answer_much, section, "metrics", ["127.0.0.1"], limits)
    task = asyncio.create_task(limited.run())
    _, writer = await connect(section.port)
    writer.transport.abort()
    try:
        yield section.port
    finally:
        limited.stop()
        await task


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.05)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@pytest.mark.parametrize(
    ("sent", "drip", "why"),
    [
        (b"", b"", "idle"),
        (b"", b"\r\n", "idle"),
        (b"POST /", b"", "head"),
        (HEAD, b"x: y\r\n", "head"),
        (BODY, b"", "body"),
        (BODY, b"y", "body"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n", "body"),
        (GET, b"", "answer"),
    ],
)
async def test_slow_clients(sent: bytes, drip: bytes, why: str) -> None:
    """A client that says nothing, stops midway, drips, or does not take its answer is closed when its time is up."""
    before = metrics.total(metrics.HTTP_CLOSED, why=why)
    limits: dict[str, Any] = {why: SHORT}
    async with serving(HttpLimits(**limits)) as port:
        reader, writer = await connect(port)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # our own buffer takes no answer either
        writer.write(sent)
        async with asyncio.timeout(20):
            while metrics.total(metrics.HTTP_CLOSED, why=why) == before:
                writer.write(drip)
                await asyncio.sleep(0.02)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        answer = await read_to_end(reader)
        writer.transport.abort()
    if not drip:  # else the kernel may drop the answer together with what nobody read
        assert answer.startswith(b"HTTP/1.1 408 ") is (why in ("head", "body"))


async def test_a_drip_after_an_answer() -> None:
    """A connection on which a request was answered is idle until the next one begins, and not for longer."""
    async with serving(LIMITS) as port:
        reader, writer = await connect(port)
        writer.write(HEAD + b"Content-Length: 1\r\n\r\ny")
        await reader.readuntil(b"\r\n\r\n")
        async with asyncio.timeout(20):
            while not reader.at_eof():
                writer.write(b"\r\n")
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 0.02)
        writer.transport.abort()


async def test_long_connections_live_on() -> None:
    """A client that listens to a stream, and a WebSocket, outlive all deadlines, and give back their places."""
    async with serving(LIMITS) as port, websockets.connect(f"ws://127.0.0.1:{port}/") as socket:
        reader, writer = await connect(port)
        writer.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        end = asyncio.get_running_loop().time() + LIMITS.idle + SHORT
        while asyncio.get_running_loop().time() < end:
            assert await reader.read(1 << 16)
        await socket.send("x")
        assert await socket.recv() == "x"
        open_count = metrics.HTTP_CONNECTIONS._value.get()
        await socket.close()
        writer.close()
        async with asyncio.timeout(20):
            while metrics.HTTP_CONNECTIONS._value.get() != open_count - 2:  # noqa: ASYNC110 - of another task
                await asyncio.sleep(0.01)


async def test_websockets_without_a_handshake() -> None:
    """A client that asks for a WebSocket and does not finish its request is closed like any other."""
    async with serving(HttpLimits(head=SHORT)) as port:
        reader, writer = await connect(port)
        writer.write(UPGRADE)
        assert (await read_to_end(reader)).startswith(b"HTTP/1.1 408 ")
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /", BODY, BODY + b"y" * 50_000])
async def test_idle_clients_keep_nobody_out(sent: bytes) -> None:
    """With several times as many idle and unfinished clients as there are places, others are answered all the while."""
    before = metrics.total(metrics.HTTP_CLOSED, why="gave_way")
    async with serving(HttpLimits(connections=40)) as port:
        with capture_logs() as logs:
            idle = []
            for _ in range(5):
                for _ in range(40):
                    _, writer = await connect(port)
                    writer.write(sent)
                    idle.append(writer)
                request = [HEAD + b"Content-Length: 1\r\nConnection: close\r\n\r\ny"]
                assert (await exchange(port, iter(request))).endswith(b"1")
            for writer in idle:
                writer.transport.abort()
    assert metrics.total(metrics.HTTP_CLOSED, why="gave_way") - before >= 160
    assert "all connections are taken: idle ones give way to new ones" in [line["event"] for line in logs]
    assert len(logs) <= 2


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_upgrades_with_a_body(port: int, method: bytes) -> None:
    """A request for a WebSocket that is no GET, or has a body, is an ordinary request: no WebSocket begins so."""
    request = UPGRADE.replace(b"GET", method) + b"Content-Length: 1\r\n\r\ny"
    assert (await exchange(port, iter([request]))).startswith(b"HTTP/1.1 200 ")


async def test_invalid_requests(port: int) -> None:
    """Requests that are none are answered with 400, counted, and logged once."""
    before = metrics.total(metrics.HTTP_CLOSED, why="invalid")
    with capture_logs() as logs:
        for _ in range(20):
            assert b" 400 " in await exchange(port, iter([b"\x16\x03\x01 nonsense\r\n\r\n"]))
    assert metrics.total(metrics.HTTP_CLOSED, why="invalid") - before == 20
    assert len(logs) <= 1
