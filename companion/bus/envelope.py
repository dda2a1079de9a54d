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


def decode_heartbeat(params: bytes | memoryview | msgspec.Raw) -> Heartbeat:
    """Read a heartbeat's parameters. Raises InvalidEnvelopeError (reason heartbeat)."""
    try:
        return _decode_heartbeat(params)
    except UNDECODABLE as error:
        raise InvalidEnvelopeError("heartbeat", str(error)) from None
