"""Pinging a device on request: the command, the API, and what is kept of it; with a simulated OpenSIPS."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from companion.http import device_pings
from companion.http.api.models.pings import PingModel
from companion.http.device_pings import DevicePings, PingRefusedError
from companion.query.devices import iterate_devices
from companion.services.app import ServiceName
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone
from companion.simulator.redis import find_free_port
from companion.store.timeline import load_timeline
from companion.text import Json
from tests.integration.conftest import MakeSetup, Setup, clean_environment, cli, eventually
from tests.integration.web import OPERATE, OPERATE_SECRET, READ, READ_SECRET

SPEED = 20
ALICE = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001"
BOB = "bob/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000002"


@asynccontextmanager
async def pair(setup: Setup, *services: ServiceName, **tables: Json) -> AsyncIterator[SimulatedOpenSIPS]:
    """Two phones at a simulated OpenSIPS, and a companion that knows both."""
    phones = [
        SimulatedPhone(device.partition("/")[0], device.rpartition(":")[2], latency_ms=8) for device in (ALICE, BOB)
    ]
    options: dict[str, Any] = {"events_to": setup.udp, "ping_interval": 3600, "speed": SPEED}
    async with SimulatedOpenSIPS("opensips", phones, **options) as opensips:
        table = {"node": "opensips", "mi_url": opensips.mi_url, "probe_url": opensips.probe_url}
        setup.config = setup.config.model_validate(setup.tables | {"opensips": [table]} | tables)
        async with setup.running("bridge", "consumer", *services):
            opensips.core.restart()  # what was said before the bridge listened is lost
            await eventually(lambda: len(list(iterate_devices(setup.store))) == 2)
            yield opensips


def environment(setup: Setup) -> dict[str, str]:
    """Return the configuration as environment variables for a command."""
    names = ("redis", "opensips")
    tables = {name: setup.config.model_dump(mode="json")[name] for name in names}
    return {f"COMPANION_{name.upper()}": json.dumps(table) for name, table in tables.items()}


async def run_cli(setup: Setup, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(cli, *arguments, **environment(setup))


def load_runs(setup: Setup, device: str) -> list[Json]:
    return [entry for entry in load_timeline(setup.store, device, 0, 1 << 52) if entry["event"] == "pinged"]


async def test_a_live_device(make_setup: MakeSetup) -> None:
    """Each ping is a line with its round trip, and the run one entry of the timeline, none of the statistics."""
    setup = make_setup()
    async with pair(setup):
        before = setup.page(ALICE)["latency"]
        done = await run_cli(setup, "ping", "alice", "--count", "3", "--interval", "1s")
        after = setup.page(ALICE)["latency"]
    assert (done.returncode, done.stderr) == (0, "")
    title, *pings, _, counts, trips = done.stdout.splitlines()
    assert title.startswith(f"{ALICE}: sip:alice@")
    assert [line.partition(" via ")[2].partition(" time=")[0] for line in pings] == [
        f"opensips: seq={number}" for number in (1, 2, 3)
    ]
    assert all(line.startswith("answer from sip:alice@") and line.endswith("ms (200 OK)") for line in pings)
    assert counts == "3 sent, 3 answered, 0 lost (0 % loss)"
    assert trips.startswith("round trip min/avg/max = ")
    (run,) = load_runs(setup, ALICE)
    assert (run["node"], run["count"], run["answered"], run["lost"]) == ("opensips", 3, 3, 0)
    assert 0 < run["min_ms"] <= run["average_ms"] <= run["max_ms"]
    assert after == before


async def test_a_silent_device(make_setup: MakeSetup) -> None:
    """A device that does not answer is lost, and the exit code says so; JSON has each ping."""
    setup = make_setup()
    async with pair(setup) as opensips:
        opensips.mute("bob")
        done = await run_cli(setup, "ping", BOB, "--count", "2", "--json")
    printed = json.loads(done.stdout)
    assert done.returncode == 1
    assert (printed["device"], printed["sent"], printed["lost"], printed["loss_ratio"]) == (BOB, 2, 2, 1.0)
    assert printed["min_ms"] is None
    assert [(ping["seq"], ping["result"], ping["node"]) for ping in printed["pings"]] == [
        (1, "unanswered", "opensips"),
        (2, "unanswered", "opensips"),
    ]
    (run,) = load_runs(setup, BOB)
    assert "min_ms" not in run


async def test_ctrl_c(make_setup: MakeSetup) -> None:
    """Ctrl-C ends a run with its summary and its entry."""
    setup = make_setup()
    async with pair(setup):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "companion", "ping", "alice", "--count", "1000"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment() | environment(setup),
        )
        assert process.stdout
        for _ in range(2):
            await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, err) == (0, b"")
    assert b"answered, 0 lost (0 % loss)\nround trip min/avg/max" in out
    assert len(load_runs(setup, ALICE)) == 1


async def test_impossible(make_setup: MakeSetup) -> None:
    """One line says why a device can not be pinged, and what to do."""
    setup = make_setup()
    async with pair(setup) as opensips:
        opensips.unregister("bob")
        await eventually(lambda: setup.page(BOB)["status"] == "offline")
        offline = await run_cli(setup, "ping", "bob")
        nobody = await run_cli(setup, "ping", "nobody")
        table = setup.config.opensips[0].model_copy(update={"probe_url": ""})
        setup.config = setup.config.model_copy(update={"opensips": (table,)})
        no_url = await run_cli(setup, "ping", "alice")
    for done, words in (
        (offline, "is not registered: try again"),
        (nobody, "no device is called 'nobody'"),
        (no_url, 'set probe_url = "udp:127.0.0.1:8889" in its [[opensips]] table'),
    ):
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert load_runs(setup, BOB) == []


# The API

TABLES: Json = {"tokens": [READ.line, OPERATE.line], "dashboard": False}


@asynccontextmanager
async def web_pair(setup: Setup) -> AsyncIterator[tuple[SimulatedOpenSIPS, httpx2.AsyncClient]]:
    """The same with an API, and an operator who calls it."""
    listen = f"127.0.0.1:{find_free_port()}"
    async with pair(setup, "api", api=TABLES | {"listen": listen}) as opensips:
        headers = {"authorization": f"Bearer {OPERATE_SECRET}"}
        async with httpx2.AsyncClient(base_url=f"http://{listen}/api/v1", headers=headers, timeout=20) as api:
            yield opensips, api


def path_of(name: str) -> str:
    return f"/devices/{quote(name, safe='')}/ping"


async def test_a_ping_over_http(make_setup: MakeSetup) -> None:
    """One POST is one ping; those that follow each other are one entry of the timeline, written when the API stops."""
    setup = make_setup()
    async with web_pair(setup) as (opensips, api):
        answered = [(await api.post(path_of(name))).json() for name in (ALICE, "alice")]
        opensips.mute("bob")
        lost = (await api.post(path_of("bob"))).json()
        assert load_runs(setup, ALICE) == []
    assert [(reply["device"], reply["result"], reply["detail"]) for reply in answered] == [
        (ALICE, "answered", "200 OK")
    ] * 2
    assert all(0 < reply["duration_ms"] < 5000 and reply["node"] == "opensips" for reply in answered)
    assert (lost["device"], lost["result"], lost["detail"]) == (BOB, "unanswered", "408 Request Timeout")
    PingModel.model_validate(lost)
    assert [(run["count"], run["answered"]) for run in load_runs(setup, ALICE)] == [(2, 2)]
    assert [(run["count"], run["lost"]) for run in load_runs(setup, BOB)] == [(1, 1)]


async def test_a_run_ends_by_itself(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is written down once its device is no longer pinged."""
    monkeypatch.setattr(device_pings, "RUN_GAP_SECONDS", 0.1)
    setup = make_setup()
    async with web_pair(setup) as (_, api):
        await api.post(path_of(ALICE))
        await eventually(lambda: load_runs(setup, ALICE))


async def test_refused_over_http(make_setup: MakeSetup) -> None:
    """Who may only read, what can not be pinged, and what comes too often is refused with a problem."""
    setup = make_setup()
    async with web_pair(setup) as (opensips, api):
        reader = await api.post(path_of(ALICE), headers={"authorization": f"Bearer {READ_SECRET}"})
        nobody = await api.post(path_of("nobody"))
        opensips.mute("bob")
        at_once = await asyncio.gather(*(api.post(path_of(BOB)) for _ in range(2)))
        opensips.unregister("bob")
        await eventually(lambda: setup.page(BOB)["status"] == "offline")
        offline = await api.post(path_of(BOB))
        assert [reply.status_code for reply in (reader, nobody, offline)] == [403, 404, 409]
        assert "is not registered" in offline.json()["detail"]
        assert offline.json()["type"].endswith(":can-not-ping")
        assert sorted(reply.status_code for reply in at_once) == [200, 429]
        refused = next(reply for reply in at_once if reply.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["detail"] == "a ping of this device is under way"


async def test_pings_of_a_node_are_limited(make_setup: MakeSetup) -> None:
    """A node sends five pings at once and then five a second, whoever asks."""
    setup = make_setup()
    async with pair(setup) as opensips:
        pings = DevicePings(setup.config, setup.store, clock=lambda: 1000.0)
        for _ in range(5):
            await pings.ping(ALICE)
        with pytest.raises(PingRefusedError, match="5 pings a second"):
            await pings.ping(BOB)
        await pings.aclose()
        assert len(opensips.questions) == 5
    assert [run["count"] for run in load_runs(setup, ALICE)] == [5]
