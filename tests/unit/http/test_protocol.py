"""HTTP/1.1 on a socket: headers are bounded, bodies are the application's business."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from companion.config import MetricsSection
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
