"""Measure a sweep with 10,000 candidates among as many contacts, and among a million."""

import asyncio
import resource
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from companion import log
from companion.config import Config
from companion.opensips.events import Registration
from companion.remediation.candidates import Sweep, collect_fleet
from companion.remediation.sweep import Sweeper
from companion.simulator.redis import EmbeddedRedis
from companion.store.contacts import encode_answer, encode_contact
from companion.store.keys import Keys
from companion.store.nodes import Feed, load_feeds, prepare_feed
from companion.store.store import Store, open_store
from companion.store.summary import save_summary
from companion.store.sweeps import acquire_turn
from companion.times import now_ms
from companion.usrloc.contact import Binding, Contact, contact_id
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, process, read_line
from tests.benchmarks.publisher import NODE

CANDIDATES = 10_000
CONTACTS = (10_000, 1_000_000)
LOOKS = 5
KEYS = Keys("companion:", 1)
CHUNK = 5_000


class Measured(NamedTuple):
    """Hold the seconds of the sweeping process and its largest memory in MiB."""

    look_seconds: float
    look_mib: float
    run_seconds: float
    run_mib: float


def figures(sizes: Sequence[int] = CONTACTS) -> Iterator[Figure]:
    """Run a look, and a sweep that observes (no MI), in a process of its own; filling a million takes a minute."""
    for contacts in sizes:
        with bench_redis() as (_, redis, _):
            fill(redis, contacts)
            measured = _measure(redis.url, contacts)
        name = f"{CANDIDATES:,} candidates of {contacts:,}"
        yield Figure(
            f"look for {name}", f"{measured.look_seconds:.2f} s, {measured.look_mib:.0f} MiB", measured.look_seconds
        )
        decision_ms = measured.run_seconds / CANDIDATES * 1000
        yield Figure(
            f"sweep of {name}",
            f"{measured.run_seconds:.1f} s, {decision_ms:.1f} ms a decision, {measured.run_mib:.0f} MiB",
            measured.run_seconds,
        )


def fill(redis: EmbeddedRedis, contacts: int) -> None:
    """Store so many contacts that answer, and make CANDIDATES of them lose three pings.

    As raw protocol: what redis-py needs to pack a million hashes would be most of the benchmark.
    """
    now = int(time.time() * 1000)
    with socket.create_connection(("127.0.0.1", redis.port)) as connection:
        reader = connection.makefile("rb")
        every = contacts // CANDIDATES
        for start in range(0, contacts, CHUNK):
            commands: list[tuple[object, ...]] = []
            for number in range(start, start + CHUNK):
                commands += _contact_commands(number, now, fails=number % every == 0)
            connection.sendall(b"".join(map(_packed, commands)))
            for _ in commands:
                reader.readline()


def _contact_commands(number: int, now: int, *, fails: bool) -> list[tuple[object, ...]]:
    binding = Binding(NODE, "location", f"user{number}", f"sip:user{number}@95e693bd04cf.invalid;transport=ws")
    registration = Registration(
        received=f"sip:10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:38566;transport=ws",
        path="",
        user_agent="Browser Phone 0.3.29 (SIPJS - 0.20.0)",
        socket="ws:127.0.0.1:20101",
        bflags=14,
        expires_at=now + 3_600_000,
        callid=f"3898d190f9ebdacc0cb1e29c658cda{number:06x}",
        cseq=1,
        attr=f"<urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}>",
    )
    device = f"{binding.aor}/urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}"
    contact = Contact(binding, contact_id(binding), device, NODE, registration)
    contact.registered_at = contact.last_register_at = now - 900_000
    contact.last_latency_ms = 31
    contact.last_latency_at = contact.changed_at = now - 420_000
    if fails:
        contact.consecutive_lost, contact.lost_since, contact.last_lost_at = 3, now - 300_000, now - 60_000
    record = encode_contact(contact).decode()
    commands: list[tuple[object, ...]] = [("SET", KEYS.contact(binding.aor, contact.id), record)]
    commands.append(("HSET", KEYS.answers(0), contact.id, encode_answer(contact)))
    if fails:
        commands.append(("ZADD", KEYS.failing(0), contact.lost_since, f"{contact.id} {binding.aor}"))
    return commands


def _packed(command: Sequence[object]) -> bytes:
    parts = [str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _measure(url: str, contacts: int) -> Measured:
    numbers: list[float] = []
    for what in ("look", "run"):
        with process(sys.executable, "-m", "tests.benchmarks.sweep", url, str(contacts), what) as child:
            numbers += map(float, read_line(child).split())
    return Measured(*numbers)


# The process that is measured


def main() -> None:
    """Run the process and print seconds and MiB; argv: Redis' URL, number of contacts, `look` or `run`."""
    url, contacts, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    limits = {"breaker_candidates": CANDIDATES, "max_per_sweep": CANDIDATES, "max_per_minute": 10 * CANDIDATES}
    config = Config.model_validate({"redis": {"url": url}, "remediation": limits})
    log.configure(level="warning")
    store = open_store(config.redis)
    save_summary(store, {"contacts_by_node": {NODE: {"total": contacts, "offline": 0}}})
    with _steady_feed(config, url):
        sweeper = Sweeper(config, store)
        seconds = _look(sweeper, store) if what == "look" else _run(sweeper, store)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)
    store.close()


def _look(sweeper: Sweeper, store: Store) -> float:
    turn = acquire_turn(store)
    assert turn is not None
    sweep = Sweep(turn, now_ms(), "observe", load_feeds(store), frozenset())
    seconds = statistics.median(_timed(lambda: collect_fleet(sweeper._config, store, sweep)) for _ in range(LOOKS))
    turn.release()
    return seconds


def _run(sweeper: Sweeper, store: Store) -> float:
    seconds = _timed(lambda: asyncio.run(sweeper.run()))
    done = store.connection.call("XLEN", store.keys.remediations())
    assert done == CANDIDATES, f"{done} decisions: {store.connection.call('HGETALL', store.keys.sweep())}"
    return seconds


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


@contextmanager
def _steady_feed(config: Config, url: str) -> Iterator[None]:
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
