"""Replay a capture of OpenSIPS' events, byte for byte, to a UDP or TCP port."""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from companion.bridge.framer import Framer
from companion.errors import UnavailableError, UsageError
from companion.simulator.sink import BURST, REST_SECONDS, Destination, close_writer, open_udp_socket, parse_destination

# t = 0 of the captures of OpenSIPS 3.6.8 this project was written from, in epoch seconds
ORIGIN = 1795452109.605
EXPIRES = re.compile(rb'(?<="expires":)\d{10}(?=,)')
READ_SIZE = 65536
EXPECTED = 'expected lines of {"t", "payload"} (.jsonl), or JSON objects back to back (.bin) with their .reads.jsonl'

Progress = Callable[[int, int], None]


class Chunk(NamedTuple):
    """Hold bytes that left together, `t` seconds after the capture's origin, and how many objects end in them."""

    t: float
    data: bytes
    objects: int


class Capture(NamedTuple):
    """Hold a capture. `origin` is its t = 0 in epoch seconds; `stream` is true for TCP."""

    chunks: list[Chunk]
    origin: float
    stream: bool


class ReplayResult(NamedTuple):
    """Count what was sent, and the seconds it took."""

    objects: int
    bytes: int
    seconds: float


class Wire(Protocol):
    """Send bytes in order, a datagram or a segment for each call."""

    async def send(self, data: bytes) -> None: ...


async def replay(  # noqa: PLR0913 - each is a choice of whoever plays it
    path: Path,
    to: str,
    speed: float = 1.0,
    *,
    one_byte: bool = False,
    rebase_expires: bool = True,
    origin: float | None = None,
    progress: Progress | None = None,
) -> ReplayResult:
    """Play `path` (event_datagram.jsonl, or event_stream.bin with its .reads.jsonl) to "udp:H:P" or "tcp:H:P".

    `speed` 10 is ten times as fast, 0 or infinity as fast as the other end takes it. `one_byte` sends a TCP stream
    byte by byte. `rebase_expires` moves each absolute `expires` by the time since the capture, whose origin is
    `origin`, else the "origin" of the file's first line, else ORIGIN; nothing else is changed, not even a length.
    `progress(done, total)` is called after each chunk.
    Raises UsageError for what is no capture, UnavailableError when nobody listens.
    """
    where = parse_destination(to)
    capture = read_capture(path, origin)
    if rebase_expires:
        capture = rebase(capture, time.time())
    chunks = list(_rechunk(capture, to_stream=where.proto == "tcp", one_byte=one_byte))
    started_at = time.monotonic()
    async with _open(where) as wire:
        await _play(chunks, wire, speed, progress or (lambda _done, _total: None))
    return ReplayResult(
        sum(chunk.objects for chunk in chunks),
        sum(len(chunk.data) for chunk in chunks),
        time.monotonic() - started_at,
    )


def read_capture(path: Path, origin: float | None = None) -> Capture:
    """Read a capture of either kind; UsageError when it is none."""
    try:
        return _read_stream(path, origin) if path.suffix == ".bin" else _read_datagrams(path, origin)
    except OSError as error:
        raise UsageError(f"can not read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is no capture of OpenSIPS events ({error!r}); {EXPECTED}") from error


def rebase(capture: Capture, now: float) -> Capture:
    """Move every `expires` as if the capture's first event happened at `now` (epoch seconds)."""
    first = capture.chunks[0].t if capture.chunks else 0.0
    shift = round(now - capture.origin - first)
    data = b"".join(chunk.data for chunk in capture.chunks)
    moved = EXPIRES.sub(lambda match: b"%010d" % (int(match[0]) + shift), data)
    return capture._replace(chunks=list(_cut_again(capture.chunks, moved)))


def _cut_again(chunks: list[Chunk], data: bytes) -> Iterator[Chunk]:
    at = 0
    for chunk in chunks:
        yield chunk._replace(data=data[at : at + len(chunk.data)])
        at += len(chunk.data)


def _read_datagrams(path: Path, origin: float | None) -> Capture:
    lines = _read_json_lines(path)
    first = lines[0] if lines else {}
    if "payload" not in first and "origin" in first:
        origin = first["origin"] if origin is None else origin
        lines = lines[1:]
    chunks = [Chunk(float(line["t"]), line["payload"].encode(), 1) for line in lines]
    return _check_capture(Capture(chunks, ORIGIN if origin is None else float(origin), stream=False))


def _read_stream(path: Path, origin: float | None) -> Capture:
    data = path.read_bytes()
    reads = [(float(line["t"]), int(line["bytes"])) for line in _reads(path, len(data))]
    if sum(size for _, size in reads) != len(data):
        raise ValueError("its .reads.jsonl does not add up to its size")
    framer = Framer()
    chunks: list[Chunk] = []
    at = 0
    for t, size in reads:
        part = data[at : at + size]
        chunks.append(Chunk(t, part, len(framer.feed(part))))
        at += size
    if framer.garbage_bytes:
        raise ValueError("it has bytes outside JSON objects")
    return _check_capture(Capture(chunks, ORIGIN if origin is None else origin, stream=True))


def _reads(path: Path, size: int) -> list[dict[str, Any]]:
    """Read how the stream's bytes arrived; without that file, all at once."""
    beside = path.with_suffix(".reads.jsonl")
    if beside.exists():
        return _read_json_lines(beside)
    return [{"t": 0.0, "bytes": min(READ_SIZE, size - at)} for at in range(0, size, READ_SIZE)]


def _read_json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def _check_capture(capture: Capture) -> Capture:
    if not any(chunk.objects for chunk in capture.chunks):
        raise ValueError("there is no event in it")
    return capture


def _rechunk(capture: Capture, *, to_stream: bool, one_byte: bool) -> Iterator[Chunk]:
    """Cut the chunks for the wire: an object a datagram, or for TCP the capture's own cuts or single bytes."""
    if to_stream and one_byte:
        return _split_into_bytes(capture.chunks)
    if capture.stream and not to_stream:
        return _split_by_object(capture.chunks)
    return iter(capture.chunks)


def _split_into_bytes(chunks: list[Chunk]) -> Iterator[Chunk]:
    framer = Framer()
    for chunk in chunks:
        for byte in chunk.data:
            single = bytes((byte,))
            yield Chunk(chunk.t, single, len(framer.feed(single)))


def _split_by_object(chunks: list[Chunk]) -> Iterator[Chunk]:
    framer = Framer()
    for chunk in chunks:
        for text in framer.feed(chunk.data):
            yield Chunk(chunk.t, text, 1)


async def _play(chunks: list[Chunk], wire: Wire, speed: float, progress: Progress) -> None:
    started_at = time.monotonic()
    for done, chunk in enumerate(chunks, 1):
        if 0 < speed < float("inf"):
            due = started_at + (chunk.t - chunks[0].t) / speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await wire.send(chunk.data)
        progress(done, len(chunks))


class _Datagrams:
    """Send UDP with a short rest after each burst, so that a reader with the default buffer keeps up."""

    def __init__(self, where: Destination) -> None:
        self._address, self._socket = open_udp_socket(where)
        self._burst = 0

    async def send(self, data: bytes) -> None:
        self._socket.sendto(data, self._address)
        self._burst = (self._burst + 1) % BURST
        await asyncio.sleep(0 if self._burst else REST_SECONDS)

    def close(self) -> None:
        self._socket.close()


class _Stream:
    """Send TCP without Nagle: a chunk tends to leave as the segment it was."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _open(where: Destination) -> AsyncIterator[Wire]:
    """Open the wire. Raises UnavailableError when it can not be had or breaks."""
    opened = _open_datagrams if where.proto == "udp" else _open_stream
    try:
        async with opened(where) as wire:
            yield wire
    except OSError as error:
        name = ":".join(map(str, where))
        raise UnavailableError(f"can not send to {name}: {error.strerror or 'it hung up'}") from error


@contextlib.asynccontextmanager
async def _open_datagrams(where: Destination) -> AsyncIterator[Wire]:
    with contextlib.closing(_Datagrams(where)) as datagrams:
        yield datagrams


@contextlib.asynccontextmanager
async def _open_stream(where: Destination) -> AsyncIterator[Wire]:
    _, writer = await asyncio.open_connection(where.host, where.port)
    try:
        yield _Stream(writer)
    finally:
        await close_writer(writer)
