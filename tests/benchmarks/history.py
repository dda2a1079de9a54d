"""Write a fleet's past through the store: in minutes, what a consumer writes in a week."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice, repeat
from typing import Final

from companion.opensips.events import DELETE, INSERT, LATENCY, LOST_PING_US, UPDATE, parse
from companion.store.batch import Batch
from companion.store.series import Row
from companion.store.store import Store
from companion.times import HOUR_MS
from companion.usrloc.changes import Fields, Stamp, TimelineEntry
from companion.usrloc.picture import Usrloc
from tests.benchmarks.phones import INTERVAL_MS, LOSSES, Fleet, Phone, phone
from tests.benchmarks.publisher import NODE

CHUNK: Final = 100
ROWS: Final = 50_000
THREADS: Final = 2
"""One thread encodes while the other waits for Redis."""
LOST_AFTER: Final = 3
RUN: Final = 1


def fill(store: Store, fleet: Fleet) -> Iterator[int]:
    """Write all devices and yield the number of each chunk; 25,000 take a minute."""
    chunks = [range(first, min(first + CHUNK, fleet.devices)) for first in range(0, fleet.devices, CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(lambda numbers: write(store, fleet, numbers, int(time.time() * 1000)), chunks)


def write(store: Store, fleet: Fleet, numbers: range, now: int) -> int:
    """Write these phones as they are at `now` (epoch ms), the oldest samples first."""
    phones = [phone(number) for number in numbers]
    histories = [_history(store.keys.latency(one.device), one, fleet.samples(one.number), now) for one in phones]
    _store(store, [history[0] for history in histories])  # makes the series
    rest = chain.from_iterable(islice(history, 1, None) for history in histories)
    while rows := list(islice(rest, ROWS)):
        _store(store, rows)
    usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
    for one in phones:
        _apply_events(usrloc, fleet, one, now)
    Batch(store).write(Batch(store).prepare(usrloc.changes.take()))
    return len(phones)


def _store(store: Store, rows: Sequence[Row]) -> None:
    replies = store.connection.pipeline(store.series.commands(rows), raise_on_error=False)
    store.series.settle(store.connection, "latency", rows, replies)


def _history(key: str, one: Phone, samples: int, now: int) -> Sequence[Row]:
    """Return all answered pings of a phone except the last."""
    last_at = _last_answer_at(one, now)
    first_at = last_at - (samples - 1) * INTERVAL_MS
    latencies = map(one.latency_ms, range(samples - 1))
    return list(zip(repeat(key), range(first_at, last_at, INTERVAL_MS), latencies, strict=False))


def _apply_events(usrloc: Usrloc, fleet: Fleet, one: Phone, now: int) -> None:
    """Apply a phone's events: its first and last REGISTER, one each hour between, its last pings, its end."""
    last_at = _last_answer_at(one, now)
    first_at = last_at - fleet.samples(one.number) * INTERVAL_MS
    last_register_at = last_at - one.number * 7919 % HOUR_MS
    apply_event(usrloc, INSERT, {**one.params(0, fleet.expires), "cseq": 0}, first_at)
    device = one.device
    (contact,) = usrloc.devices.by_id[device].contacts
    fields: Fields = {"contact": contact.id, "address": contact.address}
    for at in range(first_at + HOUR_MS, last_register_at, HOUR_MS):
        usrloc.changes.entries.append(TimelineEntry(device, at, "re-registered", fields))
    apply_event(usrloc, UPDATE, one.params(0, fleet.expires), last_register_at)
    apply_event(usrloc, LATENCY, one.params(one.latency_ms(0) * 1000, fleet.expires), last_at + 1)
    for lost in range(LOSSES[one.kind]):
        apply_event(usrloc, LATENCY, one.params(LOST_PING_US, fleet.expires), last_at + (lost + 1) * INTERVAL_MS)
    if one.kind == "gone":
        apply_event(usrloc, DELETE, one.params(0, fleet.expires), last_at + 1000)


def apply_event(usrloc: Usrloc, event: str, params: dict[str, object], ts: int) -> None:
    """Apply an event of the fleet's node, at `ts` (epoch ms), to a picture."""
    usrloc.apply(parse(event, params), Stamp(NODE, NODE, ts, RUN))


def _last_answer_at(one: Phone, now: int) -> int:
    """Return when a phone last answered: pings are spread over the interval, a silent phone is an hour late."""
    last_ping_at = now - one.number * 7919 % INTERVAL_MS - 1000
    return last_ping_at - LOSSES[one.kind] * INTERVAL_MS - (HOUR_MS if one.kind == "silent" else 0)
