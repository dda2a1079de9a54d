"""Mirrored SIP messages on their way from HEP to Redis: of recorded devices only, bounded, and without secrets."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
import pytest

from companion import metrics
from companion.bus.envelope import Message
from companion.consumer.traces import MAX_WAITING, MAX_WAITING_BYTES, TURN_BYTES, TraceRecorder
from companion.opensips.hep import PACKET
from companion.query import traces
from companion.query.traces import DeviceTrace, load_packets, render_trace
from companion.simulator.redis import EmbeddedRedis
from companion.store.recordings import Recording, load_spelling, save_recording
from companion.store.traces import TraceLimits, append_packets, load_trace, load_trace_extent, trim_trace
from companion.trace.ladder import ALL_STEPS
from companion.trace.packet import Packet, pack, unpack
from tests.integration.conftest import MakeSetup, Setup, Udp, eventually, notification, phone_event
from tests.unit.trace.messages import EDGE, encode_hep, mirrored, sip

WEB = "192.0.2.7:40000"
DAVE = "dave/urn:uuid:00000000-0000-4000-8000-000000000001"
DAVE_EVENT: dict[str, Any] = {
    "uri": "sip:k3j2h1@x.invalid;transport=ws",
    "received": f"sip:{WEB};transport=ws",
    "socket": f"ws:{EDGE}",
    "attr": "<urn:uuid:00000000-0000-4000-8000-000000000001>",
}
SECRET = "s3cr3tV4lue"
Send = Callable[[bytes], object]


def now() -> int:
    return int(time.time() * 1000)


def record(setup: Setup, device: str = DAVE, seconds: int = 60) -> None:
    assert save_recording(setup.store, Recording(device, "support", now(), now() + seconds * 1000), 5)


def trace(setup: Setup, device: str = DAVE) -> list[Packet]:
    return [unpack(packed) for packed in load_trace(setup.store, device)]


def starts(setup: Setup, device: str = DAVE) -> list[str]:
    return [packet.sip.split(b"\r\n")[0].decode() for packet in trace(setup, device)]


_ticks = count(1)


def hep(start: str, *, source: str = WEB, target: str = EDGE, **parts: str) -> bytes:
    one = mirrored(0, source, target, sip(start, **parts))
    return encode_hep(one._replace(at_us=now() * 1000 + next(_ticks)))  # no two at the same time


def result(name: str) -> float:
    return metrics.total(metrics.TRACE_PACKETS, result=name)


@asynccontextmanager
async def running(make_setup: MakeSetup, scheme: str = "udp", **sections: Any) -> AsyncIterator[tuple[Setup, Send]]:
    """A companion with a registered device, and what sends it HEP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bridge = {"hep": f"{scheme}:127.0.0.1:{port}", **sections.pop("bridge", {})}
    setup = make_setup(bridge=bridge, **sections)
    async with setup.running():
        with Udp(setup.datagram) as udp:
            udp.send(notification("E_UL_CONTACT_INSERT", phone_event("dave", **DAVE_EVENT)))
        await eventually(lambda: setup.store.connection.call("EXISTS", setup.store.keys.device(DAVE)))
        kind = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
        with socket.socket(socket.AF_INET, kind) as peer:
            peer.connect(("127.0.0.1", port))
            yield setup, peer.sendall


@pytest.mark.parametrize("scheme", ["udp", "tcp"])
async def test_recorded_device(make_setup: MakeSetup, scheme: str) -> None:
    """Messages of a recorded device are stored with times and addresses; those of others are counted and dropped."""
    async with running(make_setup, scheme) as (setup, send):
        unrecorded = result("unrecorded")
        send(hep("OPTIONS sip:before@example.com"))
        await eventually(lambda: result("unrecorded") == unrecorded + 1)
        record(setup, seconds=0)  # over, though no job has ended it
        send(hep("OPTIONS sip:before@example.com"))
        await eventually(lambda: result("unrecorded") == unrecorded + 2)
        record(setup)
        send(hep("INVITE sip:bob@example.com"))
        send(hep("INVITE sip:bob@example.com", source="192.0.2.99:1", from_="<sip:carol@h>", call_id="c9"))
        send(hep("200 OK", source=EDGE, target=WEB, cseq="1 INVITE", from_="<sip:Dave@h>;tag=1"))
        await eventually(lambda: len(trace(setup)) == 2)
        first = trace(setup)[0]
        assert starts(setup) == ["INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 200 OK"]
        assert (first.protocol, first.source, first.target, first.node) == ("ws", WEB, EDGE, "opensips")
        assert abs(first.at_us // 1000 - now()) < 60_000
        await eventually(lambda: load_spelling(setup.store, DAVE) == "Dave")  # OpenSIPS compares letter by letter
        assert setup.store.connection.call("PTTL", setup.store.keys.trace(DAVE)) > 0


@pytest.mark.parametrize("mask", [True, False])
async def test_no_secret_is_stored(make_setup: MakeSetup, mask: bool) -> None:  # noqa: FBT001
    """Redis never holds a digest answer, a push token, an SRTP key or an ICE password; with mask = false it does."""
    more = f'Authorization: Digest username="dave", response="{SECRET}"\nContact: <sip:dave@x;pn-prid={SECRET}>'
    body = f"v=0\r\na=crypto:1 AES inline:{SECRET}\r\na=ice-pwd:{SECRET}\r\n"
    async with running(make_setup, trace={"mask": mask}) as (setup, send):
        record(setup)
        send(hep("REGISTER sip:example.com", more=more, body=body))
        await eventually(lambda: trace(setup))
        assert (SECRET.encode() in trace(setup)[0].sip) is not mask


BAD: list[tuple[str, str, bytes]] = [
    ("hep", "version", b"\x02\x10\x02\x11 HEP2"),
    ("hep", "length", hep("BYE sip:a@b")[:-3]),
    ("hep", "chunk", b"HEP3\x00\x08\x00\x00"),
    ("hep", "not_sip", hep("BYE sip:a@b").replace(b"\x00\x0b\x00\x07\x01", b"\x00\x0b\x00\x07\x63")),
    ("traces", "not_sip", encode_hep(mirrored(0, WEB, EDGE, b"\xff\xfe{json?}"))),
]


async def test_bad_input(make_setup: MakeSetup) -> None:
    """What is no HEP packet with SIP is counted by its reason, and the next good packets are stored as they are.

    Among these are one of 64,000 bytes, and one with bytes that are not UTF-8.
    """

    def invalid() -> list[float]:
        return [metrics.total(metrics.INVALID, where=where, reason=reason) for where, reason, _ in BAD]

    async with running(make_setup) as (setup, send):
        record(setup)
        before = invalid()
        for _, _, data in BAD:
            send(data)
        send(hep("MESSAGE sip:bob@example.com", body="x" * 64_000))
        send(encode_hep(mirrored(now() + 1, WEB, EDGE, sip("BYE sip:bob@example.com") + b"\xff\x00")))
        await eventually(lambda: len(trace(setup)) == 2)
        assert invalid() == [number + 1 for number in before]
        assert [len(packet.sip) > 64_000 for packet in trace(setup)] == [True, False]
        assert trace(setup)[1].sip.endswith(b"\xff\x00")


async def test_forged_on_the_bus(make_setup: MakeSetup) -> None:
    """A packet whose addresses are none is refused and counted: a trace with it could not be exported."""

    def forged(**changes: Any) -> Message:
        fields = {"at_us": now() * 1000, "protocol": "ws", "source": WEB, "target": EDGE, "sip": sip("BYE sip:a@b")}
        return Message(PACKET, "opensips", 1, 1, [(now(), msgspec.Raw(msgspec.msgpack.encode(fields | changes)))])

    setup = make_setup()
    recorder = TraceRecorder(setup.config, setup.store)
    addresses = ["phone:1", "192.0.2.7", "192.0.2.7:65536", "<b>:1", "[::1%x]:1", "[fe80::1:1", "\x1b[2J:1"]
    messages = [forged(**{end: one}) for one in addresses for end in ("source", "target")]
    before = metrics.total(metrics.INVALID, where="traces")
    for message in (*messages, forged(protocol="\x1b[2J"), forged(source="[2001:db8::1]:5060")):
        recorder.put(message)
    assert len(recorder._take_turn()) == 1
    assert metrics.total(metrics.INVALID, where="traces") == before + len(messages) + 1


async def test_key(make_setup: MakeSetup) -> None:
    """With hep_key a stranger's packets are refused and counted."""
    async with running(make_setup, bridge={"hep_key": "kept"}) as (setup, send):
        record(setup)
        before = metrics.total(metrics.INVALID, where="hep", reason="key")
        send(hep("INVITE sip:forged@example.com"))
        send(encode_hep(mirrored(now(), WEB, EDGE, sip("INVITE sip:bob@example.com")), b"kept"))
        await eventually(lambda: trace(setup))
        assert starts(setup) == ["INVITE sip:bob@example.com SIP/2.0"]
        assert metrics.total(metrics.INVALID, where="hep", reason="key") == before + 1


async def test_flood(make_setup: MakeSetup) -> None:
    """A flood of messages is dropped beyond hep_per_second and counted; each event of a phone arrives meanwhile."""
    async with running(make_setup, bridge={"hep_per_second": 200}) as (setup, send):
        record(setup)
        dropped = metrics.total(metrics.DROPPED, queue="hep")
        flood = hep("INVITE sip:bob@example.com", source="192.0.2.99:1", from_="<sip:carol@h>", call_id="c9")
        with Udp(setup.datagram) as udp:
            for n in range(50):
                for _ in range(100):
                    send(flood)
                udp.send(notification("E_UL_CONTACT_INSERT", phone_event(f"phone{n}")))
        last = "phone49/phone49"
        await eventually(lambda: setup.store.connection.call("EXISTS", setup.store.keys.device(last)))
        assert metrics.total(metrics.DROPPED, queue="hep") > dropped
        assert setup.feed().missed == 0
        assert trace(setup) == []


async def test_redis_away(make_setup: MakeSetup, own_redis: EmbeddedRedis) -> None:
    """Messages that come while Redis is away are stored when it is back, in order, and the recording goes on."""
    async with running(make_setup, server=own_redis) as (setup, send):
        record(setup)
        send(hep("INVITE sip:before@example.com"))
        await eventually(lambda: len(trace(setup)) == 1)
        dropped = metrics.total(metrics.DROPPED, queue="traces")
        await asyncio.to_thread(own_redis.stop)
        published = metrics.total(metrics.PUBLISHED, event=PACKET)
        for n in range(5):
            send(hep(f"INVITE sip:away{n}@example.com"))
        await eventually(lambda: metrics.total(metrics.PUBLISHED, event=PACKET) == published + 5)
        await asyncio.to_thread(own_redis.start)
        await eventually(lambda: len(trace(setup)) == 6, 30)
        send(hep("INVITE sip:after@example.com"))
        await eventually(lambda: len(trace(setup)) == 7)
        users = [start.partition("@")[0].rpartition(":")[2] for start in starts(setup)]
        assert users == ["before", *(f"away{n}" for n in range(5)), "after"]
        assert metrics.total(metrics.DROPPED, queue="traces") == dropped


def bus_message(*messages: bytes) -> Message:
    """Return SIP messages as they come over the bus, in one message."""
    fields = {"at_us": now() * 1000, "protocol": "ws", "source": WEB, "target": EDGE}
    events = [(now(), msgspec.Raw(msgspec.msgpack.encode({**fields, "sip": one}))) for one in messages]
    return Message(PACKET, "opensips", 1, 1, events)


def test_bounds_of_what_waits(make_setup: MakeSetup) -> None:
    """What waits for Redis is bounded in number and bytes; what does not fit is counted, whoever sends how much."""
    setup = make_setup()
    for size, most in ((100, MAX_WAITING), (65_000, MAX_WAITING_BYTES // 65_000)):
        recorder = TraceRecorder(setup.config, setup.store)
        dropped = metrics.total(metrics.DROPPED, queue="traces")
        number = most // 10 * 11
        for _ in range(number // 10):
            recorder.put(bus_message(*[b"x" * size] * 10))
        assert most - 2 <= len(recorder._waiting) <= most
        assert recorder._waiting_bytes <= MAX_WAITING_BYTES
        assert metrics.total(metrics.DROPPED, queue="traces") == dropped + number // 10 * 10 - len(recorder._waiting)


def test_bounds_of_a_turn(make_setup: MakeSetup) -> None:
    """A turn ends with the packet that passes 256 kB, or after 200: other tasks wait for no more than that."""
    setup = make_setup()
    recorder = TraceRecorder(setup.config, setup.store)
    recorder.put(bus_message(*[b"x" * 65_000] * 10, *[b"y" * 100] * 500))
    turns = []
    while recorder._waiting:
        packets = recorder._take_turn()
        turns.append((len(packets), sum(len(packet.sip) for _, packet in packets)))
    assert [number for number, _ in turns] == [4 + 1, 4 + 1, 200, 200, 100]
    assert all(size <= TURN_BYTES + 65_000 for _, size in turns)
    assert recorder._waiting_bytes == 0


def test_bounds(make_setup: MakeSetup) -> None:
    """A trace holds at most so many packets, bytes and hours, the newest; storing one twice changes nothing."""
    setup = make_setup()
    rows = [
        (n * 1_000_000, pack(Packet(n * 1_000_000, "ws", WEB, EDGE, "edge", "device", b"x" * 9))) for n in range(50)
    ]
    for _ in range(2):
        append_packets(setup.store, DAVE, rows, 60_000)
    assert load_trace_extent(setup.store, DAVE) == (50, 49_000_000)
    size = len(rows[0][1])
    assert trim_trace(setup.store, DAVE, TraceLimits(40, 1 << 20, 60_000), 49_000) == 10
    assert trim_trace(setup.store, DAVE, TraceLimits(40, 30 * size, 60_000), 49_000) >= 10
    assert trim_trace(setup.store, DAVE, TraceLimits(40, 1 << 20, 5_000), 49_000) >= 20
    assert [packet.at_us for packet in trace(setup)] == [n * 1_000_000 for n in range(44, 50)]
    assert load_trace(setup.store, DAVE, skip=4, count=9) == [rows[44][1], rows[45][1]]


def test_a_trace_too_large_to_read(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a trace that unpacks to far more than it takes, a reader unpacks a bounded part, and says so."""
    setup = make_setup()
    large = sip("MESSAGE sip:bob@example.com", call_id="large", body="x" * 60_000)
    rows = [(n, pack(Packet(n, "ws", WEB, EDGE, "edge", "device", large))) for n in range(10**6, 10**8, 10**6)]
    first = Packet(0, "ws", WEB, EDGE, "edge", "device", sip("INVITE sip:bob@example.com", call_id="first"))
    append_packets(setup.store, DAVE, [(0, pack(first)), *rows], 60_000)
    assert sum(len(packed) for _, packed in rows) < 50_000
    trace = load_packets(setup.store, DAVE, max_bytes=1 << 20)
    assert [packet.at_us for packet in trace.packets] == [at_us for at_us, _ in rows[-((1 << 20) // len(large)) :]]
    assert trace.is_cut
    assert load_packets(setup.store, DAVE, "first", 1 << 20) == DeviceTrace(DAVE, [], is_cut=True)
    assert load_packets(setup.store, DAVE, "first") == DeviceTrace(DAVE, [first], is_cut=False)
    monkeypatch.setattr(traces, "MAX_READ_BYTES", 1 << 20)
    page = render_trace(setup.config, setup.store, DAVE, now(), ALL_STEPS)
    assert (page["cut"], page["total"]) == (True, len(trace.packets))


def test_limit_of_recordings(make_setup: MakeSetup) -> None:
    """No more than max_recordings devices are recorded at once; a device that is recorded already may go on."""
    setup = make_setup()
    for device in ("a/1", "b/1", "a/1"):
        assert save_recording(setup.store, Recording(device, "support", 0, 1), 2)
    assert not save_recording(setup.store, Recording("c/1", "support", 0, 1), 2)
