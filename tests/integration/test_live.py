"""Server-sent events from a running companion: what OpenSIPS says now is in the browser a second later."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from companion import metrics
from companion.http.events import hub
from companion.opensips.events import INSERT, LATENCY, LOST_PING_US
from companion.services.app import ServiceName
from companion.simulator.redis import find_free_port
from companion.store.devices import load_device
from tests.integration.conftest import MakeSetup, Setup, Udp, eventually, notification, phone_event
from tests.integration.web import READ, READ_SECRET

SERVICES: tuple[ServiceName, ...] = ("bridge", "consumer", "api")
Event = tuple[str, Any, str]


def make_live(make_setup: MakeSetup, **api: object) -> Setup:
    return make_setup(api={"listen": f"127.0.0.1:{find_free_port()}", "dashboard": False, **api})


@asynccontextmanager
async def listening(setup: Setup, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a stream, (name, data, id) each."""
    async with (
        httpx2.AsyncClient(base_url=f"http://{setup.config.api.listen}", timeout=15, headers=headers) as client,
        client.stream("GET", f"/api/v1/events{query}") as answer,
    ):
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["x-accel-buffering"] == "no"
        yield events(answer)


async def events(answer: httpx2.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif "event" in fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
            fields = {}


async def following(stream: AsyncIterator[Event], name: str) -> Event:
    """The next event of this name."""
    async with asyncio.timeout(15):
        return await anext(event async for event in stream if event[0] == name)


def ping(udp: Udp, aor: str, latency: int) -> None:
    udp.send(notification(LATENCY, phone_event(aor, latency=latency)))


async def register(setup: Setup, udp: Udp, aor: str) -> None:
    udp.send(notification(INSERT, phone_event(aor)))
    await eventually(lambda: load_device(setup.store, f"{aor}/{aor}"))


async def test_a_device(make_setup: MakeSetup) -> None:
    """A ping that OpenSIPS tells of is in the stream of its device as it comes, and so is what comes of it."""
    setup = make_live(make_setup)
    async with setup.running(*SERVICES):
        with Udp(setup.datagram) as udp:
            await register(setup, udp, "ann")
            async with listening(setup, "?device=ann") as stream:
                assert (await following(stream, "status"))[1]["device"] == "ann/ann"
                sent_at = time.time() * 1000
                ping(udp, "ann", 48_000)
                _, (ts, latency_ms), number = await following(stream, "sample")
                assert (latency_ms, number, abs(ts - sent_at) < 5000) == (48, str(ts), True)
                ping(udp, "ann", LOST_PING_US)
                assert (await following(stream, "sample"))[1][1] is None
                assert (await following(stream, "timeline"))[1]["event"] == "lost"
                assert (await following(stream, "status"))[1]["status"] == "losing"


async def test_coming_back(make_setup: MakeSetup) -> None:
    """Who comes back with Last-Event-ID, as browsers do, is told what happened meanwhile."""
    setup = make_live(make_setup)
    async with setup.running(*SERVICES):
        with Udp(setup.datagram) as udp:
            await register(setup, udp, "ann")
            async with listening(setup, "?device=ann%2Fann") as stream:
                await following(stream, "status")
                ping(udp, "ann", 48_000)
                number = (await following(stream, "sample"))[2]
            for latency in (49_000, 50_000):
                ping(udp, "ann", latency)
            await eventually(lambda: setup.samples() == 3)
            async with listening(setup, "?device=ann", **{"last-event-id": number}) as stream:
                assert [(await following(stream, "sample"))[1][1] for _ in range(2)] == [49, 50]


async def test_the_fleet(make_setup: MakeSetup) -> None:
    """Without a device the stream tells of the fleet, and of a pause as soon as somebody asks for one."""
    setup = make_live(make_setup)
    async with setup.running(*SERVICES), listening(setup) as stream:
        assert (await following(stream, "summary"))[1]["devices"]["total"] == 0
        assert (await following(stream, "nodes"))[1]["nodes"][0]["alive"]
        assert (await following(stream, "remediation"))[1]["paused_seconds"] == 0
        await asyncio.to_thread(setup.cli, "remediation", "pause", "1h")
        assert (await following(stream, "remediation"))[1]["paused_seconds"] > 3500


async def test_stopping(make_setup: MakeSetup) -> None:
    """A companion that stops ends its streams at once and in good order: the client sees an end, not a break."""
    setup = make_live(make_setup)
    async with asyncio.timeout(30):
        async with setup.running(*SERVICES):
            opened = listening(setup)
            stream = await opened.__aenter__()
            await following(stream, "remediation")
            began = time.monotonic()
        assert [event async for event in stream if event[0] == "nothing"] == []
        await opened.__aexit__(None, None, None)
    assert time.monotonic() - began < 3


async def test_too_many(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """One stream more than there may be is refused, and told when to try again; a client that leaves makes room."""
    monkeypatch.setattr(hub, "MAX_STREAMS", 1)
    setup = make_live(make_setup)
    async with setup.running(*SERVICES), httpx2.AsyncClient(base_url=f"http://{setup.config.api.listen}") as client:
        async with listening(setup) as stream:
            await following(stream, "summary")
            refused = await client.get("/api/v1/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
            assert refused.json()["title"] == "Too many streams"
        await eventually(lambda: metrics.API_STREAMS._value.get() == 0)
        async with listening(setup) as stream:
            await following(stream, "summary")


async def test_who_may_listen(make_setup: MakeSetup) -> None:
    """Where reads are not open a stream needs a token like all else; HEAD answers without listening."""
    setup = make_live(make_setup, tokens=[READ.line], open_reads=False)
    async with setup.running(*SERVICES), httpx2.AsyncClient(base_url=f"http://{setup.config.api.listen}") as client:
        assert (await client.get("/api/v1/events")).status_code == 401
        reader = {"authorization": f"Bearer {READ_SECRET}"}
        assert (await client.head("/api/v1/events", headers=reader)).status_code == 200
        assert (await client.get("/api/v1/events?device=nobody", headers=reader)).status_code == 404
        assert (await client.get("/api/v1/events?devise=ann", headers=reader)).status_code == 422
        async with listening(setup, **reader) as stream:
            await following(stream, "summary")


async def test_a_session_that_ends(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who logs out, listens no longer."""
    monkeypatch.setattr(hub, "ALIVE_SECONDS", 0.2)
    setup = make_live(make_setup, tokens=[READ.line], open_reads=False)
    base = f"http://{setup.config.api.listen}"
    async with setup.running(*SERVICES), httpx2.AsyncClient(base_url=base, headers={"origin": base}) as browser:
        await browser.post("/login", data={"token": READ_SECRET})
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        async with listening(setup, cookie=cookie) as stream:
            await following(stream, "summary")
            await browser.post("/logout")
            async with asyncio.timeout(10):
                assert [event async for event in stream if event[0] == "nothing"] == []
