"""Pages of other sites in a real browser: those of an allowed origin tell of their calls, others do not."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.calls import load_call
from tests.acceptance.browser import BROWSER, DRIVER, Browser
from tests.integration.conftest import Setup, until
from tests.integration.media import CALL_ID, DEVICE, SECRET, a_token, path_of, report, sample

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium and chromium-driver"),
]

TELL = """
const [address, token, report, done] = arguments;
const headers = {Authorization: `Bearer ${token}`};
fetch(address, {method: "POST", headers, body: JSON.stringify(report)}).then(
  async (answer) => done([answer.status, await answer.json(), answer.headers.get("Retry-After")]),
  (error) => done(["blocked", error.name, null]));
"""
BEACON = "return navigator.sendBeacon(arguments[0], JSON.stringify(arguments[1]))"
IMPORT = "const done = arguments[1]; import(arguments[0]).then((it) => done(Object.keys(it)), () => done('blocked'))"


class Page(BaseHTTPRequestHandler):
    """A page with nothing on it."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>A phone</title>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def sites() -> Iterator[list[str]]:
    """Two sites; pages of the first may tell."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield [f"http://localhost:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def setup(sites: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """A companion that takes at most five reports of a call in a minute."""
    folder, listen = tmp_path_factory.mktemp("companion"), f"127.0.0.1:{find_free_port()}"
    with EmbeddedRedis(folder / "redis", persistent=False) as redis:
        media = {"secret": SECRET, "origins": sites[:1], "reports_per_minute": 5}
        setup = Setup(redis, folder, api={"listen": listen, "dashboard": False}, media=media)
        with setup.process("api"):
            until(lambda: is_alive(listen), 60)
            yield setup
        setup.store.close()


def is_alive(listen: str) -> bool:
    try:
        return httpx2.get(f"http://{listen}/healthz").status_code == 200
    except httpx2.ConnectError:
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("browser"), "")
    yield browser
    browser.driver.quit()


def here(setup: Setup, path: str) -> str:
    return f"http://{setup.config.api.listen}{path}"


def tell(browser: Browser, setup: Setup, token: str, *items: Any) -> Any:
    return browser.driver.execute_async_script(TELL, here(setup, path_of()), token, report(*items))


def stored(setup: Setup) -> int:
    call = load_call(setup.store, DEVICE, CALL_ID)
    return call.totals.items if call else 0


def test_an_allowed_page(browser: Browser, setup: Setup, sites: list[str]) -> None:
    """It imports the collector, tells, reads every answer, and says its last word in a beacon."""
    browser.driver.get(sites[0])
    assert "LastMile" in browser.driver.execute_async_script(IMPORT, here(setup, "/static/last-mile.js"))
    assert tell(browser, setup, a_token(), sample(0)) == [200, {"stored": 1, "next": 1, "advice": None}, None]
    status, problem, _ = tell(browser, setup, a_token(seconds=-1), sample(1))
    assert (status, problem["type"].rpartition(":")[2]) == (401, "token-expired")
    last = report(sample(1), token=a_token())
    assert browser.run(BEACON, here(setup, path_of()), last)
    until(lambda: stored(setup) == 2)
    answers = [tell(browser, setup, a_token(), sample(2)) for _ in range(4)]
    assert [answer[0] for answer in answers] == [200, 200, 200, 429]
    assert 0 < int(answers[-1][2]) <= 12


def test_a_foreign_page(browser: Browser, setup: Setup, sites: list[str]) -> None:
    """It gets nothing and reads nothing, and its beacon is refused though it has a good token."""
    before = stored(setup)
    browser.driver.get(sites[1])
    assert browser.driver.execute_async_script(IMPORT, here(setup, "/static/last-mile.js")) == "blocked"
    assert tell(browser, setup, a_token(), sample(50))[0] == "blocked"
    last = report(sample(50), token=a_token())
    browser.run(BEACON, here(setup, path_of()), last)
    until(lambda: 'why="foreign-page"} 1.0' in httpx2.get(here(setup, "/metrics")).text)
    assert stored(setup) == before
