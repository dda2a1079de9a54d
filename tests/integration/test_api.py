"""The HTTP API over a real Redis: what it answers, page by page, and what it says when something is wrong."""

import csv
import io
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from pydantic import BaseModel
from starlette.testclient import TestClient

from companion import metrics
from companion.http.api.models.devices import DeviceModel, DevicesModel, EntryModel, LatencyModel, TimelineModel
from companion.http.api.models.fleet import HistoryModel, NodesModel, SummaryModel
from companion.http.api.models.remediation import RemediationModel
from companion.http.middleware.body_limit import MAX_BODY
from companion.opensips.events import INSERT, LATENCY
from companion.query.reader import Reader
from companion.remediation import audit
from companion.simulator.redis import EmbeddedRedis
from companion.text import Json
from tests.integration.conftest import MakeSetup, Setup
from tests.integration.web import OPERATE_SECRET, Event, client, fill, make_web, staff

ANN = "ann/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001"
ALL = {ANN, "bob/bob", "bob/latency", "eve%2F/e%2Fve"}
WINDOWS = {"3h": 10_800, "6h": 21_600, "12h": 43_200, "24h": 86_400, "7d": 604_800}


@pytest.fixture
def web(make_setup: MakeSetup) -> Setup:
    made = make_web(make_setup)
    fill(made)
    return made


@pytest.fixture
def api(web: Setup) -> TestClient:
    return client(web)


def get(api: TestClient, path: str) -> Json:
    answer = api.get(f"/api/v1{path}")
    assert answer.status_code == 200, answer.text
    answer_body: Json = answer.json()
    return answer_body


def problem(api: TestClient, method: str, path: str, status: int, **more: object) -> Json:
    """The problem that a request ends with, in the form all have."""
    answer = api.request(method, path, **more)  # type: ignore[arg-type]
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    details: Json = answer.json()
    assert details["status"] == status
    assert details["type"].startswith("urn:opensips-companion:problem:")
    assert all(details[name] for name in ("title", "detail", "remedy"))
    return details


# Devices


def test_devices(api: TestClient) -> None:
    """All devices, the worst first, each as the command line shows it."""
    page = get(api, "/devices")
    assert {row["device"] for row in page["devices"]} == ALL
    assert (page["total"], page["next"]) == (4, None)
    assert (page["devices"][0]["device"], page["devices"][0]["status"]) == ("bob/bob", "losing")
    assert "SECRET" not in str(page)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=losing", {"bob/bob"}),
        ("status=losing&status=online", ALL),
        ("status=offline", set()),
        ("quality=poor", {"bob/latency"}),
        ("quality=poor&quality=excellent", {"bob/latency", ANN}),
        ("aor=bo", {"bob/bob", "bob/latency"}),
        ("user_agent=hyperlink", {"eve%2F/e%2Fve"}),
        ("push=true", {"bob/bob"}),
        ("push=false", ALL - {"bob/bob"}),
        ("search=000001", {ANN}),
        ("search=%25", {"eve%2F/e%2Fve"}),
        ("node=opensips", ALL),
        ("node=other", set()),
        ("status=online&aor=bob", {"bob/latency"}),
    ],
)
def test_filters(api: TestClient, query: str, expected: set[str]) -> None:
    """A filter leaves those that fit; several must all fit; one given twice means either."""
    page = get(api, f"/devices?{query}")
    assert {row["device"] for row in page["devices"]} == expected
    assert page["total"] == len(expected)


@pytest.mark.parametrize("sort", ["status", "device", "latency", "last_latency_at", "last_register_at", "lost"])
@pytest.mark.parametrize("descending", ["false", "true"])
def test_pages(make_setup: MakeSetup, sort: str, descending: str) -> None:
    """Page after page gives every device once, in the order of one large page."""
    setup = make_setup(api={"dashboard": False})
    phones: list[Event] = [(INSERT, f"phone{n}", {}) for n in range(23)]
    pings: list[Event] = [(LATENCY, f"phone{n}", {"latency": n % 7 * 10_000 + 1000}) for n in range(0, 23, 2)]
    fill(setup, [*phones, *pings])
    api, order = client(setup), f"sort={sort}&descending={descending}"
    whole = [row["device"] for row in get(api, f"/devices?{order}&limit=500")["devices"]]
    assert len(set(whole)) == 23
    listed_devices, cursor = [], ""
    while cursor is not None:
        page = get(api, f"/devices?{order}&limit=5&cursor={quote(cursor, safe='')}")
        assert page["total"] == 23
        listed_devices += [row["device"] for row in page["devices"]]
        cursor = page["next"]
    assert listed_devices == whole


@pytest.mark.parametrize(
    "query",
    "limit=0 limit=501 limit=x status=asleep quality=superb push=perhaps sort=colour stauts=stale cursor=nonsense "
    f"cursor=%00 search={'x' * 257}".split(),
)
def test_what_can_not_be_asked(api: TestClient, query: str) -> None:
    """A question that can not be meant is refused with what is wrong in it, a misspelt filter too."""
    refusal = problem(api, "GET", f"/api/v1/devices?{query}", 422)
    assert query.partition("=")[0] in refusal["detail"]


@pytest.mark.parametrize(
    "path",
    [
        quote(ANN, safe=""),
        ANN,
        "ann",
        "urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001",
        "c386bbc4-0b7e-4d8f-8c6a-000000000001",
        "%3Curn%3Auuid%3Ac386bbc4-0b7e-4d8f-8c6a-000000000001%3E",
    ],
)
def test_a_device(api: TestClient, path: str) -> None:
    """A device is found by whatever a person calls it, with its slash sent as it is or encoded."""
    page = get(api, f"/devices/{path}")
    assert (page["device"], page["last_latency_ms"], len(page["samples"])) == (ANN, 20, 1)
    for part in ("latency", "timeline"):
        assert get(api, f"/devices/{path}/{part}")["device"] == ANN
    assert api.get(f"/api/v1/devices/{path}/latency.csv").status_code == 200


def test_an_id_that_ends_like_a_path(api: TestClient) -> None:
    """The last segment is what is asked of a device, unless its slash is encoded: then it is of the id."""
    assert get(api, "/devices/bob%2Flatency")["device"] == "bob/latency"
    assert get(api, "/devices/bob%2Flatency/latency")["buckets"]
    assert get(api, "/devices/bob%2flatency/timeline")["device"] == "bob/latency"
    assert problem(api, "GET", "/api/v1/devices/bob/latency", 409)["devices"] == ["bob/bob", "bob/latency"]


def test_an_id_with_percents(api: TestClient) -> None:
    """An id is decoded once: what looks like an encoded slash in it is what it is called."""
    assert get(api, f"/devices/{quote('eve%2F/e%2Fve', safe='')}")["aor"] == "eve%2F"
    problem(api, "GET", "/api/v1/devices/eve%2F/e%2Fve", 404)


@pytest.mark.parametrize("part", ["", "/latency", "/timeline", "/latency.csv"])
def test_no_device_and_several(api: TestClient, part: str) -> None:
    """A device that is none is 404; several are 409, and which ones."""
    refusal = problem(api, "GET", f"/api/v1/devices/nobody{part}", 404)
    assert refusal["detail"] == "no device is called 'nobody'"
    refusal = problem(api, "GET", f"/api/v1/devices/bob{part}", 409)
    assert (refusal["detail"], refusal["devices"]) == ("'bob' is 2 devices", ["bob/bob", "bob/latency"])


def test_several_whose_names_look_like_our_words(make_setup: MakeSetup) -> None:
    """Which devices a name can mean is known by them, not read from a sentence that their names could be part of."""
    setup = make_web(make_setup)
    aor = "two; say which:  ann/ann"
    fill(setup, [(INSERT, aor, {"uri": f"sip:{user}@192.0.2.5"}) for user in ("one", "other")])
    with client(setup) as api:
        refusal = problem(api, "GET", f"/api/v1/devices/{quote(aor, safe='')}", 409)
    assert (refusal["detail"], refusal["devices"]) == (f"{aor!r} is 2 devices", [f"{aor}/one", f"{aor}/other"])


@pytest.mark.parametrize(
    "name", ["%00", "%FF%FE", "%0D%0AX-Header:%20x", "%E2%80%AE", "x" * 4000, "../../summary", "%2e%2e"]
)
def test_odd_names(api: TestClient, name: str) -> None:
    """Whatever is sent for an id, at most there is no such device."""
    problem(api, "GET", f"/api/v1/devices/{name}", 404)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows(api: TestClient, window: str) -> None:
    """A device can be looked at over the windows there are."""
    for path in ("/devices/ann", "/devices/ann/latency", "/devices/ann/timeline", "/history"):
        page = get(api, f"{path}?window={window}")
        assert WINDOWS[window] == page.get("latency", page)["window_seconds"]
    assert problem(api, "GET", "/api/v1/devices/ann?window=1h", 422)["mistakes"][0]["where"] == "query.window"


def test_latency(api: TestClient) -> None:
    """The latency of a device comes in as many buckets as are asked for, at most."""
    latency = get(api, "/devices/ann/latency?points=10&window=3h")
    (bucket,) = latency["buckets"]
    assert (bucket[1:], latency["bucket_ms"] >= 10_800_000 / 10) == ([20, 20.0, 20, 1, 0], True)
    for points in (9, 2001):
        problem(api, "GET", f"/api/v1/devices/ann/latency?points={points}", 422)


def test_export(api: TestClient) -> None:
    """Pings as CSV: a line each, empty where one was lost, and nothing that a spreadsheet would run."""
    answer = api.get(f"/api/v1/devices/{quote('bob/bob', safe='')}/latency.csv?window=7d")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    disposition = "attachment; filename=\"latency.csv\"; filename*=UTF-8''bob%2Fbob%207d.csv"
    assert answer.headers["content-disposition"] == disposition
    head, lost = csv.reader(io.StringIO(answer.text))
    assert (head, lost[1]) == (["time", "latency_ms"], "")
    assert abs(datetime.fromisoformat(lost[0]).timestamp() - time.time()) < 60
    hostile = api.get(f"/api/v1/devices/{quote('eve%2F', safe='')}/latency.csv")
    assert hostile.text == "time,latency_ms\r\n"


# The fleet


def test_summary_and_nodes(api: TestClient) -> None:
    """The fleet in one look, and each OpenSIPS."""
    summary = get(api, "/summary")
    assert (summary["devices"]["total"], summary["devices"]["losing"], summary["loss_ratio"]) == (4, 1, 0.3333)
    (node,) = get(api, "/nodes")["nodes"]
    assert (node["node"], node["alive"], node["breaker"]) == ("opensips", True, None)


def test_remediation_is_paused_and_resumed(web: Setup) -> None:
    """An operator holds remediation and lets it go on; each is answered with how it is now."""
    api = client(web, secret=OPERATE_SECRET)
    paused = api.post("/api/v1/remediation/pause", json={"seconds": 600})
    assert (paused.status_code, 590 < paused.json()["paused_seconds"] <= 600) == (200, True)
    assert get(api, "/remediation")["paused_seconds"] > 0
    assert api.post("/api/v1/remediation/resume").json()["paused_seconds"] == 0


@pytest.mark.parametrize(
    "body",
    [{}, {"seconds": 0}, {"seconds": -1}, {"seconds": 1e12}, {"seconds": "x"}, {"seconds": 1, "minutes": 1}, [], 5],
)
def test_a_pause_that_can_not_be_meant(web: Setup, body: object) -> None:
    """How long must be said, and be no more than a month."""
    problem(client(web, secret=OPERATE_SECRET), "POST", "/api/v1/remediation/pause", 422, json=body)


def test_remediations(web: Setup) -> None:
    """Decisions come newest first, page by page, until there are no more."""
    call, key = web.store.connection.call, web.store.keys.remediations()
    numbers = dict.fromkeys(audit.NUMBERS, "0")
    texts = dict.fromkeys(("aor", "uri", "contact", "node", "reason", "action", "why", "mode", "result", "answer"), "x")
    for n in range(1, 8):
        fields = {**numbers, **texts, "device": f"d{n}"}
        call("XADD", key, f"{1_800_000_000_000 + n}-0", *(part for pair in fields.items() for part in pair))
    api, devices, cursor = client(web), [], ""
    while cursor is not None:
        page = get(api, f"/remediations?limit=3&cursor={cursor}")
        devices += [entry["device"] for entry in page["remediations"]]
        cursor = page["next"]
    assert devices == [f"d{n}" for n in range(7, 0, -1)]
    for wrong in ("x", "0-0", "-", "5", "1-1-1", "%2B"):
        problem(api, "GET", f"/api/v1/remediations?cursor={wrong}", 422)


def model_of(answer: object, model: type[BaseModel]) -> None:
    """Check that an answer has what its model describes, and nothing that it does not."""
    parsed = model.model_validate(answer, strict=False)
    extra = {name: sorted(members) for name, members in extras(parsed)}
    assert not extra


def extras(parsed: object) -> list[tuple[str, set[str]]]:
    if isinstance(parsed, list):
        return [extra for one in parsed for extra in extras(one)]
    if not isinstance(parsed, BaseModel):
        return []
    inner = [extra for name in type(parsed).model_fields for extra in extras(getattr(parsed, name))]
    own = set(parsed.model_extra or ())
    return [*inner, (type(parsed).__name__, own)] if own and not isinstance(parsed, EntryModel) else inner


def test_everything_answered_is_described(api: TestClient) -> None:
    """The models name every member that answers have: none is only found out by looking."""
    model_of(get(api, "/devices"), DevicesModel)
    model_of(get(api, "/devices/bob%2Fbob"), DeviceModel)
    model_of(get(api, "/devices/ann/latency"), LatencyModel)
    model_of(get(api, "/devices/ann/timeline"), TimelineModel)
    model_of(get(api, "/summary"), SummaryModel)
    model_of(get(api, "/nodes"), NodesModel)
    model_of(get(api, "/history"), HistoryModel)
    model_of(get(api, "/remediation"), RemediationModel)


# What is not there


@pytest.mark.parametrize(
    "path", ["/nothing", "/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v2/devices", "/api/v1/nodes/"]
)
def test_paths_that_are_none(api: TestClient, path: str) -> None:
    """What is nowhere is a problem like others."""
    problem(api, "GET", path, 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/v1/devices", "GET, HEAD, OPTIONS"),
        ("DELETE", "/api/v1/devices/ann", "GET, HEAD, OPTIONS"),
        ("GET", "/api/v1/remediation/pause", "OPTIONS, POST"),
        ("PUT", "/healthz", "GET, HEAD, OPTIONS"),
        ("BREW", "/metrics", "GET, HEAD, OPTIONS"),
    ],
)
def test_methods(web: Setup, method: str, path: str, allowed: str) -> None:
    """A method that is not for a path is refused with those that are, as OPTIONS tells; HEAD is GET without a body."""
    api = client(web, secret=OPERATE_SECRET)
    problem(api, method, path, 405)
    assert allowed == api.request(method, path).headers["allow"]
    options = api.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")
    if "HEAD" in allowed:
        answer, head = api.get(path), api.head(path)
        assert (head.status_code, head.content) == (answer.status_code, b"")
        assert head.headers["content-type"] == answer.headers["content-type"]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("path", ["/api/v1/remediation/pause", "/login"])
def test_bodies_are_bounded(web: Setup, path: str, *, chunked: bool) -> None:
    """A body that is too large is not read, whether it says how large it is or not."""
    body = b"x" * (MAX_BODY + 1)
    api = client(web, secret=OPERATE_SECRET)
    problem(api, "POST", path, 413, content=iter([body[:1000], body[1000:]]) if chunked else body)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b'{"seconds": NaN}'])
def test_bodies_that_are_none(web: Setup, content: bytes) -> None:
    """A body that is no JSON is refused."""
    json_type = {"content-type": "application/json"}
    api = client(web, secret=OPERATE_SECRET)
    problem(api, "POST", "/api/v1/remediation/pause", 422, content=content, headers=json_type)


def test_a_mistake_of_ours(web: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """What should not happen is counted, logged and answered with a problem that tells nothing of our insides."""
    monkeypatch.setattr(Reader, "summary", lambda _: 1 / 0)
    monkeypatch.setattr("companion.http.monitoring.watch.load_view", lambda *_: 1 / 0)
    api, errors = client(web), metrics.total(metrics.API_ERRORS)
    for path in ("/api/v1/summary", "/readyz"):
        failure = problem(api, "GET", path, 500)
        assert "division" not in str(failure)
    assert metrics.total(metrics.API_ERRORS) == errors + 2


# Redis, and health


def test_redis_is_away(tmp_path: Path, make_setup: MakeSetup) -> None:
    """Without Redis every question is answered 503 with a remedy, and it says that it lives but is not ready."""
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as server:
        setup = make_setup(server=server, api={"dashboard": False})
        api = client(setup)
        assert get(api, "/devices")["total"] == 0
    paths = [
        "devices",
        "devices/ann",
        "devices/ann/latency",
        "summary",
        "nodes",
        "remediation",
        "remediations",
        "events",
    ]
    for path in paths:
        failure = problem(api, "GET", f"/api/v1/{path}", 503)
        assert failure["title"] == "Redis is away"
        assert api.get(f"/api/v1/{path}").headers["retry-after"] == "5"
    assert api.get("/healthz").json() == {"status": "alive"}
    ready = api.get("/readyz")
    assert (ready.status_code, ready.json()["names"]) == (503, ["redis-away"])
    assert ready.json()["reasons"][0].startswith("Redis does not answer: ConnectionError; start it")
    assert "redis_up 0.0" in api.get("/metrics").text


def test_foreign_values(web: Setup, api: TestClient) -> None:
    """A foreign value where ours should be is a problem, and no mistake of ours."""
    web.store.connection.call("DEL", web.store.keys.device(ANN))
    web.store.connection.call("SET", web.store.keys.device(ANN), "foreign")
    problem(api, "GET", "/api/v1/devices/ann", 503)


def test_readiness(web: Setup, api: TestClient) -> None:
    """Ready is who has Redis, every node's feed, a consumer and a scheduler; what is missing is named."""
    assert api.get("/readyz").json() == {
        "status": "not ready",
        "names": ["no-consumer", "no-scheduler"],
        "reasons": [
            "no consumer has reported within 15 s: is one running, and may it write?",
            "no job has run: is a scheduler running?",
        ],
    }
    staff(web)
    ready = api.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "reasons": []})
    web.store.connection.call("HSET", web.store.keys.node("opensips"), "interval_ms", 5000)
    notes = ["opensips pings every 5 s, and [pings] interval is 120"]
    assert api.get("/readyz").json() == {"status": "ready", "reasons": [], "notes": notes}
    web.store.connection.call("HSET", web.store.keys.node("opensips"), "heartbeat_at", int(time.time() * 1000) - 60_000)
    assert api.get("/readyz").json()["reasons"] == ["the feed of node opensips is silent"]


def test_readiness_of_an_empty_store(make_setup: MakeSetup) -> None:
    """Where no bridge was ever heard of it is not ready, and asks for one."""
    reasons = client(make_web(make_setup)).get("/readyz").json()["reasons"]
    assert "no bridge has been heard of: is one running?" in reasons


def test_metrics(api: TestClient) -> None:
    """What is counted is there for Prometheus: of this process, and of the fleet."""
    text = api.get("/metrics").text
    assert "opensips_companion_api_denied_total" in text
    assert "opensips_companion_redis_up 1.0" in text
