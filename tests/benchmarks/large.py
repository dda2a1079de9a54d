"""`make bench-large`: what a large fleet costs to keep and to look at."""

import time
from collections.abc import Callable, Iterator

from companion import config, sip
from companion.contact import Binding, Contact, Device, contact_id
from companion.events import Registration
from companion.reader import Reader
from companion.store import census, summary
from companion.store.nodes import Feed
from companion.store.nodes import write as write_feed
from companion.store.store import Store, open_store
from companion.usrloc import Changes, Entry, Sample
from companion.view import view
from tests.benchmarks.measure import NODE, WEEK_SAMPLES, Figure, bench_redis

FLEET = 100_000
CHUNK = 1000
DAY_SAMPLES = 720
WEEKLONG = 1000


def large() -> Iterator[Figure]:
    """Fill a Redis with a fleet, 1,000 of it with a week of pings and the rest with a day's; then look at it."""
    with bench_redis() as (_, redis, connection):
        store = open_store(config.RedisSection(url=redis.url))
        settings = config.Config()
        empty = _used(store)
        started = time.monotonic()
        for first in range(0, FLEET, CHUNK):
            _fill(store, range(first, first + CHUNK), WEEK_SAMPLES if first < WEEKLONG else DAY_SAMPLES)
        connection.pipeline(write_feed(store.keys, Feed(NODE, heartbeat_at=_now(), last_event_at=_now()), {}))
        samples = WEEKLONG * WEEK_SAMPLES + (FLEET - WEEKLONG) * DAY_SAMPLES
        yield Figure(f"{FLEET:,} devices, {samples:,} samples, written in", f"{time.monotonic() - started:,.0f} s")
        yield Figure("memory of Redis a device, all told", f"{(_used(store) - empty) / FLEET:,.0f} bytes")
        yield _timed("summary of the fleet", lambda: summary.compute(store, view(settings, store)))
        seen, week = view(settings, store), 7 * 86_400_000
        yield _timed("census of all devices", lambda: census.take(store, seen))
        reader = Reader(settings, store)
        yield _timed("page of one device, 7 days", lambda: reader.device(_id(5), week))
        yield _timed("its latency in 288 buckets", lambda: reader.latency(_id(5), week, 288))
        yield _timed("what is new of it", lambda: reader.news(_id(5), _now() - 60_000))
        store.close()


def _fill(store: Store, numbers: range, samples: int) -> None:
    changes = Changes()
    for number in numbers:
        device = _device(number)
        (contact,) = device.contacts
        changes.devices[device] = changes.contacts[contact] = changes.answers[contact] = None
        changes.seen[device] = contact.last_latency_at
        changes.entries.append(Entry(device.id, contact.registered_at, "registered", {"contact": contact.id}))
        first = contact.last_latency_at - samples * 120_000
        changes.answered += [Sample(device.id, first + n * 120_000, 40 + n * 7919 % 90) for n in range(samples)]
    store.write(store.prepare(changes))


def _device(number: int) -> Device:
    instance = f"urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}"
    binding = Binding(NODE, "location", f"user{number}", f"sip:user{number}@95e693bd04cf.invalid;transport=ws")
    registration = Registration(
        received=f"sip:10.0.{number >> 8 & 255}.{number & 255}:38566;transport=ws",
        path="",
        user_agent="Browser Phone 0.3.29 (SIPJS - 0.20.0)",
        socket="ws:127.0.0.1:20101",
        bflags=14,
        expires_at=_now() + 3_600_000,
        callid=f"3898d190f9ebdacc0cb1e29c658cda{number:06x}",
        cseq=1,
        attr=f"<{instance}>",
    )
    device_id = sip.device_id(binding.aor, binding.uri, instance)
    contact = Contact(
        binding, contact_id(binding), device_id, NODE, registration, _now(), _now(), 40 + number % 90, _now()
    )
    return Device(device_id, binding.aor, instance, _now(), [contact])


def _id(number: int) -> str:
    return _device(number).id


def _timed(name: str, work: Callable[[], object]) -> Figure:
    """The median of three."""
    times = []
    for _ in range(3):
        started = time.monotonic()
        work()
        times.append(time.monotonic() - started)
    return Figure(name, f"{sorted(times)[1] * 1000:,.1f} ms")


def _used(store: Store) -> int:
    return int(store.connection.call("INFO", "memory")["used_memory"])


def _now() -> int:
    return int(time.time() * 1000)
