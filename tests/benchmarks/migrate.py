"""Measure how fast a migration converts devices of the first format, and what each costs."""

import json
import sys
import time
from collections.abc import Iterator
from itertools import chain
from typing import Final

from companion.config import RedisSection
from companion.services.heap import relax_garbage_collection
from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.migration import migrate
from companion.store.store import open_store
from companion.times import DAY_MS, HOUR_MS, now_ms
from companion.usrloc.contact import Binding, contact_id
from tests.benchmarks.figure import Figure
from tests.benchmarks.phones import Phone, phone
from tests.benchmarks.processes import bench_redis, process, read_line, send_commands
from tests.benchmarks.publisher import NODE
from tests.benchmarks.services import processor_seconds

DEVICES: Final = 20_000
CHUNK: Final = 1000
ENTRIES: Final = 24
"""Entries of a timeline: a REGISTER an hour, for a day."""
TTL_MS: Final = 7 * DAY_MS
KEYS: Final = Keys("companion:", 1)


def figures() -> Iterator[Figure]:
    """Migrate in a process of its own; the CPU time of Redis counts too."""
    with bench_redis() as (_, redis, connection):
        for start in range(0, DEVICES, CHUNK):
            phones = map(phone, range(start, start + CHUNK))
            send_commands(redis.port, list(chain.from_iterable(_old_commands(one, now_ms()) for one in phones)))
        server = int(connection.call("INFO", "server")["process_id"])
        before = processor_seconds(server)
        with process(sys.executable, "-m", "tests.benchmarks.migrate", redis.url) as child:
            keys, wall_seconds, own_seconds = map(float, read_line(child).split())
        redis_seconds = processor_seconds(server) - before
    assert keys == 3 * DEVICES, f"{keys:.0f} keys converted"
    own_us, redis_us = own_seconds / DEVICES * 1e6, redis_seconds / DEVICES * 1e6
    rate = DEVICES / (own_seconds + redis_seconds)
    value = f"{wall_seconds:.1f} s, {own_us:.0f} µs of CPU time a device, {redis_us:.0f} µs in Redis: {rate:,.0f}/s"
    yield Figure(f"migrate {DEVICES:,} devices of format 1", value, rate)


def _old_commands(one: Phone, now: int) -> Iterator[Command]:
    """Yield what the first format had of a device that registered a day ago and was just pinged."""
    params, since = one.params(0, now // 1000 + 3600), now - ENTRIES * HOUR_MS
    binding = Binding(NODE, str(params["domain"]), one.aor, str(params["uri"]))
    contact = contact_id(binding)
    texts = ("uri", "received", "user_agent", "socket", "bflags", "callid", "cseq", "attr")
    times = {"registered_at": since, "last_register_at": now, "last_latency_at": now, "changed_at": now}
    none = dict.fromkeys(("consecutive_lost", "lost_since", "last_lost_at", "disconnected_at", "superseded_at"), 0)
    none |= dict.fromkeys(("ended_at", "doubts", "doubted_at", "address_since"), 0)
    empty = dict.fromkeys(("path", "ended_by", "was_ghost", "disconnected_by", "superseded_by", "older_callids"), "")
    empty |= dict.fromkeys(("advertised_socket", "mi_instance"), "")
    names = {"id": contact, "device": one.device, "aor": one.aor, "cluster": NODE, "node": NODE, "holder": NODE}
    evidence = json.dumps({NODE: [now, 0, 0, 0]})
    record = {name: params[name] for name in texts} | times | none | empty | names
    record |= {"domain": "location", "run": 1, "expires_at": now + HOUR_MS, "last_latency_ms": 31, "evidence": evidence}
    yield from _hash(KEYS.contact(one.aor, contact), record)
    instance = one.device.rpartition("/")[2]
    device = {"id": one.device, "aor": one.aor, "instance": instance, "first_seen_at": since, "contacts": contact}
    yield from _hash(KEYS.device(one.device), device)
    timeline = KEYS.timeline(one.device)
    for hour in range(ENTRIES):
        fields = ("event", "re-registered", "contact", contact, "address", "10.0.0.1:38566")
        yield ("XADD", timeline, f"{since + hour * HOUR_MS}-0", *fields)
    yield ("PEXPIRE", timeline, TTL_MS)
    yield from _other_keys(one, contact, now)


def _other_keys(one: Phone, contact: str, now: int) -> Iterator[Command]:
    """Yield what both formats have, and a migration only looks at."""
    yield ("TS.CREATE", KEYS.latency(one.device))
    yield ("SADD", KEYS.aor(one.aor), one.device)
    yield ("SADD", KEYS.instance(one.device.rpartition("/")[2]), one.device)
    yield ("ZADD", KEYS.devices(0), now, one.device)
    yield ("ZADD", KEYS.expires(0), now + HOUR_MS, f"{contact} {one.aor}")


def _hash(key: str, record: dict[str, object]) -> Iterator[Command]:
    yield ("HSET", key, *chain.from_iterable(record.items()))
    yield ("PEXPIRE", key, TTL_MS)


# The process that is measured


def main() -> None:
    """Migrate the Redis at a URL, argv, and print how many keys were converted, seconds, and those of CPU time."""
    store = open_store(RedisSection(url=sys.argv[1]), any_format=True)
    relax_garbage_collection()  # as the command does
    started, cpu_started = time.monotonic(), time.process_time()
    result = migrate(store, lambda *_: None)
    print(result.converted, time.monotonic() - started, time.process_time() - cpu_started, flush=True)
    store.close()


if __name__ == "__main__":
    main()
