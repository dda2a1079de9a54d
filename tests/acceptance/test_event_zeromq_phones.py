"""Real phones, and two companions that watch them: one through the bridge, one through event_zeromq."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
import pytest
import zmq

from companion.bus.envelope import decode
from companion.query.devices import iterate_devices
from companion.simulator.phone import SimulatedPush
from companion.simulator.redis import find_free_port
from companion.store.nodes import load_feeds
from tests.acceptance.conftest import Build, eventually
from tests.acceptance.edge import Companion, Edge, edge_with, settled, stop_pings
from tests.sip_phone.phone import Phone

pytestmark = pytest.mark.timeout(300)
EVENTS = (
    *("E_UL_CONTACT_INSERT", "E_UL_CONTACT_UPDATE", "E_UL_CONTACT_DELETE", "E_UL_CONTACT_REFRESH"),
    *("E_UL_LATENCY_UPDATE", "E_CORE_TCP_DISCONNECT"),
)
OBSERVE = {"mode": "observe"}
DOCUMENT = Path(__file__).parents[2] / "docs/opensips.md"
OWN_EVENT = "E_SLOW_PHONE"
"""Raised by the route that docs/opensips.md shows."""
LOG_OF_A_PING = 'xlog("L_INFO", "ping of $param(aor) at $param(uri): $param(latency) us\\n");'


Pages = dict[str, dict[str, Any]]
Pair = tuple[Pages, Pages]
"""What is shown of each device, through the bridge and through event_zeromq."""


class Site(NamedTuple):
    """An OpenSIPS that sends each event both ways, and the companion at the end of each."""

    edge: Edge
    bridged: Companion
    native: Companion

    def phone(self, user: str, **settings: Any) -> Phone:
        return Phone(self.edge.server.ws_url, f"{user}@127.0.0.1", **settings)


@pytest.fixture
def site(build: Build, event_zeromq: Path, tmp_path: Path) -> Iterator[Site]:
    bus = f"tcp://127.0.0.1:{find_free_port()}"
    lines = "".join(f'\n    subscribe_event("{event}", "zeromq:{bus}");' for event in (*EVENTS, OWN_EVENT))
    hold = 'modparam("event_zeromq", "hold_ms", 300000)'  # the companions start after OpenSIPS
    changes = {
        'loadmodule "event_datagram.so"': f'loadmodule "event_datagram.so"\nloadmodule "{event_zeromq}"\n{hold}',
        "startup_route {": f"startup_route {{{lines}",
        "tcp_threads=1": "tcp_threads=4",
        LOG_OF_A_PING: _documented_route().replace("> 500000", "> 0"),
    }
    for folder in ("bridged", "native"):
        (tmp_path / folder).mkdir()
    with (
        edge_with(build, tmp_path, **changes) as edge,
        Companion(tmp_path / "bridged", edge.datagram, edge.server.mi_url, remediation=OBSERVE) as bridged,
        Companion(
            tmp_path / "native",
            find_free_port(),  # nothing comes here
            edge.server.mi_url,
            remediation=OBSERVE,
            consumer={"subscribe": [bus]},
        ) as native,
    ):
        yield Site(edge, bridged, native)


def _documented_route() -> str:
    """Return the body of the event_route that docs/opensips.md shows."""
    match = re.search(
        r"^event_route\[E_UL_LATENCY_UPDATE\] \{\n(.*?)^\}", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    assert match
    return match[1]


async def test_an_event_of_ones_own(site: Site) -> None:
    """The bus carries an event that a script raises under its name; the consumer counts it and ignores it."""
    with zmq.Context() as context, context.socket(zmq.SUB) as own:
        own.setsockopt(zmq.LINGER, 0)
        own.subscribe(OWN_EVENT)
        own.connect(site.native.config.consumer.subscribe[0])
        async with site.phone("slow") as phone:
            await eventually(lambda: phone.answered and own.poll(0))
            topic, body = own.recv_multipart()
    (event,) = decode(topic, body).events
    assert (topic.decode(), msgspec.msgpack.decode(event[1]).keys()) == (OWN_EVENT, {"aor", "latency"})
    metrics = httpx2.get(f"http://{site.native.config.api.listen}/metrics").text
    assert re.search(r'invalid_total\{reason="unknown_event",where="consumer"\} [1-9]', metrics), metrics
    (feed,) = load_feeds(site.native.store).values()
    assert feed.refused == 0


async def test_the_same_as_through_the_bridge(site: Site) -> None:
    """Devices, statuses, pings, contacts and timelines are the same both ways, and no event is missing."""
    quiet = site.phone("quiet", answer_delay=0.03)
    losing = site.phone("losing")
    reloading = site.phone("reloading")
    leaving = site.phone("leaving")
    asleep = site.phone("asleep", push=SimulatedPush("fcm", "token", "proj-1"))
    dead = site.phone("dead")
    phones = (quiet, losing, reloading, leaving, asleep, dead)
    try:
        for phone in phones:  # one by one: 4.0.1 mixes up handshakes that come together
            await phone.start()
        await eventually(lambda: all(phone.answered for phone in phones))
        for phone in (losing, asleep):
            phone.mute()
        await reloading.die()
        await dead.die()
        await leaving.unregister()
        await quiet.register()
        await reloading.reload()
        await eventually(lambda: min(len(phone.ignored) for phone in (losing, asleep)) >= 2)
        losing.unmute()
        answered = len(losing.answered)
        await eventually(lambda: len(losing.answered) > answered and len(reloading.answered) > 1)
        await stop_pings(site.edge.server)
        pairs: list[Pair] = []
        with suppress(TimeoutError):
            await settled(lambda: _is_settled(site, losing, pairs))
    finally:
        for phone in phones:
            await phone.close()
    bridged, native = pairs[-1]
    assert native == bridged
    assert _has_all_pings(site, losing)
    assert len(native) == len(phones)
    assert {row["status"] for row in native.values()} >= {"online", "offline"}
    (feed,) = load_feeds(site.native.store).values()
    assert (feed.missed, feed.gaps, feed.refused, feed.invalid) == (0, 0, 0, 0)


def _is_settled(site: Site, losing: Phone, pairs: list[Pair]) -> bool:
    """Return whether both show the same, and all pings. Add to `pairs` what they show while no event comes in."""
    before, native, after = (_describe(companion) for companion in (site.bridged, site.native, site.bridged))
    if before == after:
        pairs.append((after, native))
    return before == native == after and _has_all_pings(site, losing)


def _has_all_pings(site: Site, losing: Phone) -> bool:
    """Return whether both have all pings of the phone that lost some."""
    (device,) = (one.id for one in iterate_devices(site.native.store) if "losing" in one.id)
    own = len(losing.answered), len(losing.ignored)
    return [companion.counts(device) for companion in (site.bridged, site.native)] == [own, own]


def _describe(companion: Companion) -> Pages:
    """Return what is shown of each device, without the times, which differ by the way of an event."""
    return {device.id: _describe_page(companion.page(device.id)) for device in iterate_devices(companion.store)}


def _describe_page(page: dict[str, Any]) -> dict[str, Any]:
    registration = page["registration"]
    return {
        "status": page["status"],
        "counts": [page["latency"][name] for name in ("answered", "lost")],
        "latencies": [latency_ms for _, latency_ms in page["samples"]],
        "registration": [registration[name] for name in ("registered", "user_agent", "received", "push")],
        "contacts": sorted((contact["uri"], contact["status"]) for contact in page["contacts"]),
        "timeline": [entry["event"] for entry in page["timeline"]],
    }
