"""The transports on real sockets: what arrives is handed on, and no peer harms another."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from companion import metrics
from companion.bridge import datagram, stream
from companion.bridge.datagram import DatagramInput
from companion.bridge.stream import StreamInput
from companion.bridge.transports import Receive
from companion.config.address import Address, Scheme, parse_address
from companion.errors import ConfigError, UnavailableError
from tests.integration.conftest import eventually

CAPTURE = Path(__file__).parents[1] / "captures" / "opensips-3.6.8"
STREAM = (CAPTURE / "event_stream.bin").read_bytes()
LINES = (CAPTURE / "event_datagram.jsonl").read_text().splitlines()
EVENTS = [json.loads(line)["payload"].encode() for line in LINES]
EVENT = EVENTS[0]
UDP = Address("udp", "127.0.0.1", 0)
TCP = Address("tcp", "127.0.0.1", 0)


def invalid(where: str, reason: str) -> float:
    return metrics.total(metrics.INVALID, where=where, reason=reason)


class Received(list[bytes]):
    """A `receive` that keeps what it got."""

    def __call__(self, data: bytes) -> None:
        self.append(data)


@asynccontextmanager
async def udp_input(
    receive: Receive, address: Address = UDP, buffer_bytes: int = 8 << 20
) -> AsyncIterator[tuple[DatagramInput, socket.socket]]:
    """A started input, and a socket connected to it."""
    source = DatagramInput(address, receive, buffer_bytes)
    await source.start()
    try:
        with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.connect((address.host, source.address.port))
            yield source, peer
    finally:
        await source.close()


@asynccontextmanager
async def tcp_input(receive: Receive, **options: float) -> AsyncIterator[StreamInput]:
    source = StreamInput(TCP, receive, **options)  # type: ignore[arg-type]
    await source.start()
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def peer_of(source: StreamInput) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(source.address.host, source.address.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def send(source: StreamInput, *chunks: bytes) -> None:
    """Say all of it on a connection of its own, and wait until the input has closed that."""
    async with peer_of(source) as (reader, writer):
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
        assert await reader.read() == b""


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("udp:127.0.0.1:5066", Address("udp", "127.0.0.1", 5066)),
        ("tcp:[::1]:0", Address("tcp", "::1", 0)),
        ("tcp:bridge.example:65535", Address("tcp", "bridge.example", 65535)),
    ],
)
def test_address(text: str, address: Address) -> None:
    """An address reads as OpenSIPS writes it, and is written as it was read."""
    assert address == parse_address(text)
    assert text == str(parse_address(text))


@pytest.mark.parametrize(
    "text",
    ["", "udp", "127.0.0.1:5066", "sctp:a:1", "udp:a", "udp::1", "udp:::1:5066", "udp:[::1]", "udp:[x]:1",
     "udp:a:65536", "udp:a:-1", "udp:a:\u0661", "udp:a b:1", "udp:a:1 ", "udp:a:1\n"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    """What is no address is refused with the text that was written."""
    with pytest.raises(ConfigError) as failure:
        parse_address(text)
    assert repr(text) in str(failure.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams(host: str) -> None:
    """Each datagram is handed on as it is, in order, and counted."""
    received, before = Received(), metrics.total(metrics.RECEIVED, transport="datagram")
    async with udp_input(received, Address("udp", host, 0)) as (source, peer):
        for event in EVENTS:
            peer.send(event)
        await eventually(lambda: len(received) >= len(EVENTS))
        assert source.kernel_drops() in (0, None)
    assert received == EVENTS
    assert len(EVENTS) == metrics.total(metrics.RECEIVED, transport="datagram") - before


async def test_datagram_largest() -> None:
    """The largest datagram IPv4 has arrives whole; a larger one can not even be sent."""
    received = Received()
    async with udp_input(received) as (_, peer):
        peer.send(b"x" * 65_507)
        with pytest.raises(OSError, match="too long"):
            peer.send(b"x" * 70_000)
        await eventually(lambda: bool(received))
    assert received == [b"x" * 65_507]


async def test_datagram_cut_by_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A datagram that did not fit what was read of it is counted as invalid and not handed on."""
    monkeypatch.setattr(datagram, "MAX_DATAGRAM_BYTES", len(EVENT))
    received, before = Received(), invalid("datagram", "truncated")
    async with udp_input(received) as (_, peer):
        peer.send(EVENT + b"x" * 100)
        peer.send(EVENT)
        await eventually(lambda: bool(received))
    assert received == [EVENT]
    assert invalid("datagram", "truncated") - before == 1


async def test_datagram_flood_leaves_the_loop_its_turn() -> None:
    """However many datagrams wait, the loop's other work runs after 256 of them."""
    received, counts = Received(), [0]
    async with udp_input(received) as (_, peer):
        for _ in range(1000):
            peer.send(EVENT)
        while len(received) < 1000:
            await asyncio.sleep(0)
            counts.append(len(received))
    assert max(later - earlier for earlier, later in pairwise(counts)) <= 256


async def test_datagram_receive_buffer_too_small() -> None:
    """The start logs the requested and the granted size; less than requested is a warning with its remedy."""
    with capture_logs() as logs:
        async with udp_input(Received(), buffer_bytes=1 << 20) as (source, _):
            assert source.granted_buffer_bytes == 1 << 20
        async with udp_input(Received(), buffer_bytes=0x7000_0000) as (source, _):
            granted = source.granted_buffer_bytes
    assert [(line["requested"], line["granted"]) for line in logs] == [(1 << 20, 1 << 20), (0x7000_0000, granted)]
    assert "remedy" not in logs[0]
    assert granted < 0x7000_0000
    assert (logs[1]["log_level"], logs[1]["remedy"]) == ("warning", "sysctl -w net.core.rmem_max=1879048192")


async def test_datagram_kernel_drops() -> None:
    """Datagrams the kernel threw away because the buffer was full are told, where the kernel tells."""
    async with udp_input(Received(), buffer_bytes=4096) as (source, peer):
        if source.kernel_drops() is None:
            pytest.skip("this kernel does not count them")
        for _ in range(100):
            peer.send(b"x" * 1000)
        drops = source.kernel_drops()
    assert drops
    assert source.kernel_drops() is None


async def test_datagram_address_in_use() -> None:
    """A port that is taken is an error that names the address and says what to do."""
    async with udp_input(Received()) as (first, _):
        second = DatagramInput(first.address, Received())
        with pytest.raises(UnavailableError, match=f"{first.address}.*end the program"):
            await second.start()


async def test_stream_address_in_use() -> None:
    """A port that is taken is an error that names the address and says what to do."""
    async with tcp_input(Received()) as first:
        second = StreamInput(first.address, Received())
        with pytest.raises(UnavailableError, match=f"{first.address}.*end the program"):
            await second.start()


@pytest.mark.parametrize(
    ("kind", "scheme", "setting"), [(DatagramInput, "udp", "datagram"), (StreamInput, "tcp", "stream")]
)
async def test_address_of_another_machine(
    kind: type[DatagramInput | StreamInput], scheme: Scheme, setting: str
) -> None:
    """An address this machine does not have is an error that names it and the setting to change."""
    source = kind(Address(scheme, "192.0.2.1", 5066), Received())
    with pytest.raises(UnavailableError, match=rf"192\.0\.2\.1.*change \[bridge\] {setting}"):
        await source.start()


@pytest.mark.parametrize(("kind", "address"), [(DatagramInput, TCP), (StreamInput, UDP)])
def test_address_of_another_transport(kind: type[DatagramInput | StreamInput], address: Address) -> None:
    """A TCP address for datagrams, or UDP for a stream, is refused rather than taken for the other."""
    with pytest.raises(ConfigError, match=str(address)):
        kind(address, Received())


@pytest.mark.parametrize("size", [100, len(STREAM)])
async def test_stream(size: int) -> None:
    """The objects of a stream are handed on one by one, in order, and counted."""
    received, before = Received(), metrics.total(metrics.RECEIVED, transport="stream")
    async with tcp_input(received) as source:
        await send(source, *(STREAM[first : first + size] for first in range(0, len(STREAM), size)))
    assert b"".join(received) == STREAM
    assert sorted(EVENTS) == sorted(received)
    assert len(EVENTS) == metrics.total(metrics.RECEIVED, transport="stream") - before


async def test_streams_do_not_mix() -> None:
    """Halves of objects on two connections make two objects, and both connections are in the gauge."""
    received = Received()
    async with tcp_input(received) as source, peer_of(source) as (_, one), peer_of(source) as (_, other):
        one.write(EVENTS[0][:20])
        other.write(EVENTS[1][:30])
        await eventually(lambda: metrics.CONNECTIONS._value.get() == 2)
        other.write(EVENTS[1][30:])
        await eventually(lambda: len(received) == 1)
        one.write(EVENTS[0][20:])
        await eventually(lambda: len(received) == 2)
    assert received == [EVENTS[1], EVENTS[0]]
    assert metrics.CONNECTIONS._value.get() == 0


async def test_stream_replies() -> None:
    """What `receive` returns goes back to the peer that asked, in order."""
    async with tcp_input(lambda data: b"<" + data + b">") as source, peer_of(source) as (reader, writer):
        writer.write(b'{"id":1}{"id":2}')
        writer.write_eof()
        assert await reader.read() == b'<{"id":1}><{"id":2}>'


async def test_stream_of_large_datagram_size() -> None:
    """An event of 70 kB, more than UDP can carry, arrives by stream."""
    large = b'{"jsonrpc":"' + b"x" * 70_000 + b'"}'
    received = Received()
    async with tcp_input(received) as source:
        await send(source, large)
    assert received == [large]


@pytest.mark.parametrize(
    ("data", "reason", "events"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "garbage", 0),
        (EVENT + b"\x00\xff]}" + EVENT, "garbage", 2),
        (EVENT[:30] + EVENT, "truncated", 1),
        (EVENT + EVENT[:30], "incomplete", 1),
        (b'{"a":"' + b"x" * 3000 + b'"}' + EVENT, "oversized", 1),
        (b"{" * 10_000_000, "truncated", 0),
    ],
)
async def test_stream_of_other_things(data: bytes, reason: str, events: int) -> None:
    """What is no event is counted by its kind, warned of with the peer, and costs no good event."""
    received, before = Received(), invalid("stream", reason)
    with capture_logs() as logs:
        async with tcp_input(received, max_bytes=2000) as source:
            await send(source, data)
    assert received == [EVENT] * events
    assert invalid("stream", reason) - before == 1
    assert any(reason in line["event"] and line["peer"].startswith("tcp:127.0.0.1:") for line in logs)


async def test_stream_hands_on_invalid_utf8() -> None:
    """Whether the text is UTF-8 is for `receive` to judge: the framing goes on behind it."""
    received, bad = Received(), b'{"jsonrpc":"\xff\xc3"}'
    async with tcp_input(received) as source:
        await send(source, bad + EVENT)
    assert received == [bad, EVENT]


@pytest.mark.parametrize("fault", [b"", EVENT[:30]])
async def test_stream_silent_peer(fault: bytes) -> None:
    """A peer that says nothing, or stops in the middle, keeps nobody waiting, and not our close either."""
    received = Received()
    async with tcp_input(received) as source, peer_of(source) as (reader, silent):
        silent.write(fault)
        await send(source, EVENT)
        assert received == [EVENT]
        await source.close()
        assert await reader.read() == b""


@pytest.mark.parametrize(("fault", "breaks"), [(b"", 0), (EVENT[:30], 1), (b"GET / HTTP/1.1\r\n", 0)])
async def test_stream_peer_without_an_event_is_closed(fault: bytes, breaks: int) -> None:
    """A connection that brings no whole event for some time is closed and counted; a break only if one began."""
    before = invalid("stream", "silent")
    with capture_logs() as logs:
        async with tcp_input(Received(), first_object_seconds=0.05) as source, peer_of(source) as (reader, writer):
            writer.write(fault)
            assert await reader.read() == b""
            await eventually(lambda: not source._connections)
            assert (source.breaks, source.is_down) == (breaks, breaks > 0)
    assert "a connection that brought no event was closed" in [line["event"] for line in logs]
    assert invalid("stream", "silent") - before == 1


async def test_stream_quiet_peer_stays() -> None:
    """A connection that brought an event may be silent afterwards for as long as it likes."""
    received = Received()
    async with tcp_input(received, first_object_seconds=0.05) as source, peer_of(source) as (_, writer):
        writer.write(EVENT)
        async with peer_of(source) as (reader, _):
            assert await reader.read() == b""
        writer.write(EVENT)
        await eventually(lambda: len(received) == 2)


async def test_stream_peer_that_never_stops() -> None:
    """A peer that sends as fast as it can, from outside this loop, does not keep another's event from us."""
    ended, flooded = threading.Event(), [0]
    received = Received()

    def receive(data: bytes) -> None:
        if data == b"{}":
            flooded[0] += 1
        else:
            received.append(data)

    def flood(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as peer:
            while not ended.is_set():
                peer.sendall(b"{}" * 30_000)

    async with tcp_input(receive) as source:
        flooder = asyncio.create_task(asyncio.to_thread(flood, source.address.port))
        try:
            await eventually(lambda: flooded[0] > 0)
            for _ in range(3):
                await asyncio.wait_for(send(source, EVENT), 10)
        finally:
            ended.set()
            await flooder
    assert received == [EVENT] * 3


async def test_stream_of_many_objects_leaves_the_loop_its_turn() -> None:
    """However many objects come in one read, the loop's other work runs after 256 of them."""
    received, counts = Received(), [0]
    async with tcp_input(received) as source, peer_of(source) as (_, writer):
        writer.write(b"{}" * 10_000)
        while len(received) < 10_000:
            await asyncio.sleep(0)
            counts.append(len(received))
    assert max(later - earlier for earlier, later in pairwise(counts)) <= 256


async def test_stream_peer_that_reads_no_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that asks and does not read the answers is closed before they fill our memory."""
    monkeypatch.setattr(stream, "REPLY_SECONDS", 0.1)
    calls = [0]

    def receive(_: bytes) -> bytes:
        calls[0] += 1
        return b"x" * 10_000

    with capture_logs() as logs:
        async with tcp_input(receive) as source, peer_of(source) as (_, writer):
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a read transport, too
            writer.write(b"{}" * 1_000_000)
            await eventually(lambda: any("does not read its replies" in line["event"] for line in logs))
    assert calls[0] < 100_000


async def test_stream_idle_peers_give_way() -> None:
    """However many silent connections a stranger opens, OpenSIPS gets in, and keeps the one that it has."""
    received, before = Received(), metrics.total(metrics.DROPPED, queue="stream_connections")
    with capture_logs() as logs:
        async with tcp_input(received, max_connections=4) as source, AsyncExitStack() as strangers:
            for _ in range(3):
                await strangers.enter_async_context(peer_of(source))
            async with peer_of(source) as (_, opensips):
                opensips.write(EVENT)
                await eventually(lambda: len(received) == 1)
                for _ in range(20):
                    await strangers.enter_async_context(peer_of(source))
                await send(source, EVENT)
                opensips.write(EVENT)
                await eventually(lambda: len(received) == 3)
                assert len(source._connections) <= 4
                assert source.breaks == 1
    assert metrics.total(metrics.DROPPED, queue="stream_connections") - before >= 20
    assert [line["event"] for line in logs if "limit" in line] == [
        "a silent connection gave way to a new one: too many are open"
    ]


async def test_stream_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection over the limit is closed at once and counted, unless one of the others is quiet or ends."""
    received, before = Received(), metrics.total(metrics.DROPPED, queue="stream_connections")
    async with tcp_input(received, max_connections=1) as source:
        async with peer_of(source) as (quiet, writer):
            writer.write(EVENT)
            await eventually(lambda: len(received) == 1)
            async with peer_of(source) as (refused, _):
                assert await refused.read() == b""
            assert metrics.total(metrics.DROPPED, queue="stream_connections") - before == 1
            monkeypatch.setattr(stream, "QUIET_SECONDS", 0.0)
            await send(source, EVENT)
            assert await quiet.read() == b""
        await send(source, EVENT)
    assert received == [EVENT] * 3


async def test_stream_connection_lost() -> None:
    """A connection that is reset is logged with its peer, and the others go on."""
    received = Received()
    with capture_logs() as logs:
        async with tcp_input(received) as source:
            async with peer_of(source) as (_, writer):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                writer.write(EVENT)
                await eventually(lambda: len(received) == 1)
            await eventually(lambda: not source._connections)
            await send(source, EVENT)
    assert received == [EVENT] * 2
    assert [line["event"] for line in logs if "peer" in line] == ["connection lost"]


@pytest.mark.parametrize("turns", range(6))
async def test_close_right_after_a_connection(turns: int) -> None:
    """Closing while a connection is being accepted, however far that got, closes the connection."""
    loop = asyncio.get_running_loop()
    async with tcp_input(Received()) as source:
        with socket.create_connection((source.address.host, source.address.port)) as peer:
            peer.setblocking(False)
            for _ in range(turns):
                await asyncio.sleep(0)
            await source.close()
            async with asyncio.timeout(5):
                with suppress(ConnectionResetError):
                    assert await loop.sock_recv(peer, 1) == b""


@pytest.mark.parametrize("transport", ["datagram", "stream"])
async def test_receive_that_raises(transport: str) -> None:
    """A bug in `receive` costs one object, is counted, and is logged once with its traceback."""
    received, before = Received(), invalid(transport, "error")

    def receive(data: bytes) -> None:
        if data != EVENT:
            raise ZeroDivisionError
        received(data)

    with capture_logs() as logs:
        if transport == "datagram":
            async with udp_input(receive) as (_, peer):
                for data in (b"{}", b"{}", EVENT):
                    peer.send(data)
                await eventually(lambda: bool(received))
        else:
            async with tcp_input(receive) as source:
                await send(source, b"{}{}" + EVENT)
    assert received == [EVENT]
    assert invalid(transport, "error") - before == 2
    assert len([line for line in logs if line.get("exc_info")]) == 1
