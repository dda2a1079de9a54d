"""Keep all devices in memory with their statuses and counts, moved on by what changes and by the clock. No I/O.

What it costs follows what changes: a contact is looked at when an event changed it, and when the clock is due to.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import Final

import msgspec

from companion.query.feeds import describe_feed
from companion.query.now import View
from companion.query.row import Glance, make_glance_of
from companion.text import Json
from companion.times import SECOND_MS, iso
from companion.usrloc.brief import BriefContact, BriefDevice
from companion.usrloc.contact import FOR_EVER, STATUSES, Status, best, next_change, status

PERCENTILES: Final = (50, 95, 99)
MENDED_BY_ANSWER: Final = frozenset({"unknown", "offline"})
"""The statuses that an answered ping alone may change: the others come from events that tell of more."""
OVERTAKEN_MS: Final = 1000
"""A view that is so little older than the last one was overtaken by it. A greater step is that of a clock set back."""


class Entry(msgspec.Struct, eq=False, gc=False):
    """Hold a device, the statuses of its contacts, when the clock changes them (epoch ms), and the glance at it."""

    device: BriefDevice
    statuses: tuple[Status, ...] = ()
    due_at: int = FOR_EVER
    glance: Glance | None = None


class LiveFleet:
    """Hold all devices of one Redis. After `advance` and `reassess` all answers are as of the time of its view.

    `position` is how far it has come in the stream of changes.
    """

    def __init__(self, view: View, position: str = "") -> None:
        self.position = position
        self._view = view
        self._alive = _alive_nodes(view)
        self._entries: dict[str, Entry] = {}
        self._entry_of: dict[str, Entry] = {}
        """Entries by the ids of their contacts."""
        self._order: list[Entry] = []
        self._added: list[Entry] = []
        self._has_dropped = False
        self._counts = Counts()
        self._timetable = _Timetable()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, device: BriefDevice) -> None:
        """Take in a device that is new or changed."""
        entry = self._entries.get(device.id)
        if entry is None:
            entry = self._entries[device.id] = Entry(device)
            self._added.append(entry)
        else:
            self._leave(entry)
            entry.device.contacts = device.contacts
        for contact in device.contacts:
            self._entry_of[contact.id] = entry
        self._enter(entry)

    def drop(self, device_id: str) -> None:
        """Forget a device that is not stored any more."""
        entry = self._entries.pop(device_id, None)
        if entry is not None:
            self._leave(entry)
            self._has_dropped = True
            entry.due_at = FOR_EVER

    def answer(self, contact_id: str, at: int, latency_ms: int) -> None:
        """Take in an answered ping of a contact; an older one than the last changes nothing."""
        entry = self._entry_of.get(contact_id)
        if entry is None:
            return
        for contact, own in zip(entry.device.contacts, entry.statuses, strict=True):
            if contact.id == contact_id and at > contact.last_latency_at:
                self._counts.answer(contact, own, latency_ms)
                contact.last_latency_at, contact.last_latency_ms = at, latency_ms
                entry.glance = None
                if own in MENDED_BY_ANSWER:
                    self.reassess([entry])

    def advance(self, view: View) -> Sequence[Entry]:
        """Move on to another time, and to feeds that came, ended or came back.

        Return the entries whose statuses may be others now: `reassess` them, which takes a while if they are many.
        """
        back_ms = self._view.clock.now - view.clock.now
        if 0 < back_ms <= OVERTAKEN_MS:
            return ()
        alive, before = _alive_nodes(view), self._alive
        self._view, self._alive = view, alive
        if back_ms > 0:
            return list(self._entries.values())
        return [*self._timetable.take_due(view.clock.now), *self._entries_of_nodes(alive ^ before)]

    def reassess(self, entries: Iterable[Entry]) -> None:
        """Derive the statuses of devices anew."""
        for entry in filter(self._is_current, entries):
            if entry.statuses == self._statuses(entry):
                self._schedule(entry)
            else:
                self._uncount(entry)
                self._enter(entry)

    def entries(self) -> Sequence[Entry]:
        """Return the entries of all devices, sorted by their ids."""
        if self._added or self._has_dropped:
            entries = [entry for entry in (*self._order, *self._added) if self._is_current(entry)]
            self._order = sorted(entries, key=lambda entry: entry.device.id)  # sorted but for a few: fast
            self._added, self._has_dropped = [], False
        return self._order

    def find(self, ids: Iterable[str]) -> list[Entry]:
        """Return the entries of those of these devices that there are."""
        entries = map(self._entries.get, ids)
        return [entry for entry in entries if entry is not None]

    def glances(self, entries: Iterable[Entry]) -> list[Glance]:
        """Return the glances at devices."""
        return [entry.glance or self._look(entry) for entry in entries]

    def networks(self, least: int) -> dict[str, int]:
        """Return the number of live contacts of each network that has at least so many."""
        return {network: count for network, count in self._counts.networks.items() if network and count >= least}

    def count_devices(self) -> Json:
        """Return the number of devices by status."""
        return _by_status(self._counts.devices)

    def summarise(self) -> Json:
        """Return the summary as people and machines read it."""
        now = self._view.clock.now
        nodes = [describe_feed(feed, now) for feed in self._view.feeds.values()]
        return {"at": iso(now), **self._counts.summarise(), "nodes": nodes}

    def _status(self, contact: BriefContact) -> Status:
        return status(contact, self._view.clock, feed_alive=contact.node in self._alive)

    def _statuses(self, entry: Entry) -> tuple[Status, ...]:
        return tuple(map(self._status, entry.device.contacts))

    def _enter(self, entry: Entry) -> None:
        entry.statuses = self._statuses(entry)
        entry.glance = None
        self._counts.devices[best(entry.statuses)] += 1
        for contact, own in zip(entry.device.contacts, entry.statuses, strict=True):
            self._counts.add(contact, own)
        self._schedule(entry)

    def _schedule(self, entry: Entry) -> None:
        """Note when the clock changes a device next, if that is earlier than what is noted."""
        clock = self._view.clock
        due_at = min((next_change(contact, clock) for contact in entry.device.contacts), default=FOR_EVER)
        if due_at < entry.due_at:
            entry.due_at = due_at
            self._timetable.put(entry)

    def _leave(self, entry: Entry) -> None:
        self._uncount(entry)
        for contact in entry.device.contacts:
            if self._entry_of.get(contact.id) is entry:
                del self._entry_of[contact.id]

    def _uncount(self, entry: Entry) -> None:
        self._counts.devices[best(entry.statuses)] -= 1
        for contact, own in zip(entry.device.contacts, entry.statuses, strict=True):
            self._counts.remove(contact, own)

    def _entries_of_nodes(self, nodes: set[str]) -> list[Entry]:
        if not nodes:
            return []
        entries = self._entries.values()
        return [entry for entry in entries if any(contact.node in nodes for contact in entry.device.contacts)]

    def _is_current(self, entry: Entry) -> bool:
        return self._entries.get(entry.device.id) is entry

    def _look(self, entry: Entry) -> Glance:
        entry.glance = glance = make_glance_of(entry.device, entry.statuses, self._view.bounds)
        return glance


class _Timetable:
    """Hold entries by the second in which the clock changes them."""

    def __init__(self) -> None:
        self._seconds: list[int] = []
        self._entries: dict[int, list[Entry]] = {}

    def put(self, entry: Entry) -> None:
        """Take in an entry that is due at its `due_at`. One that is here may come again with an earlier time."""
        second = entry.due_at // SECOND_MS
        if second not in self._entries:
            self._entries[second] = []
            heappush(self._seconds, second)
        self._entries[second].append(entry)

    def take_due(self, now: int) -> list[Entry]:
        """Return the entries that are due by now (epoch ms), each once; they have no time any more."""
        due: list[Entry] = []
        later: list[Entry] = []
        while self._seconds and self._seconds[0] * SECOND_MS <= now:
            second = heappop(self._seconds)
            for entry in self._entries.pop(second):
                if entry.due_at <= now:
                    due.append(entry)
                    entry.due_at = FOR_EVER
                elif entry.due_at // SECOND_MS == second:
                    later.append(entry)
        for entry in later:
            self.put(entry)
        return due


class Counts:
    """Count devices and contacts.

    Latency percentiles are over each contact's last answered ping; `loss_ratio` is the share of the pinged contacts
    whose last ping was lost. Contacts that ended count in neither, and of the statuses only `offline` holds them.
    """

    def __init__(self) -> None:
        self.devices: Counter[str] = Counter()
        self.networks: Counter[str] = Counter()
        self._contacts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._latencies: Counter[int] = Counter()
        self._pinged = self._losing = 0

    def add(self, contact: BriefContact, own: Status) -> None:
        self._count(contact, own, 1)

    def remove(self, contact: BriefContact, own: Status) -> None:
        self._count(contact, own, -1)

    def answer(self, contact: BriefContact, own: Status, latency_ms: int) -> None:
        """Count a later answered ping of a contact in place of the last one."""
        if own == "offline":
            return
        if not (contact.last_latency_at or contact.consecutive_lost):
            self._pinged += 1
        if contact.last_latency_ms is not None:
            self._latencies[contact.last_latency_ms] -= 1
        self._latencies[latency_ms] += 1

    def _count(self, contact: BriefContact, own: Status, one: int) -> None:
        self._contacts[contact.node][own] += one
        if own == "offline":
            return
        self.networks[contact.network] += one
        if not self.networks[contact.network]:
            del self.networks[contact.network]  # there may be a million of them, one after the other
        if contact.last_latency_at or contact.consecutive_lost:
            self._pinged += one
            self._losing += one if contact.consecutive_lost else 0
        if contact.last_latency_ms is not None:
            self._latencies[contact.last_latency_ms] += one

    def summarise(self) -> Json:
        """Return the counts as people and machines read them."""
        contacts = {node: counts for node, counts in self._contacts.items() if any(counts.values())}
        return {
            "devices": _by_status(self.devices),
            "contacts": _by_status(sum(contacts.values(), Counter())),
            "contacts_by_node": {node: _by_status(counts) for node, counts in contacts.items()},
            "latency": compute_percentiles(self._latencies),
            "loss_ratio": round(self._losing / self._pinged, 4) if self._pinged else None,
        }


def compute_percentiles(latencies: Counter[int]) -> Json:
    """Return nearest-rank percentiles in ms of latencies that are counted, null of nothing.

    >>> compute_percentiles(Counter([10, 20, 30, 40]))
    {'p50_ms': 20, 'p95_ms': 40, 'p99_ms': 40}
    """
    ordered = sorted(latency for latency, count in latencies.items() if count)
    ends = list(accumulate(latencies[latency] for latency in ordered))
    return {f"p{percent}_ms": _nearest_rank(ordered, ends, percent) for percent in PERCENTILES}


def _nearest_rank(ordered: Sequence[int], ends: Sequence[int], percent: int) -> int | None:
    """Return a percentile of ascending latencies, the last of each at a place of `ends`; None of none."""
    if not ends:
        return None
    return ordered[bisect_left(ends, -(-percent * ends[-1] // 100))]


def _by_status(counts: Counter[str]) -> Json:
    return {status: counts[status] for status in STATUSES} | {"total": counts.total()}


def _alive_nodes(view: View) -> set[str]:
    return {node for node, feed in view.feeds.items() if feed.is_alive(view.clock.now)}
