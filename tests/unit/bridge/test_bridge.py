"""The bridge: times that order events, a clock that is steady, and an answer to each payload."""

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from companion.bridge.bridge import Bridge
from companion.bridge.stamps import Stamps
from companion.bus.publisher import Publisher
from companion.config import BridgeSection
from companion.opensips import events
from companion.steady_clock import SteadyClock

ENDPOINT = "inproc://bridge"


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = 1000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def ms(self) -> int:
        return int(self.now)


# Times for events

calls = st.lists(st.tuples(st.sampled_from(["alice", "bob", "carol", None]), st.integers(0, 3)), max_size=60)


@given(calls)
def test_stamps_order_events(calls: list[tuple[str | None, int]]) -> None:
    """Times rise for each AOR, and an event of no AOR is neither before those it followed nor after those it led."""
    clock = Clock()
    stamps = Stamps(clock.ms)
    stamped: list[tuple[str | None, int]] = []
    for aor, passed in calls:
        clock.now += passed
        ts = stamps.next(aor)
        assert ts >= clock.now
        assert all(ts > earlier for other, earlier in stamped if other == aor and aor)
        assert all(ts >= earlier for other, earlier in stamped if not (other and aor))
        stamped.append((aor, ts))


def test_stamps_of_many_aors() -> None:
    """Different AORs share a millisecond: a burst of the whole fleet is stamped with the time it came."""
    stamps = Stamps(Clock().ms)
    assert {stamps.next(f"user{number}") for number in range(10_000)} == {1000}


def test_stamps_of_many_deaths() -> None:
    """When thousands of connections die and come back at once, no event is put into the future."""
    stamps = Stamps(Clock().ms)
    times = [stamps.next(aor) for number in range(10_000) for aor in (None, f"user{number}")]
    assert max(times) <= 1001


def test_stamps_forget() -> None:
    """Once the clock was set back, times begin again at its time."""
    clock = Clock(5000)
    stamps = Stamps(clock.ms)
    stamps.next("alice")
    clock.now = 1000
    assert stamps.next("alice") == 5001
    stamps.forget()
    assert stamps.next("alice") == 1000


# The clock


@pytest.fixture
def wall() -> Clock:
    return Clock(1_795_452_109.605)


@pytest.fixture
def steady() -> Clock:
    return Clock(50.0)


@pytest.fixture
def clock(wall: Clock, steady: Clock) -> SteadyClock:
    return SteadyClock(wall, steady)


def test_clock_runs_on_evenly(clock: SteadyClock, wall: Clock, steady: Clock) -> None:
    """Between two looks at the machine's clock only the steady one counts."""
    steady.now += 2
    wall.now += 500
    assert clock.now() == 1_795_452_111_605


@pytest.mark.parametrize("step", [-3600.0, -1.5, 1.5, 3600.0])
def test_clock_follows_a_step(clock: SteadyClock, wall: Clock, steady: Clock, step: float) -> None:
    """A step of the machine's clock is told once, then followed."""
    wall.now += 2 + step
    steady.now += 2
    assert [step * 1000, 0] == [clock.follow(), clock.follow()]
    assert abs(clock.now() - wall.now * 1000) <= 1


def test_clock_ignores_drift(clock: SteadyClock, wall: Clock, steady: Clock) -> None:
    """A little apart is no step."""
    wall.now += 2.9
    steady.now += 2
    assert clock.follow() == 0
    assert clock.now() == 1_795_452_111_605


# Answers


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge(BridgeSection(node="n", publish=ENDPOINT))
    yield bridge
    assert isinstance(bridge.publisher, Publisher)
    bridge.publisher.close()


@pytest.fixture
def listener(bridge: Bridge) -> Iterator["zmq.Socket[bytes]"]:
    """A subscriber in this process; no network."""
    assert isinstance(bridge.publisher, Publisher)
    socket = bridge.publisher._context.socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(ENDPOINT)
    assert bridge.publisher._socket.poll(5000)
    yield socket
    socket.close(linger=0)


def notification(**changes: Any) -> bytes:
    params = {"domain": "location", "aor": "alice"}
    return json.dumps({"jsonrpc": "2.0", "method": events.AOR_INSERT, "params": params} | changes).encode()


def receive_one(listener: "zmq.Socket[bytes]") -> tuple[bytes, dict[str, Any]]:
    assert listener.poll(5000)
    topic, body = listener.recv_multipart()
    return topic, msgpack.unpackb(body)


def test_notification_goes_on_the_bus(bridge: Bridge, listener: "zmq.Socket[bytes]") -> None:
    """An event without an id gets no answer; it is published with its parameters as they came."""
    assert bridge.receive(notification()) is None
    topic, envelope = receive_one(listener)
    assert topic == b"E_UL_AOR_INSERT"
    assert envelope.pop("ts") > 1_700_000_000_000
    assert envelope == {
        "v": 1,
        "node": "n",
        "run": bridge.publisher.run,
        "seq": 0,
        "params": {"domain": "location", "aor": "alice"},
    }


def test_odd_text_goes_on_the_bus(bridge: Bridge, listener: "zmq.Socket[bytes]") -> None:
    """A byte that is no UTF-8 costs itself, not the event."""
    bridge.receive(notification().replace(b"alice", b"al\xffce"))
    assert receive_one(listener)[1]["params"]["aor"] == "al\ufffdce"


@pytest.mark.parametrize("request_id", [0, 7, "abc"])
def test_request_is_answered(bridge: Bridge, request_id: int | str) -> None:
    """A request with an id, as event_stream's reliable_mode sends them, hears OK or what is wrong with it."""
    fine = bridge.receive(notification(id=request_id))
    wrong = bridge.receive(notification(id=request_id, method="E_PIKE_BLOCKED"))
    error = {"code": -32600, "message": "unknown_event"}
    expected: list[dict[str, Any]] = [{"result": "OK"}, {"error": error}]
    assert [{"jsonrpc": "2.0", **fields, "id": request_id} for fields in expected] == [
        json.loads(answer or b"") for answer in (fine, wrong)
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b"null",
        b"[" * 100_000,
        b'{"id": 1' + b"1" * 5000 + b"}",
        notification(method=5),
        notification(params=[]),
        notification(method="HEARTBEAT"),
        notification(params={"aor": 1 << 64}),
        notification(params={"aor": "a", "x": [1 << 64]}),
    ],
    ids=range(12),
)
def test_refused_payload(bridge: Bridge, payload: bytes) -> None:
    """What is no event is counted and not published; without an id it gets no answer."""
    assert bridge.receive(payload) is None
    assert (bridge._received, bridge._invalid, bridge.publisher.last_seqs) == (1, 1, {})


def test_goes_on_after_a_refusal(bridge: Bridge, listener: "zmq.Socket[bytes]") -> None:
    """A payload that could not be packed leaves nothing of itself in the next one, and takes no seq."""
    bridge.receive(notification(params={"aor": "a", "x": [1 << 64]}))
    bridge.receive(notification())
    _, envelope = receive_one(listener)
    assert (envelope["seq"], envelope["params"]) == (0, {"domain": "location", "aor": "alice"})


def test_any_payload() -> None:
    """No bytes end the bridge, and an answer is JSON."""
    bridge = Bridge(BridgeSection(publish="inproc://any"))

    @given(st.binary() | st.text().map(str.encode))
    def receive(payload: bytes) -> None:
        answer = bridge.receive(payload)
        assert answer is None or json.loads(answer)["jsonrpc"] == "2.0"

    try:
        receive()
    finally:
        assert isinstance(bridge.publisher, Publisher)
        bridge.publisher.close()


def test_event_times_rise(bridge: Bridge, listener: "zmq.Socket[bytes]") -> None:
    """Two events of one AOR never share a time on the bus."""
    for _ in range(50):
        bridge.receive(notification())
    times = [receive_one(listener)[1]["ts"] for _ in range(50)]
    assert sorted(set(times)) == times


def test_one_aor_that_floods() -> None:
    """One AOR with thousands of events a second gets times ahead of the clock; the others, and disconnects, do not."""
    stamps = Stamps(Clock().ms)
    flood = [stamps.next("eve") for _ in range(100_000)]
    assert flood == list(range(1000, 101_000))
    assert stamps.next(None) == 2000
    assert stamps.next("alice") == 2000


def test_aors_that_are_remembered() -> None:
    """While the clock stands still in a flood, AORs with past times are forgotten: a million cost no more than some."""
    clock = Clock()
    stamps = Stamps(clock.ms)
    [stamps.next("eve") for _ in range(50)]
    for number in range(300_000):
        clock.now = 1000 + number // 10_000
        stamps.next(f"user{number}")
    assert len(stamps._last) <= 110_000
