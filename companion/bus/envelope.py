"""The ZeroMQ bus: envelope, publisher, subscriber, and who missed what.

Two frames: the event's name, then a msgpack map `{"v": 1, "node", "run", "seq", "ts", "params"}`. `run` is new at each
publisher start and grows; `seq` counts by one for each event name, so that a subscriber to some names sees each gap in
them. Events of one name that came in together share a message: `more` is a list of `[ts, params]`, which have the seqs
that follow: a message costs more than what is in it. A HEARTBEAT every two seconds carries the last seq of each name:
it shows a gap at the tail, and that we live.
"""

import re
from typing import Annotated, Final, NamedTuple

import msgspec

from companion.errors import InvalidEnvelopeError

VERSION: Final = 1
HEARTBEAT: Final = "HEARTBEAT"
NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEARTBEAT_SECONDS: Final = 2.0

Count = Annotated[int, msgspec.Meta(ge=0)]
Said = tuple[Count, msgspec.Raw]
"""One event: when the bridge received it, in epoch ms, and its parameters, a msgpack map that is not decoded yet."""


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
