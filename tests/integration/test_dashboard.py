"""The dashboard's pages as a server answers them, without a browser."""

from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from companion.dashboard.reader_threads import ReaderThreads
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
    return TestClient(app, base_url=f"http://{HOST}", headers=headers, follow_redirects=False)


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
