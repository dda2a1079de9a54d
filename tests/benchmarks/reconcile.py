"""Measure what it costs to compare a large OpenSIPS with the store, in a process of its own.

`python -m tests.benchmarks.reconcile` prints the figures; with arguments it is that process.
"""

import asyncio
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from companion.config import Config
from companion.opensips.mi import Mi
from companion.opensips.mi_contact import parse
from companion.reconcile.comparison import compare, reconcile
from companion.store.batch import Batch
from companion.store.connection import Connection
from companion.store.corrections import Present
from companion.store.store import Store, open_store
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding
from companion.usrloc.picture import Usrloc
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis
from tests.benchmarks.publisher import NODE, ping_params

CONTACTS: Final = 100_000
BATCH: Final = 2000


def figures(contacts: int = CONTACTS) -> Iterator[Figure]:
    """Compare a fleet that is new, the same one when it is stored, and one without a third of it."""
    with bench_redis() as (_, redis, connection):
        with _opensips(contacts) as url:
            yield _figure(f"compare {contacts:,} contacts, all new", url, redis.url)
            connection.call("FLUSHALL")
            _fill(redis.url, contacts)
            yield _figure(f"compare {contacts:,} contacts, all known", url, redis.url)
        with _opensips(contacts * 2 // 3) as url:
            yield _figure(f"compare {contacts * 2 // 3:,} contacts, {contacts:,} known", url, redis.url)
            yield _waiting(connection)


def _figure(name: str, url: str, redis_url: str) -> Figure:
    command = [sys.executable, "-m", "tests.benchmarks.reconcile", url, redis_url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    numbers = json.loads(done.stdout)
    if numbers["refused"]:
        raise AssertionError(numbers["refused"])
    corrected = numbers["found"] + numbers["gone"]
    megabytes = numbers["max_rss_kb"] / 1024
    return Figure(
        name,
        f"{numbers['seconds']:.1f} s, {megabytes:.0f} MB ({numbers['idle_rss_kb'] / 1024:.0f} MB idle), "
        f"{corrected:,} corrections",
        megabytes,
    )


def _waiting(connection: Connection) -> Figure:
    key = next(key for key in connection.call("KEYS", "*corrections:*"))
    size = connection.call("MEMORY", "USAGE", key, "SAMPLES", 0)
    return Figure("  what waits of that in Redis", f"{size / 1e6:.1f} MB", float(size))


@contextmanager
def _opensips(contacts: int) -> Iterator[str]:
    """Serve an MI that answers `uptime` and `ul_dump`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(contacts))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mi"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(contacts: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            if request["method"] == "uptime":
                self._write({"jsonrpc": "2.0", "id": request["id"], "result": {"Up time": "86400 [sec]"}})
                return
            self.wfile.write(
                b'{"jsonrpc":"2.0","id":%d,"result":{"Domains":[{"name":"location","AORs":[' % request["id"]
            )
            for number in range(contacts):
                self.wfile.write(b"," if number else b"")
                self._write(describe_aor(number))
            self.wfile.write(b"]}]}}")

        def _write(self, reply: Any) -> None:
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_: Any) -> None:
            """Write no log."""

    return Handler


def describe_aor(number: int) -> dict[str, Any]:
    """Return the record of one AOR as ul_dump answers it."""
    params = ping_params(number, 40_000, 0)
    contact = {
        "Contact": params["uri"],
        "ContactID": str(number),
        "Expires": 3000,
        "Q": "",
        "Callid": params["callid"],
        "Cseq": params["cseq"],
        "User-agent": params["user_agent"],
        "Received": params["received"],
        "State": "CS_SYNC",
        "Flags": 0,
        "Cflags": "NAT SIP_PING LATENCY",
        "Socket": params["socket"],
        "Methods": 5951,
        "Attr": params["attr"],
        "SIP_instance": params["attr"],
        "Ping-Latency": 40_000,
    }
    return {"AOR": params["aor"], "Contacts": [contact]}


def _fill(url: str, contacts: int) -> None:
    """Store the contacts as a recorder does, with their last event a minute ago."""
    store = open_store(Config.model_validate({"redis": {"url": url}}).redis)
    now = int(time.time() * 1000)
    for start in range(0, contacts, BATCH):
        _store(store, range(start, min(start + BATCH, contacts)), now)
    store.close()


def _store(store: Store, numbers: range, now: int) -> None:
    usrloc = Usrloc(3, 120_000)
    for number in numbers:
        record = describe_aor(number)
        contact = parse("location", record["AOR"], record["Contacts"][0])
        binding = Binding(NODE, contact.domain, contact.aor, contact.uri)
        _, present = compare(binding, contact, None, now - 60_000, now)
        assert isinstance(present, Present)
        usrloc.corrections.adopt(
            binding, present.registration, Stamp(NODE, NODE, present.as_of, 1), instance=present.instance
        )
    Batch(store).write(Batch(store).prepare(usrloc.changes.take()))


async def _compare(url: str, redis_url: str) -> None:
    config = Config.model_validate({"redis": {"url": redis_url}})
    store = open_store(config.redis)
    idle = _peak_kb()
    async with Mi(url) as mi:
        report = await reconcile(NODE, mi, store, config)
    store.close()
    numbers = {name: report.to_json()[name] for name in ("seconds", "found", "gone", "refused")}
    print(json.dumps({**numbers, "idle_rss_kb": idle, "max_rss_kb": _peak_kb()}))


def _peak_kb() -> int:
    """Return the largest memory of this process; ru_maxrss would include that of its parent."""
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])


def main() -> None:
    if len(sys.argv) == 3:
        asyncio.run(_compare(*sys.argv[1:]))
        return
    for figure in figures():
        print(f"{figure.name}: {figure.value}", flush=True)


if __name__ == "__main__":
    main()
