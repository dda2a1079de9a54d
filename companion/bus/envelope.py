"""Encode and decode the messages of the bus.

A message has two frames: the event's name, then a msgpack map `{"v": 1, "node", "run", "seq", "ts", "params"}`. `run`
is new at each publisher start and grows. `seq` counts by one for each event name, so a subscriber to some names sees
every gap in them. Events of one name that arrived together share a message, because a message costs more than its
content: `more` is a list of `[ts, params]`, and these events have the next seqs. A HEARTBEAT every two seconds carries
the last seq of each name: it shows a gap at the end, and that the publisher lives. The last message of a run is a
HEARTBEAT with `end`: true. A publisher that was killed does not send it.
"""

import re
from typing import Annotated, Final, NamedTuple

import msgspec

from companion.errors import InvalidEnvelopeError
from companion.text import UNDECODABLE

VERSION: Final = 1
HEARTBEAT: Final = "HEARTBEAT"
NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEARTBEAT_SECONDS: Final = 2.0
EVENT_BYTES: Final = 400
"""The bytes of a usual event."""
_HEADS: Final = tuple(bytes((fields,)) + b"\xa1v\x01\xa4node" for fields in (0x86, 0x87))
"""How a message of a bridge and of event_zeromq begins, with `more` and without."""
_HEAD: Final = len(_HEADS[0])

Count = Annotated[int, msgspec.Meta(ge=0)]
RawEvent = tuple[Count, msgspec.Raw]
"""One event: the time when the bridge received it (epoch ms), and its parameters, a msgpack map not decoded yet."""


class Message(NamedTuple):
    """Hold events of one name as they came over the bus; `seq` belongs to the first, the others have the next ones."""

    name: str
    node: str
    run: int
    seq: int
    events: list[RawEvent]

    @property
    def weight(self) -> int:
        """Return how many events it has."""
        return len(self.events)


class PackedMessage(NamedTuple):
    """Hold a message as it came, of which only the node was read. It is decoded if its node becomes ours."""

    node: str
    topic: bytes
    body: bytes | memoryview

    @property
    def weight(self) -> int:
        """Return about how many events it has, by its bytes."""
        return 1 + len(self.body) // EVENT_BYTES


class Heartbeat(msgspec.Struct, gc=False):
    """Hold the last seq of each event and the counts of a bridge since its start, sent every HEARTBEAT_SECONDS.

    `end`: nothing of this run follows.
    """

    seqs: dict[str, int]
    last_event_at: int = 0
    received: int = 0
    invalid: int = 0
    kernel_drops: int = 0
    stream_breaks: int = 0
    stream_down: bool = False
    end: bool = False


class _Envelope(msgspec.Struct, gc=False, omit_defaults=True):
    v: int
    node: str
    run: Count
    seq: Count
    ts: Count
    params: msgspec.Raw
    more: list[RawEvent] = []


_encode_envelope = msgspec.msgpack.Encoder().encode
_decode_envelope = msgspec.msgpack.Decoder(_Envelope).decode
_decode_heartbeat = msgspec.msgpack.Decoder(Heartbeat).decode

Frames = tuple[bytes, bytes | memoryview]
"""Topic and body; an empty body when the message was not of two frames."""


def decode(topic: bytes, body: bytes | memoryview) -> Message:
    """Read the two frames of a message.

    Raises InvalidEnvelopeError (reason msgpack, version or shape).
    """
    try:
        envelope = _decode_envelope(body)
        name = topic.decode("ascii")
    except msgspec.ValidationError as error:
        raise InvalidEnvelopeError("shape", str(error)) from None
    except UNDECODABLE as error:
        raise InvalidEnvelopeError("msgpack", str(error)) from None
    if envelope.v != VERSION:
        raise InvalidEnvelopeError("version", str(envelope.v))
    if not NODE.fullmatch(envelope.node):
        raise InvalidEnvelopeError("shape", repr(envelope.node)[:80])
    events = [(envelope.ts, envelope.params), *envelope.more]
    return Message(name, envelope.node, envelope.run, envelope.seq, events)


def peek_node(body: bytes | memoryview) -> str:
    """Read the node of a message without decoding the rest; "" where the fields come in another order."""
    start = bytes(body[: _HEAD + 66])
    if not start.startswith(_HEADS) or len(start) < _HEAD + 2:
        return ""
    at, kind = _HEAD + 1, start[_HEAD]
    if kind == 0xD9:  # a text of more than 31 bytes: its length has a byte of its own
        return start[at + 1 : at + 1 + start[at]].decode("ascii", "replace")
    return start[at : at + (kind & 0x1F)].decode("ascii", "replace") if kind >> 5 == 0b101 else ""


def decode_heartbeat(params: bytes | memoryview | msgspec.Raw) -> Heartbeat:
    """Read a heartbeat's parameters. Raises InvalidEnvelopeError (reason heartbeat)."""
    try:
        return _decode_heartbeat(params)
    except UNDECODABLE as error:
        raise InvalidEnvelopeError("heartbeat", str(error)) from None
