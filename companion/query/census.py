"""Take a census of the fleet: a glance at each device and their summary, from one pass, shared through Redis."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from companion.query.devices import iterate_statuses
from companion.query.now import View
from companion.query.row import Glance, make_glance_of
from companion.query.summary import Tally
from companion.store.census import CensusHeader, load_census_part, save_census, save_network_counts
from companion.store.store import Store
from companion.text import Json

PART: Final = 2000
"""Devices in a part. A part is decoded at once, and blocks all threads of the process meanwhile."""
LEAST_CONTACTS: Final = 5
"""A network with fewer contacts has no mass event of its own."""
_LEVEL: Final = 1
_decoder: Final = msgspec.msgpack.Decoder(list[Glance])


class Census(NamedTuple):
    """Hold all devices, sorted by id, as they were `at` (epoch ms), their summary, and the contacts of each network."""

    at: int
    glances: Sequence[Glance]
    summary: Json
    networks: dict[str, int]


def take_census(store: Store, view: View) -> Census:
    """Read the whole fleet."""
    tally, glances = Tally(), []
    for device, statuses in iterate_statuses(store, view):
        tally.add(device, statuses)
        glances.append(make_glance_of(device, statuses, view.bounds))
    glances.sort(key=lambda glance: glance.device)
    networks = {network: count for network, count in tally.networks.items() if network and count >= LEAST_CONTACTS}
    return Census(view.clock.now, glances, tally.summarise(view), networks)


def share_census(store: Store, census: Census, fresh_ms: int) -> None:
    """Share a census with every companion of this Redis; a newer one is due within `fresh_ms`."""
    chunks = (census.glances[start : start + PART] for start in range(0, len(census.glances), PART))
    parts = (zlib.compress(msgspec.msgpack.encode(glances), _LEVEL) for glances in chunks)
    save_census(store, census.at, parts, fresh_ms)
    save_network_counts(store, census.networks, fresh_ms)


def load_glances(store: Store, header: CensusHeader) -> Iterator[list[Glance]]:
    """Return the glances of a shared census, part by part. Raises LookupError when it has expired."""
    for part in range(header.parts):
        packed = load_census_part(store, header.at, part)
        if packed is None:
            raise LookupError(f"the census of {header.at} is gone")
        yield _decoder.decode(zlib.decompress(packed))
