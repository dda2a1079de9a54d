"""Read the pings of a device without those of its ghosts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from companion.query.now import View
from companion.store.pings import aggregate_answered_pings, load_lost_pings, prepare_pings
from companion.store.reading import read
from companion.store.series import Aggregate, Point, aggregate
from companion.store.store import Store
from companion.text import Json
from companion.times import MINUTE_MS
from companion.usrloc.contact import Device, Ping, Span
from companion.usrloc.ghosts import ghost_spans


class Bucket(NamedTuple):
    """Hold the pings of a bucket from `start` (epoch ms) on: latencies in ms (None where none was answered), counts."""

    start: int
    min_ms: int | None
    average_ms: float | None
    max_ms: int | None
    answered: int
    lost: int


def read_pings(store: Store, device: Device, view: View, since: int, until: int | None = None) -> list[Ping]:
    """Return the pings of a device, oldest first, without the losses of ghosts since a newer contact answered."""
    until = view.clock.now + MINUTE_MS if until is None else until
    answered, lost = read(store.connection, prepare_pings(store, device.id, since, until))
    return select_own_pings(device, answered, lost, view)


def select_own_pings(device: Device, answered: Sequence[Point], lost: Sequence[Point], view: View) -> list[Ping]:
    """Return the pings of both series of a device as `read_pings` does."""
    return merge_own_pings(answered, lost, _ghosts(device, view))


def read_buckets(store: Store, device: Device, view: View, since: int, bucket_ms: int) -> list[Bucket]:
    """Return the pings of a device since then in buckets of one width, oldest first; empty ones are left out.

    The server may aggregate the answered pings. The lost ones, which are few, are read one by one for their contacts.
    """
    until = view.clock.now + MINUTE_MS
    answered = aggregate_answered_pings(store, device.id, since, until, bucket_ms)
    lost = load_lost_pings(store, device.id, since, until)
    return _buckets(answered, _own_losses(lost, _ghosts(device, view)), bucket_ms)


def put_in_buckets(pings: Sequence[Ping], bucket_ms: int) -> list[Bucket]:
    """Put pings in buckets as `read_buckets` does."""
    answered = ((ts, latency_ms) for ts, latency_ms in pings if latency_ms is not None)
    lost = [ts for ts, latency_ms in pings if latency_ms is None]
    return _buckets(aggregate(answered, bucket_ms), lost, bucket_ms)


def _buckets(answered: Sequence[Aggregate], lost: Iterable[int], bucket_ms: int) -> list[Bucket]:
    buckets = {
        start: Bucket(start, least, round(total / points, 1), most, points, 0)
        for start, least, total, most, points in answered
    }
    for start, count in Counter(ts // bucket_ms * bucket_ms for ts in lost).items():
        empty = Bucket(start, None, None, None, 0, 0)
        buckets[start] = buckets.get(start, empty)._replace(lost=count)
    return sorted(buckets.values())


def _ghosts(device: Device, view: View) -> dict[int, Sequence[Span]]:
    """Return the times at which each contact, by its number, was a ghost."""
    return {contact.number: ghost_spans(contact, view.clock.lost_after) for contact in device.contacts}


def merge_own_pings(
    answered: Sequence[Point], lost: Sequence[Point], ghosts: Mapping[int, Sequence[Span]]
) -> list[Ping]:
    """Merge both series; leave out the losses of a contact at the times that `ghosts` has for its number.

    A contact without a number in `ghosts` is no longer remembered, because its device has had many since. Nobody knows
    when it was a ghost, and the last losses of a replaced contact nearly always are a ghost's: none of them counts.
    """
    own: list[Ping] = [(ts, None) for ts in _own_losses(lost, ghosts)]
    return sorted([*answered, *own], key=itemgetter(0)) if own else list(answered)


def _own_losses(lost: Sequence[Point], ghosts: Mapping[int, Sequence[Span]]) -> Iterator[int]:
    """Return the times of the losses of contacts that are remembered, and were no ghosts then."""
    for ts, number in lost:
        spans = ghosts.get(number)
        if spans is not None and not any(since <= ts <= until for since, until in spans):
            yield ts


def compute_statistics(pings: Sequence[Ping]) -> Json:
    """Return average, maximum and minimum of the answered pings, and counts; null where there are none."""
    answered = [latency_ms for _, latency_ms in pings if latency_ms is not None]
    lost = len(pings) - len(answered)
    return {
        "average_ms": round(sum(answered) / len(answered), 1) if answered else None,
        "max_ms": max(answered, default=None),
        "min_ms": min(answered, default=None),
        "total": len(pings),
        "answered": len(answered),
        "lost": lost,
        "loss_ratio": round(lost / len(pings), 4) if pings else None,
    }
