"""The fleet at one moment: a glance at each device and what they add up to, from one walk, shared through Redis.

Who shares it writes it in parts under a number of its own, and then says which number is the present one: who reads
gets a whole census, or the one before.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from companion.query import summary as summary_module
from companion.query.devices import survey
from companion.query.now import View
from companion.query.row import Glance, of_statuses
from companion.store.store import Store
from companion.times import Json

PART: Final = 2000
"""Devices in a part: a part is decoded at once, and nothing else in the process goes on meanwhile."""
KEPT_MS: Final = 600_000
"""Without a newer one it is listed for so long: an old list that tells its age is better than none after a restart."""
READ_MS: Final = 60_000
"""Parts outlive the word of them, for who has just begun to read them."""
_LEVEL: Final = 1
_decoder: Final = msgspec.msgpack.Decoder(list[Glance])


class Census(NamedTuple):
    """All devices, sorted by their ids, as they were `at` (epoch ms), and the summary of them."""

    at: int
    glances: Sequence[Glance]
    summary: Json


def take(store: Store, view: View) -> Census:
    """Go over the whole fleet."""
    tally, glances = summary_module.Tally(), []
    for device, statuses in survey(store, view):
        tally.add(device, statuses)
        glances.append(of_statuses(device, statuses, view.bounds))
    glances.sort(key=lambda glance: glance.device)
    return Census(view.clock.now, glances, tally.told(view))


def share(store: Store, census: Census, fresh_ms: int) -> None:
    """Let every companion of this Redis read it; within `fresh_ms` there will be a newer one if all is well."""
    call, keys = store.connection.call, store.keys
    parts = 0
    for start in range(0, len(census.glances), PART):
        packed = zlib.compress(msgspec.msgpack.encode(census.glances[start : start + PART]), _LEVEL)
        call("SET", keys.census_part(census.at, parts), packed, "PX", fresh_ms + KEPT_MS + READ_MS)
        parts += 1
    call("SET", keys.census(), json.dumps({"at": census.at, "parts": parts}), "PX", fresh_ms + KEPT_MS)


def shared_at(store: Store) -> tuple[int, int] | None:
    """When the present census was taken (epoch ms) and in how many parts it is; None when nobody took one lately."""
    said = store.connection.call("GET", store.keys.census())
    if not said:
        return None
    told = json.loads(said)
    return told["at"], told["parts"]


def load(store: Store, at: int, parts: int) -> Iterator[list[Glance]]:
    """The glances of a shared census, part by part. Raises LookupError when it is no longer there."""
    for part in range(parts):
        packed = store.connection.call_for_bytes("GET", store.keys.census_part(at, part))
        if packed is None:
            raise LookupError(f"the census of {at} is gone")
        yield _decoder.decode(zlib.decompress(packed))
