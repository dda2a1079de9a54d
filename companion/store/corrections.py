"""What reconciling found wrong about contacts, on its way to the one who may correct it: a node's recorder.

A Redis stream a node: one entry a correction, its field the kind, its value a JSON array.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from companion import metrics
from companion.errors import InvalidInputError
from companion.opensips.events import Registration
from companion.store.connection import Command, Connection
from companion.store.keys import Keys
from companion.usrloc.contact import Binding

MAX_WAITING: Final = 250_000
"""What may wait for one node; 100,000 of the largest kind take about 45 MB in Redis."""
TTL_MS: Final = 3_600_000
"""Nobody took them for so long: the next comparison knows better."""
CHUNK: Final = 500


class Gone(NamedTuple):
    """OpenSIPS had no such contact (any more) at `as_of`, in epoch ms."""

    binding: Binding
    as_of: int


class Found(NamedTuple):
    """OpenSIPS had this contact at `as_of`; `registration.bflags` is not known. `latency_ms` None = never answered."""

    binding: Binding
    as_of: int
    registration: Registration
    instance: str
    latency_ms: int | None


class Identified(NamedTuple):
    """The SIP instance of a contact whose events name none."""

    binding: Binding
    instance: str


Correction = Gone | Found | Identified
KINDS: Final[dict[str, type[Gone] | type[Found] | type[Identified]]] = {
    "gone": Gone,
    "found": Found,
    "identified": Identified,
}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(shape) for kind, shape in KINDS.items()
}
Row = tuple[str, bytes]
"""(kind, JSON)"""


def encode(correction: Correction) -> Row:
    return kind_of(correction), msgspec.json.encode(correction)


def decode(kind: str, text: str | bytes) -> Correction:
    """The way back. Raises InvalidInputError with reason correction for what is none."""
    try:
        correction: Correction = _DECODERS[kind].decode(text)
    except (KeyError, msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidInputError("correction", str(error)) from None
    return correction


def kind_of(correction: Correction) -> str:
    return next(kind for kind, shape in KINDS.items() if type(correction) is shape)


def append(connection: Connection, keys: Keys, node: str, rows: Sequence[Row]) -> int:
    """Hand corrections over; how many were refused, and counted, because too many wait already."""
    key = keys.corrections(node)
    room = max(0, MAX_WAITING - int(connection.call("XLEN", key)))
    taken, refused = rows[:room], rows[room:]
    left = iter(taken)
    while chunk := list(islice(left, CHUNK)):
        connection.pipeline([*(("XADD", key, "*", kind, text) for kind, text in chunk), ("PEXPIRE", key, TTL_MS)])
    for kind, _ in refused:
        metrics.CORRECTIONS.labels(kind, "refused").inc()
    return len(refused)


def read(connection: Connection, keys: Keys, node: str, after: str, limit: int) -> list[tuple[str, str, str]]:
    """What waits behind the entry `after` ("" = from the first one on), as (entry, kind, JSON)."""
    start = f"({after}" if after else "-"
    found = connection.call("XRANGE", keys.corrections(node), start, "+", "COUNT", limit)
    return [(entry, kind, text) for entry, fields in found for kind, text in fields.items()]


def forget(keys: Keys, node: str, entries: Iterable[str]) -> list[Command]:
    """Delete what is corrected for good."""
    left = iter(entries)
    commands: list[Command] = []
    while chunk := list(islice(left, CHUNK)):
        commands.append(("XDEL", keys.corrections(node), *chunk))
    return commands
