"""Queue the corrections that reconciling makes for the recorder of a node, which alone writes contacts.

Each node has a Redis stream: one entry a correction, its field the kind, its value a JSON array.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import msgspec

from companion import metrics
from companion.errors import InvalidInputError
from companion.opensips.events import Registration
from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.store import Store
from companion.text import UNDECODABLE
from companion.usrloc.contact import Binding

MAX_WAITING: Final = 250_000
"""Corrections that may wait for one node; 100,000 of the largest kind take about 45 MB in Redis."""
TTL_MS: Final = 3_600_000
"""After so long without a recorder the next comparison makes better ones."""
CHUNK: Final = 500


class Gone(NamedTuple):
    """Correct a contact that OpenSIPS did not have at `as_of` (epoch ms)."""

    binding: Binding
    as_of: int


class Present(NamedTuple):
    """Correct a contact that OpenSIPS had at `as_of` (epoch ms), of which the store has an older record or none.

    `registration.bflags` is unknown. `latency_ms` is None when no ping was answered.
    """

    binding: Binding
    as_of: int
    registration: Registration
    instance: str
    latency_ms: int | None


class Identified(NamedTuple):
    """Correct a contact whose events name no SIP instance."""

    binding: Binding
    instance: str


Correction = Gone | Present | Identified
KINDS: Final[dict[str, type[Gone] | type[Present] | type[Identified]]] = {
    "gone": Gone,
    "found": Present,
    "identified": Identified,
}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(shape) for kind, shape in KINDS.items()
}
Row = tuple[str, bytes]
"""(kind, JSON)"""


def encode_correction(correction: Correction) -> Row:
    return kind_of(correction), msgspec.json.encode(correction)


def decode_correction(kind: str, text: str | bytes) -> Correction:
    """Read a correction. Raises InvalidInputError with reason `correction` for any other text."""
    try:
        correction: Correction = _DECODERS[kind].decode(text)
    except (KeyError, UnicodeEncodeError, *UNDECODABLE) as error:
        raise InvalidInputError("correction", str(error)) from None
    return correction


def kind_of(correction: Correction) -> str:
    return next(kind for kind, shape in KINDS.items() if type(correction) is shape)


def append_corrections(store: Store, node: str, rows: Sequence[Row]) -> int:
    """Hand corrections over; return how many were refused, and counted, because too many wait already."""
    key = store.keys.corrections(node)
    room = max(0, MAX_WAITING - int(store.connection.call("XLEN", key)))
    accepted, refused = rows[:room], rows[room:]
    left = iter(accepted)
    while chunk := list(islice(left, CHUNK)):
        store.connection.pipeline([*(("XADD", key, "*", kind, text) for kind, text in chunk), ("PEXPIRE", key, TTL_MS)])
    for kind, _ in refused:
        metrics.CORRECTIONS.labels(kind, "refused").inc()
    return len(refused)


def load_corrections(store: Store, node: str, after: str, limit: int) -> list[tuple[str, str, str]]:
    """Return what waits behind the entry `after` ("" = from the first one on), as (entry, kind, JSON)."""
    start = f"({after}" if after else "-"
    rows = store.connection.call("XRANGE", store.keys.corrections(node), start, "+", "COUNT", limit)
    return [(entry, kind, text) for entry, fields in rows for kind, text in fields.items()]


def prepare_removal(keys: Keys, node: str, entries: Iterable[str]) -> list[Command]:
    """Prepare to delete these entries, which are applied."""
    left = iter(entries)
    commands: list[Command] = []
    while chunk := list(islice(left, CHUNK)):
        commands.append(("XDEL", keys.corrections(node), *chunk))
    return commands
