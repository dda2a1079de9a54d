"""Recordings: asked for by command, API or page, kept up by the scheduler, ended on time; with a simulated OpenSIPS."""

import asyncio
import getpass
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from typer.testing import CliRunner

from companion.cli.main import app
from companion.errors import CanNotRecordError
from companion.http.api.models.remediation import RemediationsModel
from companion.http.api.models.traces import LadderModel, RecordingsModel, StartedModel, StoppedModel, TraceModel
from companion.query.devices import iterate_devices
from companion.recording.job import RecordingJob
from companion.recording.recordings import start_recording, stop_recording
from companion.remediation import audit
from companion.services.app import ServiceName
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone
from companion.simulator.redis import find_free_port
from companion.store.recordings import Recording, load_recordings, save_recording
from companion.store.timeline import load_timeline
from companion.store.traces import append_packets
from companion.trace.filters import make_id
from companion.trace.packet import pack
from tests.integration.conftest import MakeSetup, Setup, eventually
from tests.integration.web import OPERATE, OPERATE_SECRET, READ, READ_SECRET
from tests.unit.trace.messages import captured_packets

ALICE = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001"
BOB = "bob/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000002"


@asynccontextmanager
async def edge(
    setup: Setup, *services: ServiceName, domain: str = "", **tables: Any
) -> AsyncIterator[SimulatedOpenSIPS]:
    """Two phones at a simulated OpenSIPS, and a companion that knows both and can record."""
    phones = [
        SimulatedPhone(one.partition("/")[0] + domain, one.rpartition(":")[2], latency_ms=8) for one in (ALICE, BOB)
    ]
    bridge = {**setup.tables["bridge"], "hep": f"udp:127.0.0.1:{find_free_port()}"}
    async with SimulatedOpenSIPS("opensips", phones, events_to=setup.udp, ping_interval=3600, speed=20) as opensips:
        table = {"node": "opensips", "mi_url": opensips.mi_url, "mi_timeout": 2}
        setup.tables |= {"bridge": bridge} | tables
        setup.config = setup.config.model_validate(setup.tables | {"opensips": [table]})
        async with setup.running("bridge", "consumer", *services):
            opensips.core.restart()  # what was said before the bridge listened is lost
            await eventually(lambda: len(list(iterate_devices(setup.store))) == 2)
            yield opensips


def entries(setup: Setup, device: str = ALICE) -> list[tuple[str, str]]:
    """Return what the timeline says of recordings, and who asked."""
    timeline = load_timeline(setup.store, device, 0, 1 << 52)
    return [(one["event"], one["by"]) for one in timeline if one["event"].startswith("recording-")]


def audited(setup: Setup) -> list[tuple[str, str, str, int]]:
    """Return what the audit says of recordings: device, result, who asked, and minutes."""
    rows = [row for _, row in audit.read(setup.store) if row["action"] == "record"]
    return [(row["device"], row["result"], row["by"], row["minutes"]) for row in rows]


async def test_life_of_a_recording(make_setup: MakeSetup) -> None:
    """It begins at once, survives a restart of OpenSIPS, and ends when somebody stops it; all is in the audit."""
    setup = make_setup()
    async with edge(setup) as opensips:
        job = RecordingJob(setup.config, setup.store)
        started = await start_recording(setup.config, setup.store, "alice", 15, "support")
        assert not started.failures
        filters = sorted(opensips.mi.traces.values())
        assert {"caller=alice", "callee=alice"} <= set(filters)
        opensips.mi.traces.clear()  # as a restart does
        await job.run()
        assert sorted(opensips.mi.traces.values()) == filters
        await start_recording(setup.config, setup.store, "alice", 30, "support")  # a new end: no trace is left over
        assert sorted(opensips.mi.traces.values()) == filters
        await start_recording(setup.config, setup.store, BOB, 15, "support")
        await stop_recording(setup.config, setup.store, ALICE, "chief")
        assert {one.partition("=")[2] for one in opensips.mi.traces.values()} == {"bob"}  # wherever they stood
        opensips.mi.traces["a-trace-of-the-operator"] = "caller=eve"  # it stands before ours
        _, failures = await stop_recording(setup.config, setup.store, BOB, "chief")
        assert "is not ours stands before them" in failures["opensips"]
        del opensips.mi.traces["a-trace-of-the-operator"]
        job = RecordingJob(setup.config, setup.store)
        job._ours.add(BOB)
        await job.run()
        assert opensips.mi.traces == {}
        with pytest.raises(CanNotRecordError, match="is not recorded"):
            await stop_recording(setup.config, setup.store, ALICE, "chief")
        assert entries(setup) == [
            ("recording-started", "support"),
            ("recording-started", "support"),
            ("recording-stopped", "chief"),
        ]
        assert audited(setup) == [
            (ALICE, "started", "support", 15),
            (ALICE, "started", "support", 30),
            (BOB, "started", "support", 15),
            (ALICE, "stopped", "chief", 0),
            (BOB, "stopped", "chief", 0),
        ]


async def test_failed_renewal(make_setup: MakeSetup) -> None:
    """A recording that can not be renewed goes on to its own end: MI is away, or fewer recordings are allowed now."""
    setup = make_setup()
    async with edge(setup) as opensips:
        for name in (ALICE, BOB):
            await start_recording(setup.config, setup.store, name, 15, "support")
        before, traces = load_recordings(setup.store), dict(opensips.mi.traces)
        trace = setup.config.trace.model_copy(update={"max_recordings": 1})
        fewer = setup.config.model_copy(update={"trace": trace})
        renewed = await start_recording(fewer, setup.store, ALICE, 15, "support")
        assert renewed.recording.ends_at > before[ALICE].ends_at
        before = load_recordings(setup.store)
        traces = dict(opensips.mi.traces)
        await opensips.mi_server.stop()
        with pytest.raises(CanNotRecordError, match="opensips can not be asked"):
            await start_recording(setup.config, setup.store, ALICE, 120, "chief")
        assert load_recordings(setup.store) == before
        assert opensips.mi.traces == traces
        assert audited(setup)[-1] == (ALICE, "refused", "chief", 120)


async def test_what_another_companion_left(make_setup: MakeSetup) -> None:
    """The scheduler ends what is over, also after the companion that began it was killed; others' traces stay."""
    setup = make_setup()
    async with edge(setup) as opensips:
        now = int(time.time() * 1000)
        save_recording(setup.store, Recording(ALICE, "support", now - 2000, now - 1000), 5)
        overdue, other = make_id(now - 1000, ALICE, "caller=alice"), make_id(now + 99_000, "eve/1", "caller=eve")
        opensips.mi.traces |= {str(overdue): "caller=alice", str(other): "caller=eve", "operator": "caller=bob"}
        await RecordingJob(setup.config, setup.store).run()
        assert sorted(opensips.mi.traces) == sorted((str(other), "operator"))
        assert load_recordings(setup.store) == {}
        assert entries(setup) == [("recording-ended", "companion")]
        assert audited(setup) == [(ALICE, "ended", "companion", 0)]
        assert "asked for by support" in audit.read(setup.store)[0][1]["why"]


async def test_page_reload(make_setup: MakeSetup) -> None:
    """A new contact of a recorded device gets its trace, because requests within a call go to it."""
    setup = make_setup()
    async with edge(setup, "scheduler", domain="@example.com") as opensips:
        device = next(one.id for one in iterate_devices(setup.store) if one.aor.startswith("alice"))
        await start_recording(setup.config, setup.store, device, 15, "support")
        before = set(opensips.mi.traces.values())
        opensips.reload("alice@example.com")
        await eventually(lambda: set(opensips.mi.traces.values()) != before)
        assert before < set(opensips.mi.traces.values())  # to stop a trace disturbs others, so the old one stays


async def test_refusals(make_setup: MakeSetup) -> None:
    """Who can not record learns why: OpenSIPS is away, there is no tracer, no address, or too much is recorded."""
    setup = make_setup()
    async with edge(setup, trace={"max_recordings": 1}) as opensips:
        without = setup.config.model_copy(update={"bridge": setup.config.bridge.model_copy(update={"hep": ""})})
        with pytest.raises(CanNotRecordError, match=r"can not be received: set \[bridge\] hep"):
            await start_recording(without, setup.store, ALICE, 15, "support")
        await start_recording(setup.config, setup.store, BOB, 15, "support")
        with pytest.raises(CanNotRecordError, match="1 devices are recorded already"):
            await start_recording(setup.config, setup.store, ALICE, 15, "support")
        await stop_recording(setup.config, setup.store, BOB, "support")
        del opensips.mi._commands["trace"]
        with pytest.raises(CanNotRecordError, match="tracer and proto_hep are not loaded"):
            await start_recording(setup.config, setup.store, ALICE, 15, "support")
        await opensips.mi_server.stop()
        with pytest.raises(CanNotRecordError, match="opensips can not be asked to mirror its messages: MI at"):
            await start_recording(setup.config, setup.store, ALICE, 15, "support")
        assert load_recordings(setup.store) == {}


async def test_api(make_setup: MakeSetup) -> None:
    """POST records, GET reads the ladder and exports it, DELETE stops; acting needs the scope operate."""
    listen = f"127.0.0.1:{find_free_port()}"
    tables: dict[str, Any] = {
        "api": {"listen": listen, "tokens": [READ.line, OPERATE.line], "dashboard": False, "open_reads": False},
        "trace": {"homer_url": "https://homer.example/{call_id}"},
    }
    setup = make_setup()
    path = f"/api/v1/devices/{quote(ALICE, safe='')}/trace"
    async with edge(setup, "api", **tables) as opensips:
        packets = captured_packets()
        append_packets(setup.store, ALICE, [(one.at_us, pack(one)) for one in packets], 60_000)
        reader = {"authorization": f"Bearer {READ_SECRET}"}
        async with httpx2.AsyncClient(
            base_url=f"http://{listen}", headers={"authorization": f"Bearer {OPERATE_SECRET}"}, timeout=20
        ) as client:
            assert (await client.post(path, json={}, headers=reader)).status_code == 403
            assert (await client.post(path, json={"minutes": 121})).status_code == 422
            started = await client.post(path, json={"minutes": 5})
            assert StartedModel.model_validate(started.json()).device == ALICE
            assert opensips.mi.traces
            recordings = RecordingsModel.model_validate((await client.get("/api/v1/recordings")).json())
            assert [(one.device, one.by, one.messages) for one in recordings.recordings] == [(ALICE, OPERATE.name, 20)]
            trace = TraceModel.model_validate((await client.get(path, headers=reader)).json())
            assert (trace.total, len(trace.steps), trace.recording is not None) == (20, 20, True)
            call_id = trace.steps[2].call_id
            chosen = (await client.get(path, params={"method": "bye", "call_id": call_id})).json()
            assert [step["label"] for step in chosen["steps"]] == ["BYE", "BYE", "200 OK", "200 OK"]
            text = await client.get(f"{path}.txt", params={"call_id": call_id})
            assert "INVITE sip:dave@127.0.0.1 SIP/2.0" in text.text
            assert "REGISTER" not in text.text
            assert (await client.get(f"{path}.pcap")).content[:4] == b"\xd4\xc3\xb2\xa1"
            call = await client.get(f"/api/v1/calls/{quote(call_id, safe='')}/trace")
            assert LadderModel.model_validate(call.json()).total == 0  # no device reported it
            homer = await client.get(f"/api/v1/calls/{quote(call_id, safe='')}/homer")
            assert homer.headers["location"] == f"https://homer.example/{quote(call_id, safe='')}"
            (entry,) = RemediationsModel.model_validate((await client.get("/api/v1/remediations")).json()).remediations
            assert (entry.device, entry.action, entry.result, entry.minutes) == (ALICE, "record", "started", 5)
            assert (entry.by, entry.since, entry.node) == (OPERATE.name, None, "")
            stopped = await client.delete(path)
            assert StoppedModel.model_validate(stopped.json()).device == ALICE
            again = (await client.delete(path)).json()
            assert (again["status"], again["type"].rpartition(":")[2]) == (409, "can-not-record")
        assert opensips.mi.traces == {}


async def test_commands(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line starts, lists, draws, exports and stops."""
    setup = make_setup()

    async def run(*arguments: str) -> str:
        result = await asyncio.to_thread(CliRunner().invoke, app, ["trace", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    async with edge(setup):
        for name in ("redis", "bridge", "opensips"):
            table = setup.config.model_dump(mode="json")[name]
            monkeypatch.setenv(f"COMPANION_{name.upper()}", json.dumps(table))
        append_packets(setup.store, ALICE, [(one.at_us, pack(one)) for one in captured_packets()], 60_000)
        assert f"{ALICE} is recorded until" in await run("start", "alice", "--minutes", "2")
        assert json.loads(await run("status", "--json"))[0]["messages"] == 20
        assert ALICE in await run("status")
        drawn = await run("show", "alice", "--method", "invite")
        assert "Recording, ends in" in drawn
        assert drawn.count("▶") + drawn.count("◀") == 14  # the INVITEs of both legs, their replies and ACKs
        assert "CSeq: 2 INVITE" in await run("show", "alice", "--texts")
        file = setup.folder / "trace.pcap"
        await run("export", "alice", str(file))
        assert file.read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"
        assert "CSeq: 1 REGISTER" in await run("export", "alice", "-")
        assert "is not recorded any more" in await run("stop", "alice")
        audit_list = await asyncio.to_thread(CliRunner().invoke, app, ["remediations"], env={"COLUMNS": "200"})
        assert [word for word in audit_list.output.split() if word in ("started", "stopped")] == ["started", "stopped"]
        assert f"by {getpass.getuser()} (command line), for 2 minutes" in audit_list.output
