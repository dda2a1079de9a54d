"""Read the fleet once, and follow what changes in it."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from threading import Event, Lock
from typing import Final

from companion import log, metrics
from companion.query.fleet import Entry, LiveFleet
from companion.query.now import View
from companion.query.row import Glance
from companion.store.contacts import decode_answer
from companion.store.devices import count_devices, load_brief_devices, scan_device_ids
from companion.store.fleet_changes import FleetChanges, find_position, load_fleet_changes
from companion.store.store import Store
from companion.text import Json

READ: Final = 500
"""Devices that are read at once."""
LOOK: Final = 5000
"""Devices that are looked at while others wait."""
PAUSE_SECONDS: Final = 0.0005
"""How long others may have the fleet then. Without a pause, who lets a lock go has it again before anybody wakes up."""
DIFFERENCE_SECONDS: Final = 60.0
"""How long the number of devices may differ from that of the store, before those that are missing are looked for."""
REVIEWED_SECONDS: Final = 1.0
REVIEW_SECONDS: Final = 3600.0
"""How long it takes to read all devices again, a few at a time: what no batch told of is mended then."""

_never: Final = Event()
"""Waiting for it works where time.sleep does not, under a clock that is set for a test."""

logger = log.get(__name__)


class FleetFollower:
    """Hold the fleet for any number of threads. `catch_up` makes it as of now; between two calls it stands still."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._catching_up = Lock()
        self._changing = Lock()
        self._fleet: LiveFleet | None = None
        self._loading: LiveFleet | None = None
        self._unreviewed: Iterator[str] = iter(())
        self._reviewed_at = time.monotonic()
        self._difference = 0
        """How many devices are listed whose data are gone, at the last look."""
        self._differs_since = 0.0

    def __len__(self) -> int:
        """Return the number of devices, as far as they are read."""
        fleet = self._fleet or self._loading
        return len(fleet) if fleet else 0

    def catch_up(self, load_view: Callable[[], View]) -> View:
        """Take in what changed by now, and return the view that all answers are of from now on.

        The first time reads all devices, at about 30 µs each: the view is loaded after that.
        """
        with self._catching_up:
            fleet = self._fleet
            if fleet is None or not self._follow(fleet):
                fleet = self._fleet = self._load(load_view())
            if time.monotonic() - self._reviewed_at >= REVIEWED_SECONDS:
                self._review(fleet)
            view = load_view()
            self._advance(fleet, view)
            return view

    def glances(self) -> list[Glance]:
        """Return a glance at each device, as far as they are read, sorted by their ids."""
        fleet = self._fleet or self._loading
        if fleet is None:
            return []
        glances: list[Glance] = []
        for entries in _split(self._entries(fleet)):
            with self._changing:
                glances += fleet.glances(entries)
        return glances

    def glances_of(self, ids: Iterable[str]) -> list[Glance]:
        """Return the glances at those of these devices that there are."""
        with self._changing:
            fleet = self._fleet or self._loading
            return fleet.glances(fleet.find(ids)) if fleet else []

    def count_devices(self) -> Json:
        """Return the number of devices by status, as far as they are read."""
        with self._changing:
            fleet = self._fleet or self._loading
            return fleet.count_devices() if fleet else {}

    def summarise(self) -> Json:
        """Return the summary of the fleet. Raises LookupError before it was read."""
        with self._changing:
            if self._fleet is None:
                raise LookupError("the fleet was not read yet")
            return self._fleet.summarise()

    def networks(self, least: int) -> dict[str, int]:
        """Return the number of live contacts of each network that has at least so many."""
        with self._changing:
            return self._fleet.networks(least) if self._fleet else {}

    def _entries(self, fleet: LiveFleet) -> Sequence[Entry]:
        with self._changing:
            return fleet.entries()

    def _ids(self, fleet: LiveFleet) -> list[str]:
        return [entry.device.id for entry in self._entries(fleet)]

    def _advance(self, fleet: LiveFleet, view: View) -> None:
        with self._changing:
            changing = fleet.advance(view)
        for entries in _split(changing):
            with self._changing:
                fleet.reassess(entries)

    def _load(self, view: View) -> LiveFleet:
        """Read all devices, and meanwhile follow what changes, so that its beginning is not lost."""
        while True:
            metrics.FLEET_READS.inc()
            self._loading = fleet = LiveFleet(view, find_position(self._store))
            if all(self._read(fleet, ids) and self._follow(fleet) for ids in scan_device_ids(self._store)):
                self._loading = None
                return fleet
            logger.warning("changes came faster than they were read: the fleet is read anew")

    def _follow(self, fleet: LiveFleet) -> bool:
        """Take in the batches after the position of a fleet; return False where some are gone."""
        while True:
            changes = load_fleet_changes(self._store, fleet.position)
            self._apply(fleet, changes.batches)
            fleet.position = changes.position
            if not changes.batches:
                return changes.is_whole

    def _apply(self, fleet: LiveFleet, batches: Sequence[FleetChanges]) -> None:
        """Take in answers, then read the devices that changed, each once."""
        for batch in batches:
            with self._changing:
                for contact, answer in zip(batch.answers[::2], batch.answers[1::2], strict=True):
                    fleet.answer(contact, *decode_answer(answer))
            _never.wait(PAUSE_SECONDS)
        ids = list({device: None for batch in batches for device in batch.devices})
        for start in range(0, len(ids), READ):
            self._read(fleet, ids[start : start + READ])

    def _read(self, fleet: LiveFleet, ids: Sequence[str]) -> bool:
        devices = load_brief_devices(self._store, ids)
        with self._changing:
            for device in devices:
                fleet.put(device)
            for device_id in set(ids).difference(device.id for device in devices):
                fleet.drop(device_id)
        return True

    def _review(self, fleet: LiveFleet) -> None:
        """Read a few devices again, and those that are missing here or in the store."""
        seconds = time.monotonic() - self._reviewed_at
        self._reviewed_at += seconds
        share = max(1, round(len(fleet) * seconds / REVIEW_SECONDS))
        ids = list(islice(self._unreviewed, min(share, READ)))
        if not ids:
            self._unreviewed = iter(self._ids(fleet))
        self._read(fleet, ids)
        difference = count_devices(self._store) - len(fleet)
        if difference == self._difference:
            self._differs_since = time.monotonic()
        elif time.monotonic() - self._differs_since > DIFFERENCE_SECONDS:
            self._read_missing(fleet)
            self._difference = count_devices(self._store) - len(fleet)

    def _read_missing(self, fleet: LiveFleet) -> None:
        others = set(self._ids(fleet))
        for ids in scan_device_ids(self._store):
            self._read(fleet, [device for device in ids if device not in others])
            others.difference_update(ids)
        gone = sorted(others)
        for start in range(0, len(gone), READ):
            self._read(fleet, gone[start : start + READ])


def _split(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Return the entries in parts, with a pause behind each."""
    for start in range(0, len(entries), LOOK):
        yield entries[start : start + LOOK]
        _never.wait(PAUSE_SECONDS)
