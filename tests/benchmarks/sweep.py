"""Measure a sweep with 10,000 candidates among as many contacts, and among a million."""

import asyncio
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from companion import log
from companion.config import Config, RedisSection
from companion.opensips.events import INSERT, LATENCY, LOST_PING_US, ContactEvent, parse
from companion.remediation.candidates import Sweep, collect_fleet
from companion.remediation.sweep import Sweeper
from companion.simulator.redis import EmbeddedRedis
from companion.store.batch import Batch
from companion.store.connection import Command
from companion.store.contacts import encode_answer, encode_contact
from companion.store.keys import Keys
from companion.store.nodes import Feed, load_feeds, prepare_feed
from companion.store.store import Store, open_store
from companion.store.summary import save_summary
from companion.store.sweeps import acquire_turn
from companion.times import now_ms
from companion.usrloc.contact import Binding, Contact, contact_id
from companion.usrloc.picture import Usrloc
from tests.benchmarks.figure import Figure
from tests.benchmarks.history import LOST_AFTER, apply_event
from tests.benchmarks.phones import INTERVAL_MS
from tests.benchmarks.processes import bench_redis, process, read_line, send_commands
from tests.benchmarks.publisher import NODE, device_name, ping_params

CANDIDATES = 10_000
CONTACTS = (10_000, 1_000_000)
LOOKS = 5
KEYS = Keys("companion:", 1)
CHUNK = 5_000


class Measured(NamedTuple):
    """Hold the seconds of a look and of a sweep, those of CPU time, and the largest memory of the process in MiB."""

    look_seconds: float
    look_cpu_seconds: float
    look_mib: float
    run_seconds: float
    run_cpu_seconds: float
    run_mib: float


def figures(sizes: Sequence[int] = CONTACTS) -> Iterator[Figure]:
    """Run a look, and a sweep that observes (no MI), in a process of its own; filling a million takes a minute."""
    for contacts in sizes:
        with bench_redis() as (_, redis, _):
            fill(redis, contacts)
            measured = _measure(redis.url, contacts)
        name = f"{CANDIDATES:,} candidates of {contacts:,}"
        look_seconds, cpu_seconds = measured.look_seconds, measured.look_cpu_seconds
        value = f"{look_seconds:.2f} s, {cpu_seconds:.2f} s of CPU time, {measured.look_mib:.0f} MiB"
        yield Figure(f"look for {name}", value, look_seconds)
        decision_ms = measured.run_cpu_seconds / CANDIDATES * 1000
        value = f"{measured.run_seconds:.1f} s, {decision_ms:.2f} ms of CPU time a decision, {measured.run_mib:.0f} MiB"
        yield Figure(f"sweep of {name}", value, measured.run_seconds)


def fill(redis: EmbeddedRedis, contacts: int, candidates: int = CANDIDATES) -> None:
    """Store so many contacts: the candidates lost three pings, the others answer."""
    now = int(time.time() * 1000)
    every = contacts // candidates
    for start in range(0, contacts, CHUNK):
        numbers = range(start, min(start + CHUNK, contacts))
        _store_failing(redis.url, [number for number in numbers if number % every == 0], now)
        _store_answering(redis.port, [number for number in numbers if number % every], now)


def _store_failing(url: str, numbers: Sequence[int], now: int) -> None:
    """Store contacts as a consumer does, from their events: the sweep needs all that the rules of removal ask for."""
    usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
    expires = now // 1000 + 3600
    for number in numbers:
        apply_event(usrloc, INSERT, ping_params(number, 0, expires), now - 900_000)
        apply_event(usrloc, LATENCY, ping_params(number, 31_000, expires), now - 420_000)
        for lost_at in range(now - 300_000, now, INTERVAL_MS):
            apply_event(usrloc, LATENCY, ping_params(number, LOST_PING_US, expires), lost_at)
    store = open_store(RedisSection(url=url))
    Batch(store).write(Batch(store).prepare(usrloc.changes.take()))
    store.close()


def _store_answering(port: int, numbers: Sequence[int], now: int) -> None:
    """Store contacts that no sweep reads."""
    send_commands(port, [command for number in numbers for command in _contact_commands(number, now)])


def _contact_commands(number: int, now: int) -> list[Command]:
    binding = Binding(NODE, "location", f"user{number}", f"sip:user{number}@95e693bd04cf.invalid;transport=ws")
    event = parse(LATENCY, ping_params(number, 31_000, now // 1000 + 3600))
    assert isinstance(event, ContactEvent)
    contact = Contact(binding, contact_id(binding), device_name(number), NODE, event.registration)
    contact.registered_at = contact.last_register_at = now - 900_000
    contact.last_latency_ms = 31
    contact.last_latency_at = contact.changed_at = now - 60_000
    return [
        ("SET", KEYS.contact(binding.aor, contact.id), encode_contact(contact).decode()),
        ("HSET", KEYS.answers(0), contact.id, encode_answer(contact)),
    ]


def _measure(url: str, contacts: int) -> Measured:
    numbers: list[float] = []
    for what in ("look", "run"):
        with process(sys.executable, "-m", "tests.benchmarks.sweep", url, str(contacts), what) as child:
            numbers += map(float, read_line(child).split())
    return Measured(*numbers)


# The process that is measured


def main() -> None:
    """Run the process and print seconds, those of CPU time, and MiB; argv: Redis' URL, contacts, `look` or `run`."""
    url, contacts, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    log.configure(level="warning")
    with prepared_sweeper(url, contacts, CANDIDATES) as (sweeper, store):
        seconds, cpu_seconds = _look(sweeper, store) if what == "look" else _run(sweeper, store)
    print(seconds, cpu_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


@contextmanager
def prepared_sweeper(url: str, contacts: int, candidates: int) -> Iterator[tuple[Sweeper, Store]]:
    """Return a sweeper that may act on all candidates at once, beside a bridge that has been steady for long."""
    limits = {"breaker_share": 1, "max_per_sweep": candidates, "max_per_minute": 10 * candidates}
    config = Config.model_validate({"redis": {"url": url}, "remediation": limits})
    store = open_store(config.redis)
    save_summary(store, {"contacts_by_node": {NODE: {"total": contacts, "offline": 0}}})
    with _steady_feed(config):
        yield Sweeper(config, store), store
    store.close()


def _look(sweeper: Sweeper, store: Store) -> tuple[float, float]:
    turn = acquire_turn(store)
    assert turn is not None
    sweep = Sweep(turn, now_ms(), "observe", load_feeds(store), frozenset())
    looks = sorted(_timed(lambda: collect_fleet(sweeper._config, store, sweep)) for _ in range(LOOKS))
    turn.release()
    return looks[LOOKS // 2]


def _run(sweeper: Sweeper, store: Store) -> tuple[float, float]:
    took = _timed(lambda: asyncio.run(sweeper.run()))
    done = count_decisions(store)
    assert done == CANDIDATES, f"{done} decisions: {store.connection.call('HGETALL', store.keys.sweep())}"
    return took


def count_decisions(store: Store) -> int:
    """Return how many decisions the audit has."""
    return int(store.connection.call("XLEN", store.keys.remediations()))


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return how long the work took, and the CPU time of this process, in seconds."""
    started, cpu_started = time.monotonic(), time.process_time()
    work()
    return time.monotonic() - started, time.process_time() - cpu_started


@contextmanager
def _steady_feed(config: Config) -> Iterator[None]:
    """Store the feed of a live bridge and OpenSIPS, as the recorder does."""
    store, ended = open_store(config.redis), threading.Event()
    started = int(time.time() * 1000)

    def beat() -> None:
        now = int(time.time() * 1000)
        feed = Feed(NODE, NODE, heartbeat_at=now, said_at=now, last_event_at=now, steady_since=started - 900_000)
        store.connection.pipeline(prepare_feed(store.keys, feed, {}))

    def beat_on() -> None:
        while not ended.wait(1):
            beat()

    beat()
    thread = threading.Thread(target=beat_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        store.close()


if __name__ == "__main__":
    main()
