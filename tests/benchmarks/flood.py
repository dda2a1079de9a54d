"""Measure what a flood of mirrored SIP messages does to the pings of the same node, and to a recorded device."""

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2

from companion.config import Config
from companion.simulator.redis import find_free_port
from companion.simulator.wire import encode_notification
from companion.store.nodes import load_feeds
from companion.store.recordings import Recording, save_recording
from companion.store.store import Store, open_store
from companion.store.traces import load_trace_extent
from companion.times import MINUTE_MS, now_ms
from tests.benchmarks.figure import Figure
from tests.benchmarks.processes import bench_redis, process, wait_until
from tests.benchmarks.publisher import NODE, device_name, ping_params
from tests.benchmarks.services import peak_mb
from tests.unit.trace.messages import EDGE, encode_hep, mirrored, sip

PER_SECOND: Final = 20_000
SECONDS: Final = 10
PHONES: Final = 500
"""Each is pinged once a second."""
OWN_PER_SECOND: Final = 20
"""Messages of the recorded device."""
STEPS: Final = 100
"""Parts of a second in which messages are sent evenly."""
STRANGER: Final = "192.0.2.99:1"


class Flood(NamedTuple):
    """Hold what was sent and stored, what was dropped by queue, and the memory before and at most, in MB."""

    took: float
    pings: tuple[int, int]
    own: tuple[int, int]
    dropped: dict[str, int]
    memory_mb: tuple[float, float]


def figures(per_second: int = PER_SECOND, seconds: int = SECONDS) -> Iterator[Figure]:
    """Send so many messages of another device in each second, beside pings and the messages of a recorded device.

    Once with the default limit of the bridge, and once with one that lets all through.
    """
    for limit in (2000, 2 * per_second):
        flood = _measure(per_second, seconds, limit)
        dropped = ", ".join(f"{queue} {count:,}" for queue, count in flood.dropped.items() if count)
        rate = per_second * seconds / flood.took
        yield Figure(f"{rate:,.0f} HEP/s for {flood.took:.0f} s, hep_per_second {limit:,}", f"dropped: {dropped}")
        yield Figure("  pings of the same node", "{1:,} of {0:,} stored".format(*flood.pings))
        yield Figure("  messages of the recorded device", "{1:,} of {0:,} stored".format(*flood.own))
        yield Figure("  memory", "{:.0f} MB before, {:.0f} MB at most".format(*flood.memory_mb))


def _measure(per_second: int, seconds: int, limit: int) -> Flood:
    with bench_redis() as (folder, redis, _):
        tables = _make_tables(redis.url, limit)
        store = open_store(Config.model_validate(tables).redis)
        command = (sys.executable, "-m", "companion", "run", "bridge", "consumer", "api", "-c", _write(folder, tables))
        with process(*command) as companion:
            wait_until(lambda: any(feed.heartbeat_at for feed in load_feeds(store).values()), "the companion")
            metrics_url = f"http://{tables['api']['listen']}/metrics"
            _register(store, tables["bridge"]["datagram"])
            before = _stored_pings(metrics_url), peak_mb(companion.pid)
            took, own = _send(tables["bridge"], per_second, seconds)
            pings = PHONES * seconds
            stored = _wait_for_rest(metrics_url, before[0] + pings) - before[0]
            dropped = {queue: _dropped(metrics_url, queue) for queue in ("hep", "kernel_hep", "traces", "kernel_udp")}
            most = peak_mb(companion.pid)
        trace = load_trace_extent(store, device_name(0))[0]
        store.close()
    return Flood(took, (pings, stored), (own, trace), dropped, (before[1], most))


def _make_tables(redis_url: str, limit: int) -> dict[str, Any]:
    bus = f"tcp://127.0.0.1:{find_free_port()}"
    datagram, hep = (f"udp:127.0.0.1:{find_free_port()}" for _ in range(2))
    return {
        "redis": {"url": redis_url},
        "bridge": {"node": NODE, "datagram": datagram, "hep": hep, "publish": bus, "hep_per_second": limit},
        "consumer": {"subscribe": [bus]},
        "api": {"listen": f"127.0.0.1:{find_free_port()}"},
    }


def _write(folder: Path, tables: dict[str, Any]) -> str:
    file = folder / "companion.toml"
    lines = [
        line
        for name, table in tables.items()
        for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()))
    ]
    file.write_text("\n".join(lines))
    return str(file)


def _register(store: Store, datagram: str) -> None:
    """Register the phones, and record the first one."""
    events = [encode_notification("E_UL_CONTACT_INSERT", _ping(number, 0)) for number in range(PHONES)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for event in events:
            sender.sendto(event, _address(datagram))
    last = store.keys.device(device_name(PHONES - 1))
    wait_until(lambda: bool(store.connection.call("EXISTS", last)), "the registrations")
    now = now_ms()
    save_recording(store, Recording(device_name(0), "bench", now, now + 10 * MINUTE_MS), 1)
    time.sleep(1.5)  # the consumer has read the recording


def _ping(number: int, latency_us: int) -> dict[str, object]:
    return ping_params(number, latency_us, int(time.time()) + 3600)


def _address(text: str) -> tuple[str, int]:
    _, host, port = text.split(":")
    return host, int(port)


def _send(bridge: dict[str, Any], per_second: int, seconds: int) -> tuple[float, int]:
    """Send it all evenly, and return how long that took and how many messages of the recorded device there were."""
    flood = encode_hep(mirrored(now_ms(), STRANGER, EDGE, sip("OPTIONS sip:a@b", from_="<sip:eve@c>", call_id="flood")))
    pings = [encode_notification("E_UL_LATENCY_UPDATE", _ping(number, 50_000)) for number in range(PHONES)]
    hep, datagram = _address(bridge["hep"]), _address(bridge["datagram"])
    began, own = time.monotonic(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for step in range(seconds * STEPS):
            for _ in range(per_second // STEPS):
                sender.sendto(flood, hep)
            for number in range(PHONES // STEPS):
                sender.sendto(pings[step * (PHONES // STEPS) % PHONES + number], datagram)
            if step % (STEPS // OWN_PER_SECOND) == 0:
                sender.sendto(_own(own), hep)
                own += 1
            time.sleep(max(0.0, began + (step + 1) / STEPS - time.monotonic()))
    return time.monotonic() - began, own


def _own(number: int) -> bytes:
    message = sip("OPTIONS sip:a@b", cseq=f"{number + 1} OPTIONS", from_="<sip:user0@c>", call_id="own")
    return encode_hep(mirrored(now_ms(), "10.0.0.0:38566", EDGE, message))


def _wait_for_rest(metrics_url: str, expected: int) -> int:
    """Return how many pings are stored when no more come."""
    last, at = -1, time.monotonic()
    while time.monotonic() - at < 5:
        stored = _stored_pings(metrics_url)
        if stored != last:
            last, at = stored, time.monotonic()
        if stored >= expected:
            break
        time.sleep(0.2)
    return last


def _stored_pings(metrics_url: str) -> int:
    return _sum(metrics_url, r"^opensips_companion_samples_stored_total\{series=\"latency\"\} (\S+)")


def _dropped(metrics_url: str, queue: str) -> int:
    return _sum(metrics_url, rf"^opensips_companion_dropped_total\{{queue=\"{queue}\"\}} (\S+)")


def _sum(metrics_url: str, pattern: str) -> int:
    text = httpx2.get(metrics_url, timeout=60).text
    return round(sum(map(float, re.findall(pattern, text, re.MULTILINE))))
