"""Read docs/bus-messages.json: messages of the bus, byte for byte."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from companion.bus.envelope import HEARTBEAT

GOLDEN: Final = Path(__file__).parents[3] / "docs/bus-messages.json"
COMMON: Final = frozenset(("seqs", "last_event_at", "received", "end"))
"""What every publisher tells in a heartbeat."""
Param = tuple[str, int | bytes | None]

ESCAPED: Final = {0x22: b'\\"', 0x5C: b"\\\\", **{code: b"\\u%04x" % code for code in range(1, 0x20)}}


class Event(NamedTuple):
    """Hold the time and the parameters of an event; a text is bytes, because a phone may send any."""

    ts: int
    params: tuple[Param, ...]

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Self:
        return cls(entry["ts"], tuple((name, _read_value(value)) for name, value in entry["params"]))

    def payload(self, name: str) -> bytes:
        """Return what OpenSIPS sends over its stock transports: texts end at a NUL, other bytes stay as they are."""
        params = b",".join(b'"%s":%s' % (key.encode(), _json_value(value)) for key, value in self.params)
        return b'{"jsonrpc":"2.0","method":"%s","params":{%s}}' % (name.encode(), params)


class GoldenMessage(NamedTuple):
    """Hold a message: what happened, and the body that each publisher makes of it."""

    title: str
    name: str
    node: str
    run: int
    seq: int
    events: tuple[Event, ...]
    body: bytes

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Self:
        events = tuple(Event.read(event) for event in entry["events"])
        return cls(**{**entry, "events": events, "body": bytes.fromhex(entry["body"])})


class GoldenHeartbeat(NamedTuple):
    """Hold a heartbeat: what it tells, in the order of its body. Only a bridge tells more than `COMMON`."""

    title: str
    name: str
    node: str
    run: int
    seq: int
    ts: int
    params: dict[str, Any]
    body: bytes

    @classmethod
    def read(cls, entry: dict[str, Any]) -> Self:
        return cls(**{**entry, "body": bytes.fromhex(entry["body"])})

    @property
    def is_common(self) -> bool:
        return self.params.keys() <= COMMON


def _read_value(value: Any) -> int | bytes | None:
    """Read a number, null, a text, or `{"bytes": HEX}`."""
    if isinstance(value, dict):
        return bytes.fromhex(value["bytes"])
    return value.encode() if isinstance(value, str) else value


def _json_value(value: int | bytes | None) -> bytes:
    if isinstance(value, bytes):
        text = value.partition(b"\0")[0]
        return b'"' + b"".join(ESCAPED.get(byte, bytes([byte])) for byte in text) + b'"'
    return json.dumps(value).encode()


def _read_entries() -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return entries


def read_golden() -> list[GoldenMessage]:
    return [GoldenMessage.read(entry) for entry in _read_entries() if entry["name"] != HEARTBEAT]


def read_golden_heartbeats() -> list[GoldenHeartbeat]:
    return [GoldenHeartbeat.read(entry) for entry in _read_entries() if entry["name"] == HEARTBEAT]
