"""Who may do what over HTTP: every route there is, asked by everybody there may be."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.routing import Route as StarletteRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from companion.http.access.sessions import COOKIE, SECONDS
from companion.http.access.throttle import ADDRESS_BURST, ALL_BURST
from companion.http.reports.app import PATHS
from companion.services import web as app
from companion.tokens import access
from companion.tokens.access import Token
from tests.integration.conftest import MakeSetup, Setup, cli
from tests.integration.web import (
    HOST,
    OPERATE,
    OPERATE_SECRET,
    READ,
    READ_SECRET,
    WRONG_SECRET,
    client,
    fill,
    make_web,
)

OPEN = {"/healthz", "/readyz", "/login", "/logout", "/companion.css", "/static/last-mile.js"}
"""What everybody may ask for, written down a second time: opening a route takes two decisions."""
OF_CALLS = {"/api/v1/calls/{call_id}/samples"}
"""What anybody may try with a token of another kind: tests/integration/test_intake.py has who may."""
ENDLESS = {"/api/v1/events"}


class Route(NamedTuple):
    path: str
    methods: frozenset[str]


def routes(app: Starlette, prefix: str = "") -> Iterator[Route]:
    """All routes of an application and of those mounted in it."""
    for context in iter_route_contexts(app.routes):
        route = context.route
        if isinstance(route, Mount):
            assert isinstance(route.app, FastAPI)
            yield from routes(route.app, f"{prefix}{route.path}")
        else:
            yield Route(f"{prefix}{context.path}", frozenset(context.methods or ()))


@pytest.fixture
def web(make_setup: MakeSetup) -> Setup:
    made = make_web(make_setup)
    fill(made)
    return made


ASKERS = {
    # who: (what they send, from where, what they may where reads are open, and where they are not)
    "a neighbour": ({}, "127.0.0.1", "read", "none"),
    "a neighbour with a wrong token": ({"secret": WRONG_SECRET}, "127.0.0.1", "none", "none"),
    "a reader": ({"secret": READ_SECRET}, "127.0.0.1", "read", "read"),
    "an operator": ({"secret": OPERATE_SECRET}, "127.0.0.1", "operate", "operate"),
    "a stranger": ({}, "192.0.2.9", "none", "none"),
    "a stranger behind a proxy here": ({"x_forwarded_for": "192.0.2.9"}, "127.0.0.1", "none", "none"),
    "a stranger who says he is a neighbour": ({"x_forwarded_for": "127.0.0.1"}, "127.0.0.1", "none", "none"),
    "a wrong token behind a proxy": (
        {"secret": WRONG_SECRET, "forwarded": "for=127.0.0.1"},
        "127.0.0.1",
        "none",
        "none",
    ),
    "a reader behind a proxy": ({"secret": READ_SECRET, "x_real_ip": "192.0.2.9"}, "127.0.0.1", "read", "read"),
    "an operator behind a proxy": ({"secret": OPERATE_SECRET, "via": "1.1 x"}, "127.0.0.1", "operate", "operate"),
    "an operator from afar": ({"secret": OPERATE_SECRET}, "192.0.2.9", "operate", "operate"),
}


def scope_needed(path: str, method: str) -> str:
    if path in OPEN or (path in OF_CALLS and method in ("POST", "OPTIONS")):
        return "none"
    return "read" if method in ("GET", "HEAD", "OPTIONS") or path == "/metrics" else "operate"


@pytest.mark.parametrize("open_reads", [True, False])
@pytest.mark.parametrize("asker", ASKERS)
def test_every_route(make_setup: MakeSetup, asker: str, *, open_reads: bool) -> None:
    """Each route lets in who may, and nobody else; the routes are those there are, so none can be forgotten."""
    headers, peer, where_open, where_closed = ASKERS[asker]
    may = where_open if open_reads else where_closed
    setup = make_web(make_setup, open_reads=open_reads)
    asker_client = client(setup, peer=peer, **headers)
    order = ["none", "read", "operate"]
    table = {(route.path, method) for route in all_routes(asker_client) for method in route.methods | {"OPTIONS"}}
    assert table >= {(path, "OPTIONS") for path in PATHS}
    assert len(table) > 30
    for path, method in sorted(table):
        sent = "HEAD" if path in ENDLESS and method == "GET" else method
        answer = asker_client.request(
            sent, path.replace("{id:path}", "ann"), json={"seconds": 1} if method == "POST" else None
        )
        let_in = order.index(may) >= order.index(scope_needed(path, method))
        denied = answer.status_code in (401, 403) and path not in OPEN
        assert denied is not let_in, f"{asker}: {method} {path}: {answer.status_code}"
        if denied:
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert answer.headers["content-type"] == "application/problem+json"


def all_routes(http_client: TestClient) -> Iterator[Route]:
    """Yield the routes behind the guard and beside it."""
    assert isinstance(http_client.app, Starlette)
    for mounted in http_client.app.routes:
        assert isinstance(mounted, Mount | StarletteRoute)
        assert isinstance(mounted.app, Starlette)
        yield from routes(mounted.app)


def app_of(http_client: TestClient) -> FastAPI:
    """Return the application behind the guard."""
    assert isinstance(http_client.app, Starlette)
    (guarded,) = (route.app for route in http_client.app.routes if isinstance(route, Mount))
    assert isinstance(guarded, FastAPI)
    return guarded


@pytest.mark.parametrize("dashboard", [False, True])
def test_other_methods(make_setup: MakeSetup, *, dashboard: bool) -> None:
    """Each path answers a method that it lacks with 405 and those it has, whether there are pages or not."""
    operator = client(make_web(make_setup, dashboard=dashboard), secret=OPERATE_SECRET)
    methods: dict[str, set[str]] = {}
    for route in all_routes(operator):
        methods.setdefault(route.path, {"OPTIONS"}).update(route.methods)
    for path, has in methods.items():
        has |= {"HEAD"} if "GET" in has else set()  # noqa: PLW2901
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - (has - {"OPTIONS"}):
            answer = operator.request(method, path.replace("{id:path}", "ann").replace("{call_id}", "a"))
            assert answer.status_code == (204 if method == "OPTIONS" else 405), f"{method} {path}"
            assert set(answer.headers["allow"].split(", ")) == has, f"{method} {path}"


def test_unknown_paths_are_closed(make_setup: MakeSetup) -> None:
    """Who may not read does not learn what there is: a path that is none is refused like one that is."""
    setup = make_web(make_setup, open_reads=False)
    for path in (
        "/nothing",
        "/api/v1/nothing",
        "/api/v1/devices/nobody",
        "//healthz",
        "/healthz/",
        "/LOGIN",
        "/login/x",
    ):
        assert client(setup).get(path).status_code == 401
        assert client(setup, secret=READ_SECRET).get(path).status_code == 404


def test_wrong_and_missing_tokens_are_told_apart(web: Setup) -> None:
    """A wrong token is said to be wrong; one that may not act is said to be of the wrong scope."""
    wrong = client(web, secret=WRONG_SECRET).get("/api/v1/summary")
    missing = client(web).post("/api/v1/remediation/resume")
    reader = client(web, secret=READ_SECRET).post("/api/v1/remediation/resume")
    assert [answer.status_code for answer in (wrong, missing, reader)] == [401, 401, 403]
    assert 'error="invalid_token"' in wrong.headers["www-authenticate"]
    assert "error" not in missing.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in reader.headers["www-authenticate"]
    assert WRONG_SECRET not in wrong.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8780", "127.0.0.1.evil.example", "192.0.2.1", ""])
def test_rebinding(web: Setup, host: str) -> None:
    """A page whose name was made to lead here reads nothing, whatever token it has; probes are answered."""
    for secret in ("", OPERATE_SECRET):
        refused = client(web, secret=secret).get("/api/v1/devices", headers={"host": host})
        assert (refused.status_code, "ann" in refused.text) == (421, False)
    assert client(web).post("/login", headers={"host": host}).status_code == 421
    assert client(web).get("/healthz", headers={"host": host}).status_code == 200


def test_names(make_setup: MakeSetup) -> None:
    """By a name of [api] hosts one gets in, but is no neighbour there: that is what a proxy passes on."""
    setup = make_web(make_setup, hosts=["companion.example.com", "*.inner.example"])
    for host in ("companion.example.com", "COMPANION.example.com:443", "a.inner.example"):
        assert client(setup).get("/api/v1/summary", headers={"host": host}).status_code == 401
        assert client(setup, secret=READ_SECRET).get("/api/v1/summary", headers={"host": host}).status_code == 200


def test_readiness_tells_its_reasons_to_readers_only(make_setup: MakeSetup) -> None:
    """Everybody learns whether it is ready, and only who may read, why not."""
    setup = make_web(make_setup, open_reads=False)
    stranger, reader = (client(setup, secret=secret).get("/readyz") for secret in ("", READ_SECRET))
    assert (stranger.status_code, stranger.json()) == (503, {"status": "not ready", "reasons": []})
    assert (reader.status_code, bool(reader.json()["reasons"])) == (503, True)


# Sessions


def log_in(browser: TestClient, secret: str, path: str = "/") -> None:
    """As a browser does; the client keeps the cookie."""
    answer = browser.post("/login", data={"token": secret, "next": path}, headers={"origin": f"http://{HOST}"})
    assert (answer.status_code, answer.headers["location"]) == (303, path)


@pytest.fixture
def closed(make_setup: MakeSetup) -> Setup:
    """Where nobody reads without a token."""
    return make_web(make_setup, open_reads=False)


def test_logging_in_and_out(closed: Setup) -> None:
    """Who logs in may read, with no token sent again; who logs out may not, even with a copy of the cookie."""
    browser = client(closed)
    assert browser.get("/api/v1/summary").status_code == 401
    log_in(browser, READ_SECRET)
    cookie = browser.cookies[COOKIE]
    assert browser.get("/api/v1/summary").status_code == 200
    left = browser.post("/logout", headers={"origin": f"http://{HOST}"})
    assert (left.status_code, left.headers["location"], COOKIE in browser.cookies) == (303, "/login", False)
    browser.cookies.set(COOKIE, cookie)
    assert browser.get("/api/v1/summary").status_code == 401


@pytest.mark.parametrize(
    ("choice", "scheme", "secure"),
    [("auto", "http", False), ("auto", "https", True), ("always", "http", True), ("never", "https", False)],
)
def test_the_cookie(make_setup: MakeSetup, choice: str, scheme: str, *, secure: bool) -> None:
    """Scripts can not read the cookie, other sites can not make a browser send it, and https keeps it."""
    browser = client(make_web(make_setup, secure_cookie=choice))
    browser.base_url = f"{scheme}://{HOST}"
    set_cookie = browser.post("/login", data={"token": READ_SECRET}).headers["set-cookie"]
    assert set_cookie.startswith(f"{COOKIE}=")
    attributes = {part.strip().lower() for part in set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", f"max-age={SECONDS}"} <= attributes
    assert ("secure" in attributes) is secure
    assert READ_SECRET not in set_cookie
    assert READ.digest not in set_cookie


def test_a_session_may_what_its_token_may(closed: Setup) -> None:
    """A reader's session acts no more than the reader's token; an operator's does."""
    for secret, expected in ((READ_SECRET, 403), (OPERATE_SECRET, 200)):
        browser = client(closed)
        log_in(browser, secret)
        resumed = browser.post("/api/v1/remediation/resume", headers={"origin": f"http://{HOST}"})
        assert resumed.status_code == expected


def test_a_session_dies_with_its_token(make_setup: MakeSetup) -> None:
    """When a token leaves the configuration its sessions are over, though the key that signed them is the same."""
    key = "k" * 32
    before = client(make_web(make_setup, open_reads=False, session_key=key))
    log_in(before, READ_SECRET)
    for lines, expected in (([READ.line], 200), ([OPERATE.line], 401)):
        after = client(make_web(make_setup, open_reads=False, session_key=key, tokens=lines))
        after.cookies.set(COOKIE, before.cookies[COOKIE])
        assert after.get("/api/v1/summary").status_code == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:8780"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": f"http://{HOST}"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": "null"}, 200),
        ({"origin": f"http://{HOST}"}, 200),
    ],
)
def test_forged_requests(closed: Setup, headers: dict[str, str], expected: int) -> None:
    """A page of another site can not act with somebody's cookie, though the browser may add it."""
    browser = client(closed)
    log_in(browser, OPERATE_SECRET)
    acted = browser.post("/api/v1/remediation/pause", json={"seconds": 60}, headers=headers)
    assert acted.status_code == expected
    paused = client(closed, secret=READ_SECRET).get("/api/v1/remediation").json()["paused_seconds"]
    assert bool(paused) is (expected == 200)


def test_a_foreign_page_logs_nobody_in_or_out(closed: Setup) -> None:
    """Neither can it log a browser in as somebody else, or out."""
    browser = client(closed)
    foreign = {"origin": "http://evil.example"}
    assert browser.post("/login", data={"token": READ_SECRET}, headers=foreign).status_code == 403
    log_in(browser, READ_SECRET)
    assert browser.post("/logout", headers=foreign).status_code == 403
    assert browser.get("/api/v1/summary").status_code == 200


def test_pages_lead_to_the_login(closed: Setup) -> None:
    """A person who may not see a page is led to the login and from there to it; a program is told 401."""
    browser = client(closed, accept="text/html,*/*;q=0.8")
    led = browser.get("/device?id=ann%2F%C3%A4&window=7d")
    assert (led.status_code, led.headers["location"]) == (
        303,
        "/login?next=/device%3Fid%3Dann%252F%25C3%25A4%26window%3D7d",
    )
    form = browser.get(led.headers["location"])
    assert '<input type="hidden" name="next" value="/device?id=ann%2F%C3%A4&amp;window=7d">' in form.text
    log_in(browser, READ_SECRET, "/device?id=ann%2F%C3%A4&window=7d")
    assert client(closed).get("/device").status_code == 401
    assert client(closed, accept="text/html").get("/api/v1/devices").status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        " //evil.example",
        "/a\r\nSet-Cookie: x=y",
        "",
        "?",
    ],
)
def test_open_redirects(web: Setup, path: str) -> None:
    """Nobody is led from the login to another server."""
    browser = client(web)
    form = browser.get("/login", params={"next": path})
    assert 'name="next" value="/"' in form.text
    answer = browser.post("/login", data={"token": READ_SECRET, "next": path})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_login_that_fails(web: Setup) -> None:
    """A wrong token gives the form again, with the reason where a screen reader finds it, and without the token."""
    answer = client(web).post("/login", data={"token": "<script>", "next": "/nodes"})
    assert answer.status_code == 401
    assert 'role="alert">This token is not known here.<' in answer.text
    assert 'aria-describedby="wrong hint"' in answer.text
    assert 'name="next" value="/nodes"' in answer.text
    assert "<script>" not in answer.text
    assert COOKIE not in answer.headers.get("set-cookie", "")


@pytest.mark.parametrize(
    "body", [b"", b"token", b"%ff=%ff", b"\xff\xfe", b"&" * 1000, b"token=" + b"x" * 9_000, b"x" * 70_000]
)
def test_a_login_with_nonsense(web: Setup, body: bytes) -> None:
    """Whatever is sent to the login is refused, and breaks nothing."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client(web).post("/login", content=body, headers=form).status_code in (401, 413, 422)


def test_guessing(web: Setup) -> None:
    """After some wrong tokens even the right one has to wait, and is told how long; another address does not."""
    guesser = client(web)
    for _ in range(ADDRESS_BURST):
        assert guesser.post("/login", data={"token": WRONG_SECRET}).status_code == 401
    refused = guesser.post("/login", data={"token": READ_SECRET})
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 12
    assert "Too many failed logins: wait" in refused.text
    with TestClient(guesser.app, base_url=f"http://{HOST}", client=("127.0.0.2", 1), follow_redirects=False) as other:
        assert other.post("/login", data={"token": READ_SECRET}).status_code == 303


def test_guesses_from_invented_addresses(web: Setup) -> None:
    """Wrong tokens from any number of addresses that a proxy passes on keep nobody from logging in."""
    app = ProxyHeadersMiddleware(client(web).app, ["127.0.0.1"])  # type: ignore[arg-type]  # as the server has it
    proxy = TestClient(app, base_url=f"http://{HOST}", client=("127.0.0.1", 1), follow_redirects=False)  # type: ignore[arg-type]
    for n in range(2 * ALL_BURST):
        answer = proxy.post("/login", data={"token": WRONG_SECRET}, headers={"x-forwarded-for": f"203.0.113.{n}"})
        assert answer.status_code == 401
    assert proxy.post("/login", data={"token": READ_SECRET}).status_code == 303
    proxy.cookies.clear()
    from_afar = {"x-forwarded-for": "198.51.100.7"}
    assert proxy.post("/login", data={"token": READ_SECRET}, headers=from_afar).status_code == 303


def test_only_a_proxy_may_name_an_address(web: Setup) -> None:
    """Whoever is no proxy guesses from his own address, whatever he names, and locks out nobody else."""
    app = ProxyHeadersMiddleware(client(web).app, ["127.0.0.1"])  # type: ignore[arg-type]
    statuses = set()
    for n in range(ADDRESS_BURST + 1):
        stranger = TestClient(app, base_url=f"http://{HOST}", client=("192.0.2.9", 1))  # type: ignore[arg-type]
        headers = {"x-forwarded-for": f"203.0.113.{n}"}
        statuses.add(stranger.post("/login", data={"token": WRONG_SECRET}, headers=headers).status_code)
    assert statuses == {401, 429}


# Tokens


def test_a_new_token(make_setup: MakeSetup) -> None:
    """What `companion token new` prints is all it takes: one line to configure, one secret to show."""
    made = cli("token", "new", "grafana", "--scope", "read", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    token = json.loads(made.stdout)
    setup = make_web(make_setup, open_reads=False, tokens=[token["line"]])
    assert client(setup, secret=token["token"]).get("/api/v1/summary").status_code == 200
    assert client(setup, secret=token["token"]).post("/api/v1/remediation/resume").status_code == 403


def test_a_new_token_for_people() -> None:
    """A person sees the token, the line, and where that goes; without a scope it is for reading."""
    made = cli("token", "new", "ann")
    assert "[api] tokens" in made.stdout
    secret, line = (line.strip() for line in made.stdout.splitlines() if line.startswith("  "))
    assert secret.startswith("companion_")
    assert Token.parse(line) == access.find([Token.parse(line)], secret)
    assert line.startswith("ann:read:")


@pytest.mark.parametrize("arguments", [("a b",), ("",), ("ann", "--scope", "all"), ()])
def test_tokens_that_can_not_be(arguments: tuple[str, ...]) -> None:
    """A name or scope that can not be is a mistake in usage."""
    made = cli("token", "new", *arguments)
    assert (made.returncode, made.stdout) == (2, "")
    assert "companion_" not in made.stderr


# Without a dashboard


@pytest.mark.parametrize(("switched", "reason"), [(False, "switched off"), (True, "not installed")])
def test_no_dashboard(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch, *, switched: bool, reason: str) -> None:
    """Where there is no dashboard, a page tells why and what to do about it; who may not read is led to the login."""
    monkeypatch.setattr(app, "EXTRA", "no_such_package")
    page = client(make_web(make_setup, dashboard=switched)).get("/")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert f"The dashboard is {reason}" in page.text
    closed = client(make_web(make_setup, dashboard=switched, open_reads=False), accept="text/html")
    assert closed.get("/").headers["location"] == "/login?next=/"


# WebSockets


async def accept(websocket: WebSocket) -> None:
    """A page's socket, which lets in whoever gets so far."""
    await websocket.accept()
    await websocket.close()


@pytest.mark.parametrize(
    ("open_reads", "secret", "headers", "let_in"),
    [
        (True, "", {}, True),
        (True, "", {"origin": f"http://{HOST}"}, True),
        (True, "", {"origin": "http://evil.example"}, False),
        (True, "", {"origin": "null"}, False),
        (True, "", {"host": "evil.example"}, False),
        (True, "", {"x-forwarded-for": "127.0.0.1"}, False),
        (False, "", {"origin": f"http://{HOST}"}, False),
        (False, READ_SECRET, {"origin": f"http://{HOST}"}, True),
        (False, READ_SECRET, {"origin": "http://evil.example"}, False),
        (False, READ_SECRET, {}, False),
    ],
)
def test_websockets(
    make_setup: MakeSetup, secret: str, headers: dict[str, str], *, open_reads: bool, let_in: bool
) -> None:
    """A dashboard's socket opens for who may read, from our own pages; here `secret` is of the session."""
    browser = client(make_web(make_setup, open_reads=open_reads))
    app_of(browser).add_api_websocket_route("/_nicegui_ws/socket.io/", accept)
    if secret:
        log_in(browser, secret)
    place = f"ws://{HOST}/_nicegui_ws/socket.io/"
    if let_in:
        with browser.websocket_connect(place, headers=dict(headers)):
            pass
    else:
        with pytest.raises(WebSocketDisconnect) as refused, browser.websocket_connect(place, headers=dict(headers)):
            pass
        assert refused.value.code == 1008
        assert refused.value.reason in ("Login needed", "From another site", "Wrong host")


# What every answer carries


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("GET", "/api/v1/devices"),
        ("GET", "/api/v1/devices/nobody"),
        ("GET", "/api/v1/nothing"),
        ("POST", "/api/v1/devices"),
        ("OPTIONS", "/api/v1/devices"),
        ("HEAD", "/api/v1/devices"),
        ("POST", "/api/v1/remediation/pause"),
    ],
)
@pytest.mark.parametrize("secret", ["", WRONG_SECRET, OPERATE_SECRET])
def test_headers(web: Setup, method: str, path: str, secret: str) -> None:
    """Every answer, refusals too, keeps browsers from guessing, framing, caching, and telling where they were."""
    answer = client(web, secret=secret).request(method, path, headers={"origin": f"http://{HOST}"})
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert not [name for name in headers if name.startswith("access-control-")]
    if path != "/":
        assert "unsafe" not in headers["content-security-policy"]


def test_the_style_may_be_kept(web: Setup) -> None:
    """The login's style is a file of its own, which the policy allows and a browser may keep."""
    style = client(web, peer="192.0.2.9").get("/companion.css")
    assert (style.status_code, style.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert style.headers["cache-control"] == "max-age=3600"
    form = client(web).get("/login").text
    assert '<link rel="stylesheet" href="/companion.css">' in form
    assert "<style" not in form
    assert "style=" not in form
