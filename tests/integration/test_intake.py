"""Reports of browsers over HTTP: who may send them, what is taken, and what is refused."""

import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from starlette.testclient import TestClient

from companion import metrics
from companion.http.problems import ProblemError
from companion.http.reports import collector
from companion.http.reports.intake import Gate
from companion.media.report import MAX_ITEMS
from companion.opensips.events import INSERT
from companion.simulator.redis import EmbeddedRedis
from companion.store.call_media import load_media
from companion.store.calls import CallRecord, load_call
from companion.text import Json
from tests.integration.conftest import Kind, MakeSetup, Setup
from tests.integration.media import (
    CALL_ID,
    DEVICE,
    ORIGIN,
    SECRET,
    a_token,
    dump,
    happening,
    make_media,
    now_ms,
    page,
    path_of,
    report,
    sample,
    send,
)
from tests.integration.web import HOST, OPERATE_SECRET, READ_SECRET, client, fill

WEEK_MS = 7 * 86_400_000
OPUS = happening(0, "codec") | {"fields": {"in": "opus/48000/2", "out": "opus/48000/2"}}


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    return make_media(make_setup)


def the_call(setup: Setup) -> CallRecord:
    call = load_call(setup.store, DEVICE, CALL_ID)
    assert call
    return call


def refused(why: str) -> float:
    return metrics.total(metrics.MEDIA_REFUSED, why=why)


# Taken


@pytest.mark.parametrize("kind", ["module", "plain", "cluster"])
def test_a_report(make_setup: MakeSetup, kind: Kind) -> None:
    """What a page tells is stored, with our times; the page learns what comes next, and may read the answer."""
    setup = make_media(make_setup, kind)
    slow = now_ms() - 3_600_000
    answer = send(page(setup), report(OPUS | {"at": slow}, sample(1, now=slow), now=slow))
    assert (answer.status_code, answer.json()) == (200, {"stored": 2, "next": 2, "advice": None})
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    call = the_call(setup)
    assert (call.call_id, call.direction, call.peer) == (CALL_ID, "in", "sip:bob@example.com")
    assert call.totals.mos is not None
    (stored,) = load_media(setup.store, call).samples
    assert abs(stored.at - (now_ms() - 59_000)) < 10_000


@pytest.mark.parametrize("kind", ["module", "plain", "cluster"])
def test_sent_again(make_setup: MakeSetup, kind: Kind) -> None:
    """A report that is sent again, byte for byte, changes nothing; a page whose answer was lost learns the same."""
    setup = make_media(make_setup, kind)
    payload = json.dumps(report(OPUS, sample(1), sample(2))).encode()
    send(page(setup), payload)
    before = dump(setup)
    assert send(page(setup), payload).json() == {"stored": 0, "next": 3, "advice": None}
    assert dump(setup) == before


def test_overlap_and_order(setup: Setup) -> None:
    """A beacon with all that was not confirmed may overtake a report; each item is stored once."""
    browser = page(setup)
    send(browser, report(sample(0), sample(1)))
    ended = {"started_at": now_ms() - 60_000, "ended_at": now_ms(), "end": "closed"}
    beacon = report(*(sample(n) for n in range(1, 5)), token=a_token(), call=ended)
    assert send(page(setup, token="", content_type="text/plain"), beacon).json()["stored"] == 3
    overtaken = report(sample(1), sample(2)) | {"now": beacon["now"] - 100}
    assert send(browser, overtaken).json() == {"stored": 0, "next": 5, "advice": None}
    call = the_call(setup)
    assert (call.end, call.totals.items, call.totals.missing) == ("closed", 5, 0)


def test_redis_away(make_setup: MakeSetup, own_redis: EmbeddedRedis) -> None:
    """While Redis is away pages are told to come again; when they do all is stored, and nothing twice."""
    media = {"secret": SECRET, "origins": [ORIGIN]}
    setup = make_setup(server=own_redis, media=media)
    browser, items = page(setup), [OPUS, *(sample(n) for n in range(1, 10))]
    assert send(browser, report(*items[:5])).json()["stored"] == 5
    own_redis.stop()
    before = refused("redis-away")
    away = send(browser, report(*items))
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert away.json()["type"].endswith(":redis-away")
    assert away.headers["access-control-allow-origin"] == ORIGIN
    assert away.headers["access-control-expose-headers"] == "Retry-After"
    assert refused("redis-away") == before + 1
    own_redis.start()
    assert send(browser, report(*items)).json() == {"stored": 5, "next": 10, "advice": None}
    assert len(load_media(setup.store, the_call(setup)).samples) == 9


def test_addresses(make_setup: MakeSetup) -> None:
    """Of addresses only the network is kept, whatever the page sent, unless it is configured otherwise."""
    path = happening(0, "path", local_address="192.0.2.77", remote_address="2001:db8:1:2::3", local="host")
    for full, kept in ((False, {"192.0.2.0/24", "2001:db8:1::/48"}), (True, {"192.0.2.77", "2001:db8:1:2::3"})):
        setup = make_media(make_setup, full_addresses=full)
        send(page(setup), report(path))
        (stored,) = load_media(setup.store, the_call(setup)).happenings
        assert {stored.fields["local_address"], stored.fields["remote_address"]} == kept
        assert str("192.0.2.77" in str(dump(setup))) == str(full)


def test_advice(make_setup: MakeSetup) -> None:
    """A page with trouble is advised to send less, in each answer until it has done so."""
    setup = make_media(make_setup, advice=True, advice_after=3)
    browser, now = page(setup), now_ms()
    trouble = report(*(sample(n, at=now, out={"lost": 0.2, "rtt_ms": 50}) for n in range(4)), now=now)
    first = send(browser, trouble).json()
    assert first["advice"] == {"max_bitrate": 32_000, "why": "loss"}
    assert send(browser, report()).json()["advice"] == first["advice"]
    done = happening(4, "limit", by="advice", max_bps=32_000)
    assert send(browser, report(done)).json()["advice"] is None
    assert send(page(make_media(make_setup)), trouble).json()["advice"] is None


def test_counted(setup: Setup) -> None:
    """What is stored, told twice, never told and how it sounds is counted, and so are the calls that go on."""
    counters = (metrics.MEDIA_ITEMS, metrics.MEDIA_DUPLICATES, metrics.MEDIA_MISSING, metrics.MEDIA_REPORTS)
    before = [metrics.total(counter) for counter in counters]
    browser = page(setup)
    send(browser, report(OPUS, sample(1), sample(5)))
    send(browser, report(sample(5)))
    after = [metrics.total(counter) for counter in counters]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 1, 3, 2]
    reader = {"authorization": f"Bearer {READ_SECRET}"}
    text = browser.get("/metrics", headers=reader).text
    assert f"{metrics.PREFIX}media_calls 1.0" in text
    assert CALL_ID not in text
    send(browser, report(call={"started_at": now_ms() - 1000, "ended_at": now_ms(), "end": "hangup"}))
    assert f"{metrics.PREFIX}media_calls 0.0" in browser.get("/metrics", headers=reader).text


# Refused


class Abused(NamedTuple):
    """A companion that is only sent what it must not take, and a page without a token that sends it."""

    setup: Setup
    page: TestClient


@pytest.fixture(scope="module")
def abused(servers: dict[Kind, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Abused]:
    media = {"secret": SECRET, "origins": [ORIGIN], "reports_per_minute": 6000}
    setup = Setup(servers["module"], tmp_path_factory.mktemp("abused"), media=media)
    yield Abused(setup, client(setup, peer="192.0.2.9"))
    assert dump(setup) == {}
    setup.store.close()


def signed(key: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A token with any claims; None takes one away."""
    now = int(time.time())
    good = {"aud": "last-mile", "sub": DEVICE, "call": CALL_ID, "iat": now, "exp": now + 60}
    payload = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode(payload, key, algorithm)


def without_signature() -> str:
    _, body, _ = signed().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{none}.{body}."


TOKENS: dict[str, tuple[Callable[[], str], int, str]] = {
    "none": (lambda: "", 401, "token-needed"),
    "nonsense": (lambda: "nonsense", 401, "token-wrong"),
    "one of the API": (lambda: OPERATE_SECRET, 401, "token-wrong"),
    "another key": (lambda: signed("t" * 32), 401, "token-wrong"),
    "no algorithm": (without_signature, 401, "token-wrong"),
    "another algorithm": (lambda: signed("s" * 64, "HS512"), 401, "token-wrong"),
    "another audience": (lambda: signed(aud="companion"), 401, "token-wrong"),
    "no audience": (lambda: signed(aud=None), 401, "token-wrong"),
    "no end": (lambda: signed(exp=None), 401, "token-wrong"),
    "good for years": (lambda: signed(exp=int(time.time()) + 86_400 * 365), 401, "token-wrong"),
    "from the future": (lambda: signed(iat=int(time.time()) + 3600), 401, "token-wrong"),
    "changed": (lambda: signed()[:-3] + "AAA", 401, "token-wrong"),
    "endless": (lambda: "a." * 5000, 401, "token-wrong"),
    "expired": (lambda: a_token(seconds=-1), 401, "token-expired"),
    "of another call": (lambda: a_token(call_id="another"), 403, "foreign-call"),
}


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("beacon", [False, True])
def test_tokens(abused: Abused, name: str, *, beacon: bool) -> None:
    """Who has no good token for this very call is refused and told why, wherever the token is; nothing is stored."""
    make, status, problem = TOKENS[name]
    before = refused(problem)
    payload = report(sample(0)) | ({"token": make()} if beacon else {})
    headers = {"origin": ORIGIN} | ({} if beacon else {"authorization": f"Bearer {make()}"})
    answer = send(abused.page, payload, **headers)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (status, problem)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert refused(problem) == before + 1
    assert dump(abused.setup) == {}


def test_another_device(setup: Setup) -> None:
    """A page that says whose call it tells of is refused when the token is of another device."""
    browser = page(setup, token=a_token("eve/web"))
    answer = send(browser, report(sample(0)), query="?device=alice%2Fweb")
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "foreign-call")
    assert dump(setup) == {}
    assert send(browser, report(sample(0)), query="?device=eve%2Fweb").status_code == 200


@pytest.mark.parametrize(("query", "where"), [("?devise=a", "devise"), (f"?device={'x' * 2000}", "device")])
def test_wrong_parameters(setup: Setup, query: str, where: str) -> None:
    """A parameter that nobody knows, or that is too long, is named."""
    answer = send(page(setup), report(sample(0)), query=query)
    assert (answer.status_code, answer.json()["mistakes"][0]["where"]) == (422, f"query.{where}")
    assert dump(setup) == {}


def bad(**more: Any) -> bytes:
    return json.dumps(report(sample(0) | more)).encode()


def as_sent(text: str) -> bytes:
    """A good report with this, as it stands, in place of a round trip."""
    return json.dumps(report(sample(0, rtt_ms="HERE"))).replace('"HERE"', text).encode()


REPORTS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no JSON": lambda: b"\x00\xff nonsense",
    "no text": lambda: b'{"v": "\xed\xa0\x80"}',
    "no object": lambda: b"[]",
    "not a number": lambda: as_sent("NaN"),
    "infinity": lambda: as_sent("Infinity"),
    "infinite in JSON": lambda: as_sent("1e999"),
    "a negative round trip": lambda: as_sent("-1"),
    "a round trip that is a text": lambda: as_sent('"40"'),
    "a round trip that is true": lambda: as_sent("true"),
    "a huge number": lambda: as_sent("1" * 400),
    "negative packets": lambda: bad(**{"in": {"packets": -1}}),
    "half a packet": lambda: bad(**{"in": {"packets": 1.5}}),
    "loss in percent": lambda: bad(out={"lost": 5}),
    "an unknown member": lambda: bad(color="red"),
    "an unknown member of the report": lambda: json.dumps(report() | {"x": 1}).encode(),
    "an unknown flag": lambda: bad(flags=["loud"]),
    "a negative number": lambda: bad(n=-1),
    "a number past all": lambda: bad(n=MAX_ITEMS),
    "no length": lambda: bad(ms=0),
    "from the future": lambda: bad(at=now_ms() + 120_000),
    "from another age": lambda: bad(at=now_ms() - 2 * WEEK_MS),
    "a call from the future": lambda: json.dumps(report(call={"started_at": now_ms() + 120_000})).encode(),
    "another version": lambda: json.dumps(report() | {"v": 2}).encode(),
    "too many samples": lambda: json.dumps(report(*({"n": n, "at": now_ms(), "ms": 1} for n in range(1201)))).encode(),
    "too many happenings": lambda: json.dumps(report(*(happening(n, "ice") for n in range(401)))).encode(),
    "too many fields": lambda: json.dumps(report(happening(0, "ice", **{f"f{n}": 1 for n in range(13)}))).encode(),
    "fields within fields": lambda: json.dumps(report(happening(0, "ice", state={"a": 1}))).encode(),
    "a long text": lambda: json.dumps(report(happening(0, "ice", state="x" * 257))).encode(),
    "a control character": lambda: json.dumps(report(happening(0, "ice", state="a\x1b[31m"))).encode(),
    "a line end": lambda: json.dumps(report(happening(0, "ice", state="a\n"))).encode(),
    "a name with a line end": lambda: json.dumps(report(happening(0, "ice\n"))).encode(),
    "a field with a line end": lambda: json.dumps(report(happening(0, "ice", **{"a\n": 1}))).encode(),
    "text that runs the other way": lambda: json.dumps(report(happening(0, "ice", state="a\u202eb"))).encode(),
    "half a character": lambda: json.dumps(report(happening(0, "ice", state="a\ud800b"))).encode(),
    "the other half": lambda: json.dumps(report(happening(0, "ice", state="a\udc00b"))).encode(),
    "a peer with markup in control": lambda: json.dumps(report(call={"started_at": 1, "peer": "\x00"})).encode(),
    "deep nesting": lambda: b'{"v":' * 20_000,
    "deep arrays": lambda: b"[" * 200_000,
    "deep within what is unknown": lambda: b'{"v":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("name", REPORTS)
def test_nonsense(abused: Abused, name: str) -> None:
    """Whatever is no report is refused with where and why, and nothing of it is stored."""
    before = refused("wrong-report")
    answer = send(abused.page, REPORTS[name](), authorization=f"Bearer {a_token()}")
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"].endswith(":wrong-report")
    assert 0 < len(answer.json()["detail"]) <= 200
    assert refused("wrong-report") == before + 1
    assert dump(abused.setup) == {}


@pytest.mark.parametrize("name", REPORTS)
def test_nonsense_of_strangers(abused: Abused, name: str) -> None:
    """Who has no token learns nothing of what is wrong with what he sends."""
    answer = send(abused.page, REPORTS[name]())
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (401, "token-needed")


@pytest.mark.parametrize("has_length", [True, False])
def test_too_large(setup: Setup, *, has_length: bool) -> None:
    """A report of more than 256 KiB is refused, whether it says so or not."""
    body, before = b" " * (256 * 1024 + 1), refused("too-large")
    sent: Any = body if has_length else iter([body])
    answer = page(setup).post(path_of(), content=sent)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (413, "too-large")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert refused("too-large") == before + 1
    assert send(page(setup), json.dumps(report(sample(0))).encode().ljust(256 * 1024)).status_code == 200


@pytest.mark.parametrize("call_id", ["x" * 257, "a\x00b", "a\nb", "a\u202eb", "%"])
def test_call_ids(setup: Setup, call_id: str) -> None:
    """What can be no Call-ID is refused; one with a percent sign in it is a Call-ID."""
    answer = send(page(setup, token=a_token(call_id=call_id)), report(sample(0)), call_id)
    assert answer.status_code == (200 if call_id == "%" else 422)


def test_too_many(make_setup: MakeSetup) -> None:
    """A call that is told of too often has to wait and is told how long; another call does not. A large one is many."""
    setup = make_media(make_setup, reports_per_minute=3)
    browser, before = page(setup), refused("too-many-reports")
    assert [send(browser, report(sample(n))).status_code for n in range(4)] == [200, 200, 200, 429]
    answer = send(browser, report(sample(9)))
    assert 0 < int(answer.headers["retry-after"]) <= 20
    assert answer.json()["type"].endswith(":too-many-reports")
    assert refused("too-many-reports") == before + 2
    other = page(setup, token=a_token(call_id="other"))
    large = json.dumps(report(sample(0))).encode().ljust(20_000)
    assert [send(other, large, "other").status_code for _ in range(2)] == [200, 429]


def test_too_many_at_once() -> None:
    """Only so many bytes are let in at once; who leaves makes room, however that ends."""
    gate = Gate(100)
    with gate.entered(60), gate.entered(40), pytest.raises(ProblemError) as full, gate.entered(1):
        pass
    assert (full.value.status, full.value.name, full.value.headers) == (503, "too-busy", {"retry-after": "5"})
    with pytest.raises(ZeroDivisionError), gate.entered(100):
        raise ZeroDivisionError
    with gate.entered(100):
        pass


def test_switched_off(make_setup: MakeSetup) -> None:
    """Without a secret nothing is taken and no token made, and both say why."""
    setup = make_media(make_setup, secret="")
    answer = send(page(setup), report(sample(0)))
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (404, "media-off")
    request = {"device": DEVICE, "call_id": CALL_ID}
    answer = client(setup, secret=OPERATE_SECRET).post("/api/v1/media-tokens", json=request)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (404, "media-off")


# From whose pages


def preflight(browser: TestClient, path: str, origin: str) -> Any:
    headers = {"origin": origin, "access-control-request-method": "POST"}
    return browser.options(path, headers=headers | {"access-control-request-headers": "authorization,content-type"})


def test_a_preflight(setup: Setup) -> None:
    """A browser that asks whether a page of an allowed origin may send a report is told so."""
    answer = preflight(client(setup, peer="192.0.2.9"), path_of(), ORIGIN)
    assert (answer.status_code, answer.text) == (204, "")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    assert answer.headers["access-control-allow-headers"] == "Authorization, Content-Type"
    assert answer.headers["access-control-max-age"] == "7200"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://phone.example.com",
        "https://phone.example.com:8443",
        "https://phone.example.com.evil.example",
        "https://PHONE.example.com",
        "null",
        "",
        "*",
    ],
)
def test_foreign_pages(abused: Abused, origin: str) -> None:
    """A page of any other origin may neither ask, nor send though it has a token, nor read why."""
    before = refused("foreign-page")
    preflighted = preflight(abused.page, path_of(), origin)
    sent = send(abused.page, report(sample(0)), origin=origin, authorization=f"Bearer {a_token()}")
    beacon = send(abused.page, report(sample(0), token=a_token()), origin=origin)
    for answer in (preflighted, sent, beacon):
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "foreign-page")
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert refused("foreign-page") == before + 2
    assert dump(abused.setup) == {}


def test_programs_and_own_pages(setup: Setup) -> None:
    """Who names no origin is no page; a page of our own may as well."""
    program = client(setup, peer="192.0.2.9", secret=a_token())
    assert send(program, report(sample(0))).status_code == 200
    assert send(page(setup, origin=f"http://{HOST}"), report(sample(1))).status_code == 200
    two = client(setup, secret=a_token())
    twice = two.post(path_of(), json=report(sample(2)), headers=[("origin", ORIGIN), ("origin", ORIGIN)])
    assert twice.status_code == 403


@pytest.mark.parametrize("path", ["/api/v1/summary", "/api/v1/media-tokens", "/api/v1/calls", "/"])
def test_the_rest_stays_closed(setup: Setup, path: str) -> None:
    """An allowed origin may do nothing else, not even with a token of the API."""
    for answer in (
        preflight(client(setup, secret=OPERATE_SECRET), path, ORIGIN),
        client(setup, secret=OPERATE_SECRET, origin=ORIGIN).get(path),
        client(setup, secret=a_token(), origin=ORIGIN).get(path),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert client(setup, peer="192.0.2.9", secret=a_token()).get(path).status_code == 401


def test_another_name(setup: Setup) -> None:
    """By a name that is not ours no report is taken, whoever sends it."""
    assert send(page(setup, host="evil.example"), report(sample(0))).status_code == 421


def test_the_path_as_it_was_sent(setup: Setup) -> None:
    """What is open is one path: nothing that only looks like it once it is decoded."""
    for raw in ("x/samples/", "a/b/samples", "/samples", "x%2Fsamples", "x/s%61mples", "x/samples%2F", "x/../x/sample"):
        assert client(setup, peer="192.0.2.9", secret=a_token()).post(f"/api/v1/calls/{raw}").status_code == 401


# Tokens


@pytest.fixture
def phones(setup: Setup) -> Setup:
    """A setup that knows alice's phone and two of bob's."""
    instance = DEVICE.partition("/")[2]
    phones: list[tuple[str, str, Json]] = [
        (INSERT, "alice", {"attr": f"<{instance}>"}),
        (INSERT, "bob", {}),
        (INSERT, "bob", {"uri": "sip:b@192.0.2.3"}),
    ]
    fill(setup, phones)
    return setup


def request_token(api: TestClient, device: str, **more: Any) -> Any:
    return api.post("/api/v1/media-tokens", json={"device": device, "call_id": CALL_ID, **more})


def test_making_tokens(phones: Setup) -> None:
    """Who may operate gets a token for a call of a device, by whatever it is called; with it a page may tell."""
    operator = client(phones, secret=OPERATE_SECRET)
    made = request_token(operator, "alice", minutes=5)
    assert made.status_code == 200
    assert jwt.decode(made.json()["token"], SECRET, ["HS256"], audience="last-mile")["sub"] == DEVICE
    assert send(page(phones, token=made.json()["token"]), report(sample(0))).status_code == 200
    assert the_call(phones).device == DEVICE
    assert made.json()["expires_at"].endswith("Z")


@pytest.mark.parametrize(
    ("device", "status", "problem"),
    [
        ("carl", 404, "no-such-device"),
        ("bob", 409, "several-devices"),
        ("carl/web", 200, ""),
        ("", 422, "wrong-request"),
    ],
)
def test_tokens_for_whom(phones: Setup, device: str, status: int, problem: str) -> None:
    """A name must be one device's; a whole id may be of a device that was not seen yet."""
    made = request_token(client(phones, secret=OPERATE_SECRET), device)
    assert (made.status_code, made.json().get("type", "").rpartition(":")[2]) == (status, problem)


@pytest.mark.parametrize(
    "more", [{"minutes": 0}, {"minutes": 1441}, {"x": 1}, {"call_id": "a\n"}, {"call_id": "x" * 257}]
)
def test_tokens_that_can_not_be(phones: Setup, more: Json) -> None:
    """What can not be meant makes no token."""
    assert request_token(client(phones, secret=OPERATE_SECRET), "alice", **more).status_code == 422


def test_who_makes_tokens(phones: Setup) -> None:
    """A reader makes none, nor does a page with a token for a call."""
    assert request_token(client(phones, secret=READ_SECRET), "alice").status_code == 403
    assert request_token(client(phones, secret=a_token()), "alice").status_code == 401
    assert request_token(client(phones), "alice").status_code == 401


def test_the_command(phones: Setup) -> None:
    """`companion token media` makes the same, in one piece for people and as JSON for machines."""
    printed = phones.cli("token", "media", "alice", CALL_ID, "--minutes", "5")
    assert printed.returncode == 0, printed.stderr
    assert send(page(phones, token=printed.stdout.split()[-1]), report(sample(0))).status_code == 200
    made = json.loads(phones.cli("token", "media", "alice", CALL_ID, "--json").stdout)
    assert (made["device"], made["call_id"]) == (DEVICE, CALL_ID)
    assert send(page(phones, token=made["token"]), report(sample(1))).status_code == 200
    assert phones.cli("token", "media", "nobody", CALL_ID).returncode == 2
    assert phones.cli("token", "media", "alice", "a\nb").returncode == 2


def test_the_command_without_a_secret(make_setup: MakeSetup) -> None:
    """Where nothing is taken the command says what to configure."""
    refused = make_media(make_setup, secret="").cli("token", "media", "a/b", CALL_ID)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "secret_file" in refused.stderr


# The collector


def test_the_collector(setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody gets the collector; pages of allowed origins may import it, and ask in time whether it has changed."""
    module = tmp_path / "last-mile.js"
    module.write_text("export class LastMile {}\n")
    monkeypatch.setattr(collector, "FILE", module)
    stranger = client(setup, peer="192.0.2.9", origin=ORIGIN)
    answer = stranger.get("/static/last-mile.js")
    assert (answer.status_code, answer.text) == (200, "export class LastMile {}\n")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    again = stranger.get("/static/last-mile.js", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.text, again.headers["etag"]) == (304, "", answer.headers["etag"])
    module.write_text("export class LastMile { }\n")
    changed = stranger.get("/static/last-mile.js", headers={"if-none-match": answer.headers["etag"]})
    assert changed.status_code == 200
    foreign = client(setup, origin="https://evil.example").get("/static/last-mile.js")
    assert "access-control-allow-origin" not in foreign.headers
    assert foreign.headers["cross-origin-resource-policy"] == "same-origin"
    module.unlink()
    assert stranger.get("/static/last-mile.js").status_code == 404
