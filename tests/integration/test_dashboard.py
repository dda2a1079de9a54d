"""The dashboard's pages as a server answers them, without a browser."""

import re
from typing import Final
from urllib.parse import quote

import msgspec
import pytest
from nicegui import Client, core
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from companion.dashboard import sockets
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.sockets import MAX_SOCKETS
from companion.opensips.events import INSERT
from companion.services.web import make_app
from companion.tokens import access
from tests.integration.conftest import MakeSetup, Setup
from tests.integration.web import HOST, fill, make_web

SECRET, TOKEN = access.make("anna", "read")
HOSTILE = '<script>"window.pwned=1"</script>'


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    made = make_web(make_setup, dashboard=True, tokens=[TOKEN.line], open_reads=False)
    fill(made)
    return made


def visitor(setup: Setup, secret: str = SECRET) -> TestClient:
    headers = {"accept": "text/html", **({"authorization": f"Bearer {secret}"} if secret else {})}
    app = make_app(setup.config, setup.store)
    return TestClient(
        app, base_url=f"http://{HOST}", headers=headers, follow_redirects=False, client=("127.0.0.1", 50_000)
    )


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/devices?search=ann", 200),
        ("/devices?cursor=made-up&sort=nonsense", 200),
        ("/devices/ann", 200),
        ("/devices/bob", 404),
        ("/devices/nobody", 404),
        ("/remediations?text=x", 200),
        ("/nowhere", 404),
    ],
)
def test_pages_answer(setup: Setup, path: str, status: int) -> None:
    """Each page is there, and what there is not says so to machines as well."""
    with visitor(setup) as client:
        assert client.get(path).status_code == status


def test_several_devices_of_a_name(setup: Setup) -> None:
    """A name that is several devices leads to each of them."""
    with visitor(setup) as client:
        html = client.get("/devices/bob").text
    assert "2 devices have that name" in html
    assert all(f"/devices/{quote(device, safe='')}" in html for device in ("bob/bob", "bob/latency"))


def test_strangers_are_led_to_the_login(setup: Setup) -> None:
    """No page tells anything to who is not let in."""
    with visitor(setup, secret="") as client:
        answer = client.get("/devices/ann?window=3h")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/devices/ann%3Fwindow%3D3h"


def test_pages_hold_no_markup_of_phones(make_setup: MakeSetup) -> None:
    """What a phone calls itself is in no page as HTML, in whatever way it gets there."""
    setup = make_web(make_setup, dashboard=True, tokens=[TOKEN.line])
    fill(setup, [(INSERT, HOSTILE, {"user_agent": HOSTILE, "attr": HOSTILE})])
    with visitor(setup) as client:
        listing = client.get("/devices").text
        page = client.get(f"/devices/{quote(HOSTILE, safe='')}").text
    for html in (listing, page):
        assert "window.pwned" in html
        assert HOSTILE not in html
        assert "<script>" not in html.partition("window.pwned")[2][:40]


def test_one_process_may_serve_it_again(setup: Setup) -> None:
    """An application that ended does not keep the next one of the process from having pages, its own."""
    for _ in range(2):
        with visitor(setup) as client:
            assert "ann" in client.get("/devices/ann").text


def test_it_reads_with_the_reader_of_the_api(setup: Setup) -> None:
    """Pages and API share one Reader, and with it what that keeps of the fleet: it is read once for both."""
    app = make_app(setup.config, setup.store)
    (guarded,) = (route.app for route in app.routes if isinstance(route, Mount))
    assert isinstance(guarded, Starlette)
    (threads,) = (layer.kwargs["threads"] for layer in guarded.user_middleware if "threads" in layer.kwargs)
    assert isinstance(threads, ReaderThreads)
    assert threads.reader is app.state.reader


def test_own_files_are_here(setup: Setup) -> None:
    """A page names no other host, and its style and script are served, to be kept for long."""
    with visitor(setup) as client:
        html = client.get("/").text
        path = html.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
        answer = client.get(path)
    assert "https://" not in html
    assert answer.status_code == 200
    assert "max-age=31536000" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    "broken", ["companion.query.reader.Reader.summary", "companion.dashboard.pages.fleet.FleetPage._go"]
)
def test_a_fault_of_ours_tells_nobody_its_insides(setup: Setup, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """When something breaks the page says that it stands still, and only the log says why."""

    def fail(_: object) -> None:
        raise RuntimeError("insides")

    monkeypatch.setattr(broken, property(fail))
    with visitor(setup) as client:
        answer = client.get("/")
    assert answer.status_code == 500
    assert "could not be brought up to date" in answer.text
    assert "insides" not in answer.text


# The socket of pages


RELOAD: Final = '44{"message": "Implicit handshake failed"}'
POLLING: Final = "/_nicegui_ws/socket.io/?EIO=4&transport=polling&implicit_handshake=true&tab_id=t&document_id=d"


def page_id(html: str) -> str:
    """The id by which a page connects."""
    match = re.search(r"client_id\W+([0-9a-f-]{36})", html)
    assert match
    return match[1]


def websocket(address: str) -> str:
    return f"ws://{HOST}{address.replace('polling', 'websocket')}"


def environs(page: str) -> list[str]:
    """What is kept of the connections of a page."""
    queries = [environ["QUERY_STRING"] for environ in core.sio.environ.values()]
    return [query for query in queries if page in query]


@pytest.mark.parametrize("by", ["token", "session", "loopback"])
@pytest.mark.parametrize(
    "headers", [{"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}]
)
def test_no_other_site_uses_the_socket(make_setup: MakeSetup, by: str, headers: dict[str, str]) -> None:
    """A page of another site is refused by each method and transport, whoever its visitor is, and may read nothing."""
    setup = make_web(make_setup, dashboard=True, tokens=[TOKEN.line], open_reads=by == "loopback")
    with visitor(setup, SECRET if by == "token" else "") as client:
        if by == "session":
            client.post("/login", data={"token": SECRET})
        page = page_id(client.get("/").text)
        address = f"{POLLING}&client_id={page}"
        for method in ("GET", "POST", "OPTIONS"):
            answer = client.request(method, address, headers=headers)
            assert answer.status_code == 403
            assert not [name for name in answer.headers if name.startswith("access-control")]
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(websocket(address), headers=dict(headers)):
            pass
        assert not environs(page)


def test_own_pages_use_the_socket(setup: Setup) -> None:
    """A page that is open connects, by polling too, and no other page is told that it may read."""
    with visitor(setup) as client:
        address = f"{POLLING}&client_id={page_id(client.get('/').text)}"
        answer = client.get(address, headers={"origin": f"http://{HOST}"})
        assert answer.text.startswith('0{"sid":')
        session = msgspec.json.decode(answer.text[1:])["sid"]
        assert client.post(f"{address}&sid={session}", content="40").text == "OK"
        assert client.get(f"{address}&sid={session}").text.startswith("40")
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("page", ["", "00000000-0000-0000-0000-000000000000", "<script>", "&a=1" * 100])
def test_no_page_leaves_nothing(setup: Setup, page: str) -> None:
    """Who connects without an open page is told to load it again, by both transports, and nothing of him is kept."""
    address, before = f"{POLLING}&client_id={page}", {*core.sio.environ, *core.sio.eio.sockets}
    with visitor(setup) as client:
        for _ in range(5):
            (session,) = {msgspec.json.decode(client.get(address).text[1:])["sid"] for _ in range(2)}
            client.post(f"{address}&sid={session}", content="40")
            assert client.get(f"{address}&sid={session}").text == RELOAD
            with client.websocket_connect(websocket(address)) as socket:
                assert [socket.receive_text()[:1], socket.receive_text()] == ["0", RELOAD]
    assert core.sio.environ.keys() <= before
    assert core.sio.eio.sockets.keys() <= before


def test_a_page_connects_a_few_times(setup: Setup) -> None:
    """Not even an open page keeps us busy with any number of connections."""
    with visitor(setup) as client:
        page = page_id(client.get("/").text)
        for _ in range(3 * MAX_SOCKETS):
            client.get(f"{POLLING}&client_id={page}")
        assert len(environs(page)) == MAX_SOCKETS


def test_pages_that_nobody_opens(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pages that are loaded and never connect only so many are kept, the newest ones."""
    monkeypatch.setattr(sockets, "MAX_NEW_PAGES", 3)
    with visitor(setup) as client:
        pages = [page_id(client.get("/").text) for _ in range(6)]
        assert list(Client.instances)[-3:] == pages[-3:]
        assert not Client.instances.keys() & set(pages[:3])
