"""Read the pings of a device from its two series. Times are epoch ms, both ends included."""

from companion.store.reading import Reading
from companion.store.series import Aggregate, Point
from companion.store.store import Store


def prepare_pings(store: Store, device: str, since: int, until: int) -> Reading[tuple[list[Point], list[Point]]]:
    """Prepare to read the answered pings of a device with their latencies in ms, and the lost ones as below."""
    answered = store.series.prepare_points(store.keys.latency(device), since, until)
    return answered.beside(store.series.prepare_points(store.keys.lost(device), since, until))


def load_lost_pings(store: Store, device: str, since: int, until: int) -> list[Point]:
    """Return the lost pings of a device, oldest first, with the numbers of the contacts that lost them."""
    return store.series.read(store.connection, store.keys.lost(device), since, until)


def aggregate_answered_pings(store: Store, device: str, since: int, until: int, bucket_ms: int) -> list[Aggregate]:
    """Return the latencies of a device's answered pings in buckets of one width; empty ones are left out."""
    return store.series.aggregates(store.connection, store.keys.latency(device), since, until, bucket_ms)
