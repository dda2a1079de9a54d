"""What was told of calls, read over HTTP from a real Redis: lists, a call in full, both sides of it, the fleet."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from companion.http.api.models.call_quality import MediaModel
from companion.http.api.models.calls import CallPageModel, CallsModel, FleetCallsModel
from companion.media.report import Call, Happening, MediaSample, Report
from companion.opensips.events import INSERT, LATENCY, LOST_PING_US
from companion.query import call_quality
from companion.query.call_quality import compute_call_quality
from companion.query.now import load_view
from companion.services.scheduler import JOBS
from companion.store.call_quality import FRESH_MS
from companion.store.call_reports import CallReport, write_report
from companion.store.calls import call_ref
from companion.text import Json
from tests.integration.conftest import MakeSetup, Setup
from tests.integration.test_api import get, model_of, problem
from tests.integration.web import Event, client, fill, make_web
from tests.unit.media.samples import second

ANN, BOB = "ann/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001", "bob/web"
CALL_ID = "5f2c/1b0e%9a@phone.example.com"
"""With what must be encoded in a path."""
MINUTE_MS = 60_000
INTERVAL_MS = 30_000
ATTR = {"attr": "<urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001>", "received": "sip:203.0.113.7:5060"}
FLEET: list[Event] = [(INSERT, "ann", ATTR), (LATENCY, "ann", {**ATTR, "latency": 48_000})]


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    made = make_web(make_setup)
    fill(made, FLEET)
    return made


@pytest.fixture
def api(setup: Setup) -> Iterator[TestClient]:
    with client(setup) as api:
        yield api


def tell(
    setup: Setup,
    device: str = ANN,
    call_id: str = CALL_ID,
    *,
    ago_ms: int = 5 * MINUTE_MS,
    seconds: int = 120,
    heard_ago_ms: int = 0,
    happenings: tuple[tuple[float, str, Json], ...] = (),
    figures: Json | None = None,
    **call: Any,
) -> int:
    """Store a call that began so long ago as its page would tell of it; when it began (epoch ms)."""
    now = int(time.time() * 1000)
    start = now - ago_ms
    codec = Happening(n=0, at=start, what="codec", fields={"in": "opus/48000/2"})
    path = Happening(
        n=1, at=start, what="path", fields={"local": "srflx", "remote": "host", "local_address": "192.0.2.0"}
    )
    more = [
        Happening(n=10 * round(at) + 1 + k, at=start + round(at * 1000), what=what, fields=fields)
        for k, (at, what, fields) in enumerate(happenings, 1)
    ]
    samples = [second(n, at=start + n * 1000, **figures or {}) for n in range(1, seconds + 1)]
    report = Report(
        v=1,
        now=now - heard_ago_ms,
        call=Call(**{"direction": "in", "peer": "sip:bob@example.com", "started_at": start, **call}),
        samples=tuple(samples),
        happenings=(codec, path, *more),
    )
    write_report(setup.store, CallReport(device, call_id, now, report))
    return start


LOSSY: Json = {"packets": 47, "lost": 3, "rtt_ms": 310.0}


# A device's calls


def test_calls_of_a_device(setup: Setup, api: TestClient) -> None:
    """A device's calls come newest first, each with how it went, found by whatever a person calls the device."""
    old = tell(setup, call_id="old", ago_ms=20 * MINUTE_MS, figures=LOSSY, ended_at=1, end="hangup", why="16")
    new = tell(setup, call_id="new")
    tell(setup, BOB, "other")
    for name in ("ann", quote(ANN, safe=""), "c386bbc4-0b7e-4d8f-8c6a-000000000001"):
        page = get(api, f"/devices/{name}/calls?window=3h")
        assert [call["call_id"] for call in page["calls"]] == ["new", "old"]
        assert (page["device"], page["window_seconds"], page["cut"]) == (ANN, 10_800, False)
    good, bad = page["calls"]
    assert (good["mos"], good["band"], good["loss_percent"], good["live"]) == (4.37, "best", 0.0, True)
    assert (bad["end"], bad["why"], bad["band"], bad["loss_percent"], bad["bad_seconds"]) == (
        "hangup",
        "16",
        "bad",
        6.0,
        120,
    )
    assert new > old


def test_windows(setup: Setup, api: TestClient) -> None:
    """A call is in the windows in which it began."""
    tell(setup, ago_ms=5 * 3_600_000)
    assert get(api, "/devices/ann/calls?window=3h")["calls"] == []
    assert len(get(api, "/devices/ann/calls?window=6h")["calls"]) == 1
    assert len(get(api, "/devices/ann/calls")["calls"]) == 1
    problem(api, "GET", "/api/v1/devices/ann/calls?window=5h", 422)


def test_calls_of_a_device_that_never_registered(setup: Setup, api: TestClient) -> None:
    """Calls are listed of a device that OpenSIPS has not told of; of one that nobody has told of there is nothing."""
    tell(setup, BOB)
    assert len(get(api, f"/devices/{quote(BOB, safe='')}/calls")["calls"]) == 1
    for nobody in ("nobody", "nobody%2Fweb"):
        problem(api, "GET", f"/api/v1/devices/{nobody}/calls", 404)


def test_a_device_without_calls(api: TestClient) -> None:
    """A device that never called has none."""
    assert get(api, "/devices/ann/calls")["calls"] == []


@pytest.mark.parametrize(
    ("ended_at", "heard_ago_ms", "live"), [(None, 1000, True), (None, 20_000, False), (5, 1000, False)]
)
def test_a_live_call(setup: Setup, api: TestClient, ended_at: int | None, heard_ago_ms: int, *, live: bool) -> None:
    """A call is live while it has not ended and its page tells of it."""
    tell(setup, ended_at=ended_at, heard_ago_ms=heard_ago_ms)
    (call,) = get(api, "/devices/ann/calls")["calls"]
    assert call["live"] is live


# One call


def url(call_id: str = CALL_ID, device: str = "") -> str:
    return f"/calls/{quote(call_id, safe='')}" + (f"?device={quote(device, safe='')}" if device else "")


def test_a_call_in_full(setup: Setup, api: TestClient) -> None:
    """A call's page has all of it on one clock: its seconds, what happened, its minutes, the verdict."""
    start = tell(setup, figures=LOSSY, happenings=((30, "path", {"local": "relay", "remote": "host"}),))
    answer = get(api, url())
    assert (answer["call_id"], answer["device"], answer["legs"], answer["relay"]) == (CALL_ID, ANN, [ANN], True)
    assert (len(answer["samples"]), answer["samples"][0][0]) == (120, start + 1000)
    assert answer["samples"][-1][1:6] == [1000, 310.0, 4.0, 6.0, 24_000]
    assert [happening["what"] for happening in answer["happenings"]] == ["codec", "path", "path"]
    assert [minute["bad"] for minute in answer["minutes"]] == [True, True]
    assert answer["verdict"]["what"] == "media"
    assert "6.0 % of packets lost, round trip 310 ms through a relay, jitter 4 ms" in answer["verdict"]["evidence"]
    assert len(answer["verdict"]["bad_minutes"]) == 2
    assert sum(answer["breakdown"].values()) == pytest.approx(45.9, abs=0.2)


def test_pings_and_timeline_around_a_call(make_setup: MakeSetup) -> None:
    """With a call come the pings and the timeline of its device, from two intervals before it to two after, no more."""
    setup = make_web(make_setup)
    setup.config = setup.config.model_copy(
        update={"pings": setup.config.pings.model_copy(update={"interval": INTERVAL_MS / 1000})}
    )
    fill(setup, FLEET)
    start = tell(setup, ago_ms=30 * MINUTE_MS, figures=LOSSY, ended_at=int(time.time() * 1000) - 28 * MINUTE_MS)
    add, keys = setup.store.connection.call, setup.store.keys
    for second_, latency in ((-61, 1), (-59, 700), (0, 800), (60, 900), (179, 1000), (181, 1)):
        at = start + second_ * 1000
        add("TS.ADD", keys.latency(ANN), at, latency, "ON_DUPLICATE", "LAST")
        add("HSET", keys.care(ANN), at, "companion-push result=pushed")
    with client(setup) as api:
        page = get(api, url())
    assert [latency for _, latency in page["pings"]] == [700, 800, 900, 1000]
    assert len(page["timeline"]) == 4
    assert page["verdict"]["what"] == "signalling"
    assert "the slowest answer took 900 ms" in page["verdict"]["evidence"][1]


def test_lost_pings_around_a_call(make_setup: MakeSetup) -> None:
    """Lost pings of the time of a bad call make it one of the signalling path."""
    setup = make_web(make_setup)
    fill(setup, [*FLEET, (LATENCY, "ann", {**ATTR, "latency": LOST_PING_US})])
    tell(setup, ago_ms=MINUTE_MS, seconds=59, figures=LOSSY)
    with client(setup) as api:
        page = get(api, url())
    assert [latency for _, latency in page["pings"]] == [48, None]
    assert page["verdict"]["what"] == "signalling"


def test_both_sides(setup: Setup, api: TestClient) -> None:
    """A Call-ID that two devices told of is two calls: who asks says which, by any name of the device."""
    tell(setup, ANN)
    tell(setup, BOB, direction="out")
    answer = problem(api, "GET", f"/api/v1{url()}", 409)
    assert (answer["type"].rpartition(":")[2], sorted(answer["devices"])) == ("several-calls", [ANN, BOB])
    for name in (ANN, "ann", "c386bbc4-0b7e-4d8f-8c6a-000000000001"):
        assert get(api, url(device=name))["direction"] == "in"
    assert get(api, url(device=BOB))["direction"] == "out"
    assert sorted(get(api, url(device="bob"))["legs"]) == [ANN, BOB]
    assert problem(api, "GET", f"/api/v1{url(device='eve')}", 404)["type"].endswith(":no-such-call")


def test_no_such_call(api: TestClient) -> None:
    """A Call-ID that nobody told of is no call."""
    answer = problem(api, "GET", "/api/v1/calls/nothing", 404)
    assert (answer["type"].rpartition(":")[2], answer["detail"]) == ("no-such-call", "no call is 'nothing'")


@pytest.mark.parametrize("call_id", ["a/b", "a%2Fb", "a%b", "ä ö", "?x=1#y", "samples", "../calls", "'\"<script>"])
def test_call_ids_as_they_come(setup: Setup, api: TestClient, call_id: str) -> None:
    """A Call-ID is found by itself, whatever is in it."""
    tell(setup, call_id=call_id)
    assert get(api, url(call_id))["call_id"] == call_id


def test_hostile_words(setup: Setup, api: TestClient) -> None:
    """What a page calls things is passed on as it is where it is shown, and is not repeated in the verdict."""
    evil = {"type": "<img src=x>", "in": "opus/48000/2"}
    happenings = tuple((n, "network", {**evil, "type": f"<b>{n}"}) for n in (10, 20))
    tell(setup, happenings=happenings, peer="<script>", figures=LOSSY)
    answer = get(api, url())
    assert answer["peer"] == "<script>"
    assert "<" not in str(answer["verdict"]) + str(answer["minutes"])


# The fleet's calls


def test_pages_of_calls(setup: Setup, api: TestClient) -> None:
    """Page after page gives every call once, those last told of first, also where many were told of at one time."""
    for n in range(23):
        tell(setup, call_id=f"c{n}", seconds=1, heard_ago_ms=n // 7 * 1000)
    call_ids, cursor = [], ""
    while cursor is not None:
        page = get(api, f"/calls?limit=5&cursor={cursor}")
        assert len(page["calls"]) <= 5
        call_ids += [call["call_id"] for call in page["calls"]]
        cursor = page["next"]
    assert len(call_ids) == 23
    assert set(call_ids) == {f"c{n}" for n in range(23)}


def test_calls_of_one_moment(setup: Setup, api: TestClient) -> None:
    """Calls that were told of in the same millisecond are told apart by a cursor."""
    members = {}
    for n in range(7):
        tell(setup, call_id=f"c{n}", seconds=1)
        members[f"{call_ref(ANN, f'c{n}')} {ANN}"] = int(time.time() * 1000) // 1000 * 1000
    pairs = [part for member, at in members.items() for part in (at, member)]
    setup.store.connection.call("ZADD", setup.store.keys.calls(), *pairs)
    call_ids, cursor = set(), ""
    while cursor is not None:
        page = get(api, f"/calls?limit=2&cursor={cursor}")
        call_ids |= {call["call_id"] for call in page["calls"]}
        cursor = page["next"]
    assert call_ids == {f"c{n}" for n in range(7)}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "cursor=x", "cursor=1-2", "window=1h", "devise=ann", "cursor=-1-0123456789abcdef"]
)
def test_what_can_not_be_asked(api: TestClient, query: str) -> None:
    """A question that can not be meant is refused."""
    problem(api, "GET", f"/api/v1/calls?{query}", 422)


def test_no_calls(api: TestClient) -> None:
    """Where nobody called there is an empty list, and a quality of nothing."""
    assert get(api, "/calls") == {"window_seconds": 86_400, "calls": [], "next": None}
    answer = get(api, "/media")
    assert (answer["calls"], answer["total"], answer["cut"], answer["relay_share"]) == (0, 0, False, None)


# All calls together


def test_the_quality_of_the_fleet(setup: Setup, api: TestClient) -> None:
    """The calls of the last hour add up: bands, relays, networks by STUN or else by where the device is registered."""
    for n in range(3):
        tell(setup, call_id=f"good{n}", seconds=10)
        tell(
            setup,
            call_id=f"bad{n}",
            seconds=10,
            figures=LOSSY,
            happenings=((0, "path", {"local": "relay", "remote": "host", "local_address": "198.51.100.9"}),),
        )
    tell(setup, call_id="long ago", seconds=1, ago_ms=3 * 3_600_000, heard_ago_ms=2 * 3_600_000)
    answer = get(api, "/media")
    assert (answer["calls"], answer["total"], answer["scored"], answer["live"]) == (6, 6, 6, 6)
    assert (answer["bands"]["best"], answer["bands"]["bad"], answer["relay_share"]) == (3, 3, 0.5)
    assert [network["network"] for network in answer["networks"]] == ["203.0.113.0/24", "192.0.2.0/24"]


def run_job(setup: Setup) -> None:
    (job,) = (job for job in JOBS if job.name == "media")
    asyncio.run(job.make(setup.config, setup.store)())  # type: ignore[arg-type]


def test_the_job(setup: Setup, api: TestClient) -> None:
    """The scheduler's job adds up for everybody: who asks gets what it saved, for a while."""
    tell(setup)
    run_job(setup)
    tell(setup, call_id="later")
    assert get(api, "/media")["calls"] == 1
    assert 0 < setup.store.connection.call("PTTL", setup.store.keys.quality()) <= FRESH_MS
    setup.store.connection.call("DEL", setup.store.keys.quality())
    assert get(api, "/media")["calls"] == 2


def test_more_calls_than_are_looked_at(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many calls the newest are added up, and it is said that there are more."""
    monkeypatch.setattr(call_quality, "MAX_CALLS", 3)
    for n in range(5):
        tell(setup, call_id=f"c{n}", seconds=1)
    answer = compute_call_quality(setup.store, load_view(setup.config, setup.store))
    assert (answer["calls"], answer["total"], answer["cut"]) == (3, 5, True)


def test_metrics(setup: Setup, api: TestClient) -> None:
    """/metrics tells how the calls of the last hour were, once they have been added up."""
    assert "media_hour_calls{" not in api.get("/metrics").text
    tell(setup, figures=LOSSY)
    run_job(setup)
    with client(setup) as other:
        text = other.get("/metrics").text
    assert 'opensips_companion_media_hour_calls{band="bad"} 1.0' in text
    assert 'opensips_companion_media_hour_calls{band="best"} 0.0' in text
    assert "opensips_companion_media_hour_loss_ratio 0.06" in text
    assert "opensips_companion_media_hour_relay_ratio 0.0" in text
    assert ANN not in text


def test_everything_answered_is_described(setup: Setup, api: TestClient) -> None:
    """The models name every member that answers have."""
    tell(setup, figures=LOSSY, happenings=((30, "path", {"local": "relay", "remote": "host"}), (40, "muted", {})))
    model_of(get(api, "/devices/ann/calls"), CallsModel)
    model_of(get(api, "/calls"), FleetCallsModel)
    model_of(get(api, url()), CallPageModel)
    model_of(get(api, "/media"), MediaModel)


def test_a_call_of_a_day(setup: Setup, api: TestClient) -> None:
    """A long call is told in as many points as a graph can show, and none of it is left out."""
    codec = Happening(n=0, at=1, what="codec", fields={"in": "opus/48000/2"})
    now, seconds = int(time.time() * 1000), 12_000
    start = now - seconds * 1000
    for first in range(1, seconds, 1000):
        samples: tuple[MediaSample, ...] = tuple(second(n, at=start + n * 1000) for n in range(first, first + 1000))
        report = Report(
            v=1, now=now, call=Call(started_at=start), samples=samples, happenings=(codec,) if first == 1 else ()
        )
        write_report(setup.store, CallReport(ANN, CALL_ID, now + first, report))
    page = get(api, url())
    assert (len(page["samples"]), page["seconds"], len(page["minutes"])) == (3000, seconds, 200)
    assert sum(point[1] for point in page["samples"]) == seconds * 1000


# On the command line


def test_calls_on_the_command_line(setup: Setup) -> None:
    """`calls` lists a line a call, the newest first, of all devices or of one; --json the same for machines."""
    tell(setup, call_id="older", ago_ms=20 * MINUTE_MS, figures=LOSSY, ended_at=1, end="hangup")
    tell(setup, call_id="newer")
    tell(setup, BOB, "other", ago_ms=MINUTE_MS, seconds=30)
    every, of_ann = setup.cli("calls"), setup.cli("calls", "ann")
    assert (every.returncode, every.stderr) == (0, "")
    assert [line.split()[-1] for line in every.stdout.splitlines()[1:]] == ["other", "newer", "older"]
    assert [line.split()[-1] for line in of_ann.stdout.splitlines()[1:]] == ["newer", "older"]
    rows = json.loads(setup.cli("calls", "ann", "--json", "--window", "3h").stdout)
    assert [(row["call_id"], row["band"]) for row in rows] == [("newer", "best"), ("older", "bad")]


def test_no_calls_on_the_command_line(setup: Setup) -> None:
    """Where nobody called it says so, and what to look at."""
    done = setup.cli("calls")
    assert (done.returncode, "no call was reported" in done.stdout) == (0, True)
    assert json.loads(setup.cli("calls", "--json").stdout) == []
    done = setup.cli("calls", "nobody")
    assert (done.returncode, done.stderr.startswith("error: no device is called 'nobody'")) == (2, True)


def test_a_call_on_the_command_line(setup: Setup) -> None:
    """`call` shows a call by its Call-ID or how that begins, with its verdict; --json all there is."""
    tell(setup, figures=LOSSY)
    for name in (CALL_ID, "5f2c", "5f2c/1b0e…"):
        done = setup.cli("call", name)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Verdict  media path" in done.stdout
        assert "6.0 % of packets lost, round trip 310 ms" in done.stdout
    page = json.loads(setup.cli("call", "5f2c", "--json").stdout)
    assert (page["call_id"], page["verdict"]["what"], len(page["samples"])) == (CALL_ID, "media", 120)


def test_which_call_is_meant(setup: Setup) -> None:
    """What may be several calls, or two sides of one, is told with what it may be."""
    tell(setup, call_id="5f2c-one")
    tell(setup, call_id="5f2c-two")
    tell(setup, BOB, "5f2c-two")
    done = setup.cli("call", "5f")
    assert done.returncode == 2
    assert done.stderr.splitlines()[1:] == ["  5f2c-one", "  5f2c-two"]
    done = setup.cli("call", "5f2c-two")
    assert (done.returncode, "say with --device which:" in done.stderr, BOB in done.stderr) == (2, True, True)
    assert setup.cli("call", "5f2c-two", "--device", "bob").returncode == 0
    done = setup.cli("call", "nothing")
    assert (done.returncode, done.stderr) == (2, "error: no call is 'nothing'; `companion calls` lists them\n")
