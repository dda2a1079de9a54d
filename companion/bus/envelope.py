"""The ZeroMQ bus: envelope, publisher, subscriber, and who missed what.

Two frames: the event's name, then a msgpack map `{"v": 1, "node", "run", "seq", "ts", "params"}`. `run` is new at each
publisher start and grows; `seq` counts by one for each event name, so that a subscriber to some names sees each gap in
them. Events of one name that came in together share a message: `more` is a list of `[ts, params]`, which have the seqs
that follow: a message costs more than what is in it. A HEARTBEAT every two seconds carries the last seq of each name:
it shows a gap at the tail, and that we live.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgpack
import msgspec
import zmq
from zmq.auth.thread import ThreadAuthenticator

from companion.errors import InvalidEnvelopeError, InvalidEventError, UnavailableError

VERSION: Final = 1
HEARTBEAT: Final = "HEARTBEAT"
NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEARTBEAT_SECONDS: Final = 2.0
TOGETHER: Final = 16
"""Events in one message, at most: what waits for a slow subscriber is counted in messages."""
DRAIN: Final = 128
"""Messages taken from a socket before the event loop gets its turn again."""

Count = Annotated[int, msgspec.Meta(ge=0)]
Said = tuple[Count, msgspec.Raw]
"""One event: when the bridge received it, in epoch ms, and its parameters, a msgpack map that is not decoded yet."""


class Curve(NamedTuple):
    """CURVE keys as Z85 text. A publisher has `clients`, the public keys it lets in; a subscriber has `server`."""

    secret: str
    clients: tuple[str, ...] = ()
    server: str = ""


class Message(NamedTuple):
    """Events of one name as they came over the bus; `seq` is that of the first, the others have those that follow."""

    event: str
    node: str
    run: int
    seq: int
    said: list[Said]


class Heartbeat(msgspec.Struct, gc=False):
    """What a bridge says every HEARTBEAT_SECONDS: the last seq of each event, and counts since its start."""

    seqs: dict[str, int]
    last_event_at: int = 0
    received: int = 0
    invalid: int = 0
    kernel_drops: int = 0
    transports: int = 0


class _Envelope(msgspec.Struct, gc=False, omit_defaults=True):
    v: int
    node: str
    run: Count
    seq: Count
    ts: Count
    params: msgspec.Raw
    more: list[Said] = []


_encode_envelope = msgspec.msgpack.Encoder().encode
_decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode
_decode_heartbeat = msgspec.msgpack.Decoder(Heartbeat).decode

Frames = tuple[bytes, bytes | memoryview]
"""Topic and body; an empty body when the message was not of two frames."""
_NOTHING: Final = zmq.Frame(b"")


def decode(topic: bytes, body: bytes | memoryview) -> Message:
    """Read the two frames of a message.

    Raises InvalidEnvelopeError (reason msgpack, version or shape).
    """
    try:
        envelope = _decode_envelope(body)
        event = topic.decode("ascii")
    except msgspec.ValidationError as error:
        raise InvalidEnvelopeError("shape", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidEnvelopeError("msgpack", str(error)) from None
    if envelope.v != VERSION:
        raise InvalidEnvelopeError("version", str(envelope.v))
    if not NODE.fullmatch(envelope.node):
        raise InvalidEnvelopeError("shape", repr(envelope.node)[:80])
    said = [(envelope.ts, envelope.params), *envelope.more]
    return Message(event, envelope.node, envelope.run, envelope.seq, said)


def decode_heartbeat(params: bytes | memoryview | msgspec.Raw) -> Heartbeat:
    """Read a heartbeat's parameters. Raises InvalidEnvelopeError (reason heartbeat)."""
    try:
        return _decode_heartbeat(params)
    except msgspec.DecodeError as error:
        raise InvalidEnvelopeError("heartbeat", str(error)) from None


class Publisher:
    """Publishes one node's events. Never waits for a subscriber: a slow one loses messages, and sees that it does.

    What is to be sent together is `gather`ed and then `flush`ed; `publish` sends at once.
    """

    def __init__(self, endpoint: str, node: str, *, high_water_mark: int, curve: Curve | None = None) -> None:
        self.node = node
        self.run = 0
        self.last_seqs: dict[str, int] = {}
        self._event = ""
        self._gathered: list[tuple[int, bytes]] = []
        self._packer = msgpack.Packer(unicode_errors="replace")
        self._context = zmq.Context()
        self._authenticator = _require_keys(self._context, curve.clients) if curve else None
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.setsockopt(zmq.SNDHWM, high_water_mark)
        if curve:
            self._socket.curve_secretkey = curve.secret.encode()
            self._socket.curve_publickey = zmq.curve_public(curve.secret.encode())
            self._socket.curve_server = True
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise UnavailableError(f"the bus can not be opened at {endpoint}: {error}; see [bridge] publish") from None
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.new_run()

    def new_run(self) -> None:
        """Begin again at seq 0: at the start, and when times may go back."""
        self.flush()
        self.run = max(time.time_ns() // 1000, self.run + 1)
        self.last_seqs = {}

    def publish(self, event: str, params: Mapping[str, Any], ts: int) -> None:
        """Send one event, behind those gathered. Raises InvalidEventError for what msgpack can not carry."""
        self.gather(event, params, ts)
        self.flush()

    def gather(self, event: str, params: Mapping[str, Any], ts: int) -> None:
        """Send one event with its like at the next `flush`, or before that.

        Raises InvalidEventError for parameters that msgpack can not carry.
        """
        try:
            packed = self._packer.pack(params)
        except (ValueError, OverflowError, TypeError) as error:
            self._packer.reset()
            raise InvalidEventError("unpackable", str(error)) from None
        if event != self._event or len(self._gathered) >= TOGETHER:
            self.flush()
            self._event = event
        self._gathered.append((ts, packed))

    def flush(self) -> None:
        """Send what was gathered. Its parameters are packed already: they are put in between as they are."""
        if not self._gathered:
            return
        event, (first, *more) = self._event, self._gathered
        self._gathered = []
        seq = self.last_seqs.get(event, -1) + 1
        self.last_seqs[event] = seq + len(more)
        ts, params = first
        envelope = _Envelope(VERSION, self.node, self.run, seq, ts, msgspec.Raw(params))
        envelope.more = [(at, msgspec.Raw(packed)) for at, packed in more]
        self._socket.send(event.encode("ascii"), zmq.SNDMORE | zmq.NOBLOCK)
        self._socket.send(_encode_envelope(envelope), zmq.NOBLOCK)

    def heartbeat(self, ts: int, **params: Any) -> None:
        """Tell subscribers that we live, and how far each event's seq has come (`seqs`)."""
        self.flush()
        seqs = {event: seq for event, seq in self.last_seqs.items() if event != HEARTBEAT}
        self.publish(HEARTBEAT, {"seqs": seqs, **params}, ts)

    async def subscribed(self, timeout: float) -> bool:  # noqa: ASYNC109 - the wait is the point
        """Wait until somebody subscribed; False when nobody did in time."""
        return await asyncio.to_thread(self._socket.poll, round(timeout * 1000)) > 0

    def close(self) -> None:
        self.flush()
        self._socket.close()
        if self._authenticator:
            self._authenticator.stop()
        self._context.term()


class _AllowedKeys:
    def __init__(self, clients: tuple[str, ...]) -> None:
        self._keys = {client.encode() for client in clients}

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002 - pyzmq asks so
        return key in self._keys


def _require_keys(context: zmq.Context[zmq.Socket[bytes]], clients: tuple[str, ...]) -> ThreadAuthenticator:
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback(domain="*", credentials_provider=_AllowedKeys(clients))
    return authenticator


class Subscriber:
    """Reads the bus from any number of publishers. `high_water_mark` messages wait in ZeroMQ; then they are lost."""

    def __init__(self, endpoints: tuple[str, ...], *, high_water_mark: int, curve: Curve | None = None) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 30)
        if curve:
            self._socket.curve_secretkey = curve.secret.encode()
            self._socket.curve_publickey = zmq.curve_public(curve.secret.encode())
            self._socket.curve_serverkey = curve.server.encode()
        self._socket.subscribe(b"")
        for endpoint in endpoints:
            self._socket.connect(endpoint)

    async def receive(self, timeout: float) -> list[Frames]:  # noqa: ASYNC109 - the wait is the point
        """Up to DRAIN messages; waits up to `timeout` seconds for the first one."""
        messages = self._drain()
        if messages:
            await asyncio.sleep(0)  # let the others have their turn under a flood
            return messages
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        # The descriptor is edge-triggered: it tells of news since the drain that found nothing.
        descriptor = int(self._socket.getsockopt(zmq.FD))
        loop.add_reader(descriptor, ready.set)
        try:
            messages = self._drain()
            if not messages:
                async with asyncio.timeout(timeout):
                    await ready.wait()
        except TimeoutError:
            return []
        finally:
            loop.remove_reader(descriptor)
        return messages or self._drain()

    def _drain(self) -> list[Frames]:
        messages: list[Frames] = []
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN):
                messages.append(self._next())  # noqa: PERF401 - what came before zmq.Again must be kept
        return messages

    def _next(self) -> Frames:
        """One message. By frames: recv_multipart costs twice as much."""
        receive = self._socket.recv
        first = receive(zmq.NOBLOCK, copy=False)
        if not first.more:
            return first.bytes, b""
        second = receive(zmq.NOBLOCK, copy=False)
        more = second.more
        while more:  # not ours: two frames is what we send
            more = receive(zmq.NOBLOCK, copy=False).more
            second = _NOTHING
        return first.bytes, second.buffer

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class Sight(NamedTuple):
    """What a message's run and seq say: how many events before it never came, and how many of its first ones we had."""

    missed: int = 0
    new_run: bool = False
    repeated: int = 0


EXPECTED: Final = Sight()


class Sequences:
    """The last seq of each event name of each node: finds gaps, new runs and repeats. No I/O."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.seqs: dict[str, dict[str, int]] = {}
        self._silent: set[str] = set()

    def fell_silent(self, node: str) -> None:
        """Take whatever run comes next: a bridge that starts after its clock was set back has a lower one."""
        self._silent.add(node)

    def forget(self, node: str) -> None:
        """Know nothing of a node any more: when it comes back it is a new one."""
        self.runs.pop(node, None)
        self.seqs.pop(node, None)
        self._silent.discard(node)

    def resume(self, node: str, run: int, seqs: Mapping[str, int]) -> None:
        """Go on from what was stored by who read this node before us."""
        if run >= self.runs.get(node, 0):
            self.runs[node] = run
            self.seqs[node] = dict(seqs)

    def see(self, message: Message) -> Sight:
        """Note a message, and tell what is to be thought of it. One of an earlier run is a repeat."""
        node, run, count = message.node, message.run, len(message.said)
        known = self.runs.get(node)
        if known is not None and run < known and node not in self._silent:
            return Sight(repeated=count)
        self._silent.discard(node)
        new_run = run != known
        if new_run:
            self.runs[node] = run
            self.seqs[node] = {}
        seqs = self.seqs[node]
        missed = message.seq - (seqs.get(message.event, -1) + 1)
        if missed + count <= 0:
            return Sight(repeated=count)
        seqs[message.event] = message.seq + count - 1
        if missed == 0 and not new_run:
            return EXPECTED
        return Sight(max(missed, 0), new_run, max(-missed, 0))

    def tail(self, node: str, said: Mapping[str, int]) -> dict[str, int]:
        """How many of each event a heartbeat's `seqs` show to be missing at the end."""
        seqs = self.seqs.setdefault(node, {})
        missing = {event: seq - seqs.get(event, -1) for event, seq in said.items() if seq > seqs.get(event, -1)}
        seqs.update((event, said[event]) for event in missing)
        return missing
