"""Remediation against a real OpenSIPS: a mute phone is removed, a sleeping one woken, a live one left alone."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from companion.config import Config
from companion.opensips import events
from companion.opensips.mi import Mi
from companion.remediation import audit
from companion.services.app import App
from companion.simulator.phone import SimulatedPush
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.devices import load_device
from companion.store.pushes import load_pushed
from companion.store.store import Store, open_store
from companion.store.timeline import load_timeline
from tests.acceptance.conftest import PING_INTERVAL, OpenSIPS
from tests.sip_phone.phone import Phone

LOST_AFTER = 3
PATIENCE_SECONDS = 100
pytestmark = pytest.mark.timeout(240)


async def settled(condition: Callable[[], object]) -> None:
    """Wait for what takes several ping intervals."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the condition is anything, not an event
            await asyncio.sleep(0.1)


def phone_of(opensips: OpenSIPS, push: SimulatedPush | None = None) -> Phone:
    return Phone(opensips.ws_url, f"{uuid.uuid4().hex[:12]}@127.0.0.1", push=push)


@pytest.fixture
async def store(opensips: OpenSIPS, tmp_path: Path) -> AsyncIterator[Store]:
    """The store of a companion that hears this OpenSIPS and may act on it."""
    datagram, bus = find_free_port(), find_free_port()
    with EmbeddedRedis(tmp_path / "redis") as redis:
        config = Config.model_validate(
            {
                "redis": {"url": redis.url},
                "bridge": {"datagram": f"udp:127.0.0.1:{datagram}", "publish": f"tcp://127.0.0.1:{bus}"},
                "consumer": {"subscribe": [f"tcp://127.0.0.1:{bus}"]},
                "pings": {"interval": PING_INTERVAL, "lost_after": LOST_AFTER},
                "opensips": [{"node": "opensips", "mi_url": opensips.mi_url}],
                "remediation": {"mode": "enforce", "sweep_interval": 1},
                "api": {"listen": f"127.0.0.1:{find_free_port()}"},
            }
        )
        async with running(config), Mi(opensips.mi_url) as mi:
            for event in sorted(events.EVENT_NAMES - {events.REFRESH}):
                await mi.call("event_subscribe", event=event, socket=f"udp:127.0.0.1:{datagram}", expire=3600)
            store = open_store(config.redis)
            yield store
            store.close()


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[None]:
    stopped = asyncio.Event()
    app = asyncio.create_task(App(config).run(stopped))
    try:
        yield
    finally:
        stopped.set()
        await app


def device_of(opensips: OpenSIPS, phone: Phone) -> str:
    return f"{opensips.aor(phone.aor.partition('@')[0])}/{phone.instance}"


def answered(store: Store, device_id: str) -> bool:
    device = load_device(store, device_id)
    return bool(device and any(contact.last_latency_at for contact in device.contacts))


def decisions(store: Store, device_id: str) -> list[tuple[str, str]]:
    """(action, result) of all decisions about a device."""
    return [(entry["action"], entry["result"]) for _, entry in audit.read(store) if entry["device"] == device_id]


async def test_a_mute_phone_is_removed(opensips: OpenSIPS, store: Store) -> None:
    """Without remove_on_timeout the companion removes who lost its pings, and only that one."""
    async with phone_of(opensips) as mute, phone_of(opensips) as live, Mi(opensips.mi_url) as mi:
        mute_id, live_id = device_of(opensips, mute), device_of(opensips, live)
        await settled(lambda: answered(store, mute_id) and answered(store, live_id))
        mute.mute()
        await settled(lambda: decisions(store, mute_id))

        assert decisions(store, mute_id) == [("remove", "removed")]
        assert await mi.show_contact("location", mute_id.rpartition("/")[0]) == []
        assert len(await mi.show_contact("location", live_id.rpartition("/")[0])) == 1
        assert decisions(store, live_id) == []
        await settled(lambda: _timeline_events(store, mute_id) >= {"lost", "stale", "companion-remove"})


async def test_a_sleeping_phone_is_woken(opensips: OpenSIPS, store: Store) -> None:
    """Who can be woken gets E_COMPANION_PUSH in its event_route, registers again, and its flag clears."""
    async with phone_of(opensips, SimulatedPush("fcm", "token", "proj-1")) as phone, Mi(opensips.mi_url) as mi:
        device_id = device_of(opensips, phone)
        await settled(lambda: answered(store, device_id))
        phone.mute()
        await settled(lambda: f"woken: {device_id.rpartition('/')[0]} at {phone.uri}" in opensips.log)
        assert [ref.aor for ref in load_pushed(store)] == [device_id.rpartition("/")[0]]
        phone.unmute()
        await phone.register()
        await settled(lambda: ("push", "woken") in decisions(store, device_id))

        assert load_pushed(store) == []
        assert ("remove", "removed") not in decisions(store, device_id)
        assert len(await mi.show_contact("location", device_id.rpartition("/")[0])) == 1
        (woken,) = [entry for _, entry in audit.read(store) if entry["result"] == "woken"]
        assert 0 < woken["after_ms"] < PATIENCE_SECONDS * 1000


def _timeline_events(store: Store, device_id: str) -> set[str]:
    return {entry["event"] for entry in load_timeline(store, device_id, 0, 1 << 52)}
