"""The bridge publishes the golden messages, byte for byte, and the consumer reads them."""

from collections.abc import Iterator
from types import SimpleNamespace

import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from companion.bridge.bridge import Bridge
from companion.bus.envelope import NODE, decode, decode_heartbeat, peek_node
from companion.bus.publisher import Publisher
from companion.config import BridgeSection
from companion.simulator.redis import find_free_port
from tests.unit.bus.golden import GoldenHeartbeat, GoldenMessage, read_golden, read_golden_heartbeats

GOLDEN = read_golden()
GOLDEN_MESSAGES = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.title)
HEARTBEATS = read_golden_heartbeats()
GOLDEN_HEARTBEATS = pytest.mark.parametrize("golden", HEARTBEATS, ids=lambda golden: golden.title)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    bridge = Bridge(BridgeSection(node="sip1", publish=f"tcp://127.0.0.1:{find_free_port()}"))
    yield bridge
    assert isinstance(bridge.publisher, Publisher)
    bridge.publisher.close()


@pytest.fixture(scope="module")
def bus(bridge: Bridge) -> Iterator[zmq.Socket[bytes]]:
    """Return the socket of a subscriber that the bridge knows."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(bridge.publisher.endpoint)
        assert isinstance(bridge.publisher, Publisher)
        assert bridge.publisher._socket.poll(10_000)
        yield socket


@GOLDEN_MESSAGES
def test_the_bridge(
    bridge: Bridge, bus: zmq.Socket[bytes], golden: GoldenMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What OpenSIPS sends in one go becomes the message as it stands in the table."""
    times = iter(event.ts for event in golden.events)
    monkeypatch.setattr(bridge._stamps, "next", lambda _: next(times))
    monkeypatch.setattr(bridge, "_soon", lambda _: None)
    bridge.publisher.run = golden.run
    bridge.publisher.last_seqs[golden.name] = golden.seq - 1
    for event in golden.events:
        bridge.receive(event.payload(golden.name))
    bridge._flush()
    assert bus.poll(10_000)
    assert bus.recv_multipart() == [golden.name.encode(), golden.body]


@GOLDEN_MESSAGES
def test_the_consumer(golden: GoldenMessage) -> None:
    """The consumer reads what happened."""
    message = decode(golden.name.encode(), golden.body)
    assert message[:4] == (golden.name, golden.node, golden.run, golden.seq)
    assert [ts for ts, _ in message.events] == [event.ts for event in golden.events]
    names = [list(msgspec.msgpack.decode(params)) for _, params in message.events]
    assert names == [[name for name, _ in event.params] for event in golden.events]


@GOLDEN_HEARTBEATS
def test_a_heartbeat(bridge: Bridge, bus: zmq.Socket[bytes], golden: GoldenHeartbeat) -> None:
    """A publisher's heartbeat stands in the table, byte for byte."""
    counts = {name: value for name, value in golden.params.items() if name not in ("seqs", "end")}
    publisher = bridge.publisher
    publisher.run = golden.run
    publisher.last_seqs = {**golden.params["seqs"], golden.name: golden.seq - 1}
    publisher._counts = counts
    publisher._beat(golden.ts, **({"end": True} if "end" in golden.params else {}))
    assert bus.poll(10_000)
    assert bus.recv_multipart() == [golden.name.encode(), golden.body]


def test_a_heartbeat_of_the_bridge(bridge: Bridge, bus: zmq.Socket[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bridge adds the counts of its inputs, in this order."""
    (golden,) = (heartbeat for heartbeat in HEARTBEATS if not heartbeat.is_common)
    for name in ("last_event_at", "received", "invalid", "kernel_drops"):
        monkeypatch.setattr(bridge, f"_{name}", golden.params[name])
    stream = SimpleNamespace(breaks=golden.params["stream_breaks"], is_down=golden.params["stream_down"])
    monkeypatch.setattr(bridge, "stream", stream)
    monkeypatch.setattr(bridge._clock, "now", lambda: golden.ts)
    bridge.publisher.run = golden.run
    bridge.publisher.last_seqs = {**golden.params["seqs"], golden.name: golden.seq - 1}
    bridge._send_heartbeat()
    assert bus.poll(10_000)
    assert bus.recv_multipart() == [golden.name.encode(), golden.body]


@GOLDEN_HEARTBEATS
def test_the_consumer_of_a_heartbeat(golden: GoldenHeartbeat) -> None:
    """The consumer reads what a heartbeat tells."""
    message = decode(golden.name.encode(), golden.body)
    assert message[:4] == (golden.name, golden.node, golden.run, golden.seq)
    ((ts, params),) = message.events
    heartbeat = decode_heartbeat(params)
    assert ts == golden.ts
    assert {name: getattr(heartbeat, name) for name in golden.params} == golden.params


@pytest.mark.parametrize("golden", [*GOLDEN, *HEARTBEATS], ids=lambda golden: golden.title)
def test_the_node_alone(golden: GoldenMessage | GoldenHeartbeat) -> None:
    """The node of a message is read without the rest of it."""
    assert peek_node(golden.body) == peek_node(memoryview(golden.body)) == golden.node


@given(st.from_regex(NODE, fullmatch=True), st.binary(max_size=90))
def test_the_node_of_any_message(node: str, noise: bytes) -> None:
    """The node that is read is the one that decoding tells, whatever its length; of noise there is none or any text."""
    body = msgspec.msgpack.encode({"v": 1, "node": node, "run": 1, "seq": 0, "ts": 1, "params": {}})
    assert peek_node(body) == decode(b"E", body).node == node
    assert isinstance(peek_node(noise), str)
    assert isinstance(peek_node(body[: len(noise)]), str)
