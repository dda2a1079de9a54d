"""The bridge publishes the golden messages, byte for byte, and the consumer reads them."""

from collections.abc import Iterator

import msgspec
import pytest
import zmq

from companion.bridge.bridge import Bridge
from companion.bus.envelope import decode
from companion.config import BridgeSection
from companion.simulator.redis import find_free_port
from tests.unit.bus.golden import GoldenMessage, read_golden

GOLDEN = read_golden()
GOLDEN_MESSAGES = pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.title)


@pytest.fixture(scope="module")
def bridge() -> Iterator[Bridge]:
    bridge = Bridge(BridgeSection(node="sip1", publish=f"tcp://127.0.0.1:{find_free_port()}"))
    yield bridge
    bridge.publisher.close()


@pytest.fixture(scope="module")
def bus(bridge: Bridge) -> Iterator[zmq.Socket[bytes]]:
    """Return the socket of a subscriber that the bridge knows."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(b"")
        socket.connect(bridge.publisher.endpoint)
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
