"""Tell the readers of the whole fleet what changed, batch by batch, so that they need not read it again.

The stream is short: a reader that falls behind its beginning reads the fleet anew.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.store import Store

MAX_BATCHES: Final = 600
"""Batches that are kept: those of a minute, or of 20 s where they are as large as can be."""
MAX_READ: Final = 100
"""Batches that are read at once."""
_FIELD: Final = "b"


class FleetChanges(msgspec.Struct, array_like=True, gc=False):
    """Hold what a batch changed: the ids of devices to be read again, and answered pings.

    `answers`: id of a contact, and its entry of the `answers` hash, in turn.
    """

    devices: list[str]
    answers: list[str]


class Batches(NamedTuple):
    """Hold batches, and the position of the last one. `is_whole`: no batch is missing before them."""

    batches: list[FleetChanges]
    position: str
    is_whole: bool


_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(FleetChanges)


def prepare_fleet_changes(keys: Keys, devices: Iterable[str], answers: Sequence[str]) -> Command:
    """Prepare to tell that these devices changed, and which pings were answered."""
    batch = _encode(FleetChanges(sorted(devices), list(answers)))
    return ("XADD", keys.fleet_changes(), "MAXLEN", "~", MAX_BATCHES, "*", _FIELD, batch)


def find_position(store: Store) -> str:
    """Return the position of the last batch. Where there is none, an empty one is made."""
    last = store.connection.call_for_bytes("XREVRANGE", store.keys.fleet_changes(), "+", "-", "COUNT", 1)
    return last[0][0].decode() if last else str(store.connection.call(*prepare_fleet_changes(store.keys, (), ())))


def load_fleet_changes(store: Store, position: str) -> Batches:
    """Return some of the batches after a position. The batch at the position is read too: it must still be there."""
    key = store.keys.fleet_changes()
    entries = store.connection.call_for_bytes("XRANGE", key, position, "+", "COUNT", MAX_READ + 1)
    if not entries or entries[0][0].decode() != position:
        return Batches([], position, is_whole=False)
    try:
        batches = [_decoder.decode(fields[_FIELD.encode()]) for _, fields in entries[1:]]
    except (KeyError, msgspec.MsgspecError):  # none of ours: the fleet is read anew, and goes on behind it
        return Batches([], position, is_whole=False)
    return Batches(batches, entries[-1][0].decode(), is_whole=True)
