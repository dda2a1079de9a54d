"""Measure what browsers' reports of their calls cost, with a real API and pages in another process."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from companion.config import RedisSection
from companion.media import report
from companion.store.call_reports import CallReport, write_report
from companion.store.calls import call_ref
from companion.store.connection import Command, Connection
from companion.store.keys import Keys
from companion.store.store import open_store
from companion.times import DAY_MS
from tests.benchmarks.figure import Figure
from tests.benchmarks.pages import EVERY_SECONDS, SECRET, Page, call_id, device
from tests.benchmarks.processes import bench_redis, process, read_line, send_line
from tests.benchmarks.readers import is_answered
from tests.benchmarks.services import Processor, open_services, peak_mb

CALLS: Final = 1000
SECONDS: Final = 60


def figures(at_once: int = CALLS, seconds: int = SECONDS) -> Iterator[Figure]:
    """Report calls for some time, five seconds in each report."""
    with bench_redis() as (folder, redis, connection), ExitStack() as stack:
        api = stack.enter_context(open_services(folder, redis.url, f'[media]\nsecret = "{SECRET}"\n'))
        api.start("api")
        api.wait_until(lambda: is_answered(api.port, "/healthz"), "the API")
        pid, empty = api.services["api"].pid, _used(connection)
        pages = stack.enter_context(
            process(sys.executable, "-m", "tests.benchmarks.pages", str(api.port), str(at_once), str(seconds))
        )
        read_line(pages)
        processor = Processor({"API": pid, "pages": pages.pid, "Redis": _redis(connection)})
        send_line(pages)
        outcome = json.loads(read_line(pages))
        cores, took = processor.shares(outcome["seconds"]), outcome["times"]
        stored = _stored(connection, at_once)
        if stored != outcome["sent"]:
            raise AssertionError(f"{stored} of {outcome['sent']} items were stored")
        yield Figure(f"{at_once:,} calls reported for {seconds} s", f"{len(took) / outcome['seconds']:,.0f} reports/s")
        yield Figure(
            "  items stored", f"{stored:,} of {outcome['sent']:,}; {outcome['refused']:,} reports had to come again"
        )
        yield Figure("  from due to stored", ", ".join(f"p{p} {_percentile(took, p):,.0f} ms" for p in (50, 99)))
        yield Figure("  processor a report", _costs(cores, outcome))
        yield Figure("  memory of the API at its greatest", f"{peak_mb(pid):,.0f} MB")
        yield Figure(f"  memory of Redis a call of {seconds} s", f"{(_used(connection) - empty) / at_once:,.0f} bytes")
        yield Figure("  and a minute of a call of an hour", f"{_of_an_hour(redis.url, connection) / 60:,.0f} bytes")


def _costs(cores: dict[str, float], outcome: dict[str, Any]) -> str:
    """Return the processor time that each process took for a report."""
    cores_to_ms = 1000 * outcome["seconds"] / len(outcome["times"])
    return ", ".join(f"{name} {share * cores_to_ms:.2f} ms" for name, share in cores.items() if name != "others")


def _of_an_hour(url: str, connection: Connection) -> int:
    """Return the bytes in Redis of the media of a call of an hour, reported every five seconds."""
    store, page = open_store(RedisSection(url=url)), Page(0, 3600)
    for number in range(3600 // EVERY_SECONDS):
        payload = page.five_seconds(int(time.time() * 1000) + number)
        write_report(
            store, CallReport("hour/web", "hour", number + 1, report.decode(json.dumps(payload).encode(), DAY_MS))
        )
    store.close()
    return int(connection.call("MEMORY", "USAGE", store.keys.media("hour/web", call_ref("hour/web", "hour"))))


def _stored(connection: Connection, pages: int) -> int:
    """Return how many items are stored, by the totals of the calls."""
    keys = Keys("companion:", 1)
    refs = [(device(number), call_ref(device(number), call_id(number))) for number in range(pages)]
    commands: list[Command] = [("HGET", keys.call(device, ref), "totals") for device, ref in refs]
    return sum(json.loads(totals)["items"] for totals in connection.pipeline(commands) if totals)


def _used(connection: Connection) -> int:
    return int(connection.call("INFO", "memory")["used_memory"])


def _redis(connection: Connection) -> int:
    return int(connection.call("INFO", "server")["process_id"])


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[-(-percent * len(ordered) // 100) - 1]
