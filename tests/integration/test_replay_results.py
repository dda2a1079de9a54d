"""What a captured conversation of OpenSIPS with its phones looks like afterwards, however it came in."""

import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from companion.simulator.replay import replay
from companion.store.devices import load_device
from companion.text import Json
from tests.integration.conftest import CAPTURE, Kind, MakeSetup, Setup, eventually

LOST_US = 1_800_000_000
MIDDLE, END = 65.0, 1000.0
PINGS = {"pings": {"interval": 120, "lost_after": 3}}
WAYS = ("udp", "tcp", "tcp byte by byte")

HEIDI = "heidi/urn:uuid:90c192cf-d3ac-94af-0f21-ddb66cad4a26"


def raw_events(until_t: float) -> list[Json]:
    """The capture's events up to a time, straight from the file."""
    lines = map(json.loads, (CAPTURE / "event_datagram.jsonl").read_text().splitlines())
    return [json.loads(line["payload"]) for line in lines if line["t"] <= until_t]


def counted(until_t: float) -> dict[str, Json]:
    """Each device's pings, counted over the raw capture: losses of dave's old contact, all after its successor's
    first answer, are not his.
    """
    pings: dict[str, list[int]] = defaultdict(list)
    answered_by: dict[str, list[str]] = defaultdict(list)
    for event in raw_events(until_t):
        if event["method"] != "E_UL_LATENCY_UPDATE":
            continue
        params = event["params"]
        instance = params["attr"].strip("<>") or params["uri"].partition(":")[2].partition("@")[0]
        device, lost = f"{params['aor']}/{instance}", params["latency"] == LOST_US
        if lost and params["attr"] and params["uri"] in answered_by[device][:-1]:
            continue
        if not lost and params["uri"] not in answered_by[device]:
            answered_by[device].append(params["uri"])
        pings[device].append(params["latency"])
    return {device: statistics(latencies) for device, latencies in pings.items()}


def statistics(latencies_us: list[int]) -> Json:
    answered = [round(us / 1000) for us in latencies_us if us != LOST_US]
    return {
        "answered": len(answered),
        "lost": len(latencies_us) - len(answered),
        "total": len(latencies_us),
        "min_ms": min(answered),
        "max_ms": max(answered),
        "average_ms": round(sum(answered) / len(answered), 1),
    }


def capture_file(folder: Path, way: str, until_t: float) -> Path:
    """The capture up to a time, as a file of its own kind."""
    name = "event_datagram.jsonl" if way == "udp" else "event_stream.reads.jsonl"
    lines = [line for line in (CAPTURE / name).read_text().splitlines() if json.loads(line)["t"] <= until_t]
    (folder / name).write_text("\n".join(lines) + "\n")
    if way == "udp":
        return folder / name
    stream = folder / "event_stream.bin"
    stream.write_bytes((CAPTURE / "event_stream.bin").read_bytes()[: sum(json.loads(line)["bytes"] for line in lines)])
    return stream


@asynccontextmanager
async def replayed(setup: Setup, way: str, until_t: float, speed: float = 0) -> AsyncIterator[Setup]:
    """A companion that has just stored the capture up to a time."""
    events = len(raw_events(until_t))
    async with setup.running():
        to = setup.udp if way == "udp" else setup.tcp
        file = capture_file(setup.folder, way, until_t)
        result = await replay(file, to, speed, one_byte=way == WAYS[2])
        assert events == result.objects
        await eventually(lambda: setup.events_done() == events)
        yield setup


def by_aor(pages: dict[str, Json], aor: str) -> Json:
    matches = [page for page in pages.values() if page["aor"] == aor]
    assert len(matches) == 1
    return matches[0]


def timeline_events(page: Json) -> list[str]:
    return [entry["event"] for entry in page["timeline"]]


@pytest.mark.parametrize("until_t", [MIDDLE, END])
@pytest.mark.parametrize(("way", "kind"), [*((way, "module") for way in WAYS), ("udp", "plain"), ("udp", "cluster")])
async def test_counts(make_setup: MakeSetup, way: str, kind: Kind, until_t: float) -> None:
    """However the capture comes in, each device's pings are those counted over the raw file, and nothing is missed."""
    async with replayed(make_setup(kind, **PINGS), way, until_t) as setup:
        pages, feed = setup.pages(), setup.feed()

    expected = counted(until_t)
    statistics_by_device = {
        device: {key: page["latency"][key] for key in expected[device]} for device, page in pages.items()
    }
    assert expected == statistics_by_device
    assert len(statistics_by_device) == 10
    assert (feed.missed, feed.gaps, feed.invalid) == (0, 0, 0)


async def test_the_middle(make_setup: MakeSetup) -> None:
    """In the middle of the capture (t = 65) each phone is in the state its story has come to."""
    async with replayed(make_setup(**PINGS), "udp", MIDDLE) as setup:
        pages = setup.pages()

    assert {page["aor"]: page["status"] for page in pages.values()} == {
        "dave": "online",
        "bob": "online",
        "carol": "offline",
        "heidi": "offline",
        "frank": "losing",
    } | {
        "grace": "offline",
        "erin": "stale",
        "ivan x": "online",
        "alice": "online",
    }
    assert timeline_events(by_aor(pages, "bob")) == ["registered", "lost", "stale", "recovered"]
    assert next(e for e in by_aor(pages, "bob")["timeline"] if e["event"] == "recovered")["lost"] == 3
    assert timeline_events(by_aor(pages, "grace")) == ["registered", "unregistered"]
    assert timeline_events(by_aor(pages, "frank")) == ["registered", "lost"]
    assert by_aor(pages, "frank")["consecutive_lost"] == 1
    assert "disconnected" in timeline_events(by_aor(pages, "erin"))


async def test_heidi(make_setup: MakeSetup) -> None:
    """Her connection died, she lost pings, OpenSIPS removed her: the timeline tells it in that order."""
    async with replayed(make_setup(**PINGS), "udp", MIDDLE) as setup:
        page = setup.page("heidi")

    assert timeline_events(page) == ["registered", "disconnected", "lost", "stale", "removed-after-lost-pings"]
    assert (page["status"], page["registration"]["registered"], page["device"]) == ("offline", False, HEIDI)
    assert [contact["ended_by"] for contact in page["contacts"]] == ["removed-after-lost-pings"]
    assert page["latency"]["lost"] == 5


async def test_daves_two_contacts(make_setup: MakeSetup) -> None:
    """His page reload is a switch-over of one device; the contact left behind is a ghost whose losses are not his."""
    async with replayed(make_setup(**PINGS), "tcp", MIDDLE) as setup:
        page = setup.page("dave")

    new, old = page["contacts"]
    assert (page["status"], new["status"], old["status"]) == ("online", "online", "stale")
    assert (new["ghost"], old["ghost"]) == (False, True)
    assert (new["received"], old["consecutive_lost"]) == ("sip:127.0.0.1:47488;transport=ws", 3)
    assert (page["latency"]["lost"], old["consecutive_lost"]) == (0, 3)
    assert "switched-over" in timeline_events(page)


async def test_daves_outage(make_setup: MakeSetup) -> None:
    """Played ten times as fast, the second between his dead connection and his new REGISTER is an outage of 0.1 s."""
    folder = make_setup(**PINGS).folder
    setup = make_setup(**PINGS)
    lines = map(json.loads, (CAPTURE / "event_datagram.jsonl").read_text().splitlines())
    dave = [line for line in lines if 49 < line["t"] < 52 or (line["t"] < 2 and '"dave"' in line["payload"])]
    around = [line | {"t": max(line["t"], 48.0)} for line in dave]
    (folder / "dave.jsonl").write_text("\n".join(map(json.dumps, around)))
    async with setup.running():
        await replay(folder / "dave.jsonl", setup.udp, speed=10)
        await eventually(lambda: setup.events_done() == len(around))
        page = setup.page("dave")

    switched = next(entry for entry in page["timeline"] if entry["event"] == "switched-over")
    assert (switched["from"], switched["to"]) == ("127.0.0.1:38588", "127.0.0.1:47488")
    assert 95 <= switched["outage_ms"] < 10_000  # at ten times the speed, on however slow a machine
    assert "outage_at_most_ms" not in switched


async def test_the_end(make_setup: MakeSetup) -> None:
    """At the end of the capture all connections are gone: who was registered is stale, who was removed is offline."""
    async with replayed(make_setup(**PINGS), "tcp", END) as setup:
        pages = setup.pages()

    statuses = defaultdict(set)
    for page in pages.values():
        statuses[page["status"]].add(page["aor"])
    assert {"dave", "grace", "ivan x", "bob", "alice"} == statuses["stale"]
    assert {"carol", "erin", "frank", "heidi", "alice"} == statuses["offline"]
    assert timeline_events(by_aor(pages, "grace")) == ["registered", "unregistered", "registered", "disconnected"]
    assert [contact["uri"] for contact in by_aor(pages, "grace")["contacts"]] == [
        "sip:grace@d75daa4c5c60.invalid;transport=ws",
        "sip:grace@881eae2eb154.invalid;transport=ws",
    ]
    assert "removed-after-lost-pings" in timeline_events(by_aor(pages, "carol"))
    assert by_aor(pages, "carol")["push"]
    assert not [entry for entry in by_aor(pages, "grace")["timeline"] if entry["event"] == "switched-over"]


async def test_dave_after_his_ghost(make_setup: MakeSetup) -> None:
    """When OpenSIPS has removed the ghost, its losses still are not the device's, and there is no ghost any more."""
    async with replayed(make_setup(**PINGS), "udp", 76) as setup:
        page = setup.page("dave")

    assert [(c["ended_by"], c["ghost"]) for c in page["contacts"]] == [("", False), ("removed-after-lost-pings", False)]
    assert (page["status"], page["latency"]["lost"]) == ("online", 0)


async def test_names_that_are_not_plain(make_setup: MakeSetup) -> None:
    """A User-Agent and an AOR like nobody's are kept to the letter, and do nothing to a terminal."""
    register = next(
        e["params"] for e in raw_events(END) if e["params"].get("aor") == "dave" and e["params"].get("user_agent")
    )
    async with replayed(make_setup(**PINGS), "udp", MIDDLE) as setup:
        device = setup.page("dave")["device"]
        contact = load_device(setup.store, device).contacts[0]  # type: ignore[union-attr]
        record = json.loads(setup.store.connection.call("GET", setup.store.keys.contact("dave", contact.id)))
        stored = record["user_agent"]
        ivan = setup.page("ivan x")  # first: while a command runs nobody hears the bridge
        as_json, device_page = setup.cli("device", "dave", "--json"), setup.cli("device", "dave")
        device_list = setup.cli("devices")

    wild = register["user_agent"]
    assert all(part in wild for part in ('"', "\\", "\t", "<b>", "é"))
    assert wild == stored == json.loads(as_json.stdout)["user_agent"]
    assert wild.replace("\t", " ") in device_page.stdout
    for text in (device_page.stdout, device_list.stdout):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    assert (ivan["aor"], ivan["status"]) == ("ivan x", "online")


async def test_alice_is_two(make_setup: MakeSetup) -> None:
    """Asked for an AOR of two devices the command line says which there are, and the id of one finds that one."""
    async with replayed(make_setup(**PINGS), "udp", MIDDLE) as setup:
        both = sorted(device for device, page in setup.pages().items() if page["aor"] == "alice")
        refusal, one = setup.cli("device", "alice"), setup.cli("device", both[0].partition("/")[2], "--json")

    assert refusal.returncode == 2
    assert f"error: 'alice' is 2 devices; say which:\n  {both[0]}\n  {both[1]}\n" == refusal.stderr
    assert both[0] == json.loads(one.stdout)["device"]
