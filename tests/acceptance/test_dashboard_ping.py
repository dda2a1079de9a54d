"""The button that pings a device, in a real browser, with a simulated OpenSIPS that answers for its phones."""

import asyncio
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import pytest

from companion.simulator.mi_datagram import SimulatedMiDatagram
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.timeline import load_timeline
from companion.text import Json
from tests.acceptance import browser as chromium
from tests.acceptance.browser import Browser
from tests.acceptance.test_dashboard import OPERATE, OPERATE_SECRET, PAYLOAD, READ, READ_SECRET, SCREENSHOTS
from tests.integration.conftest import Setup, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (chromium.BROWSER and chromium.DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]

SPEED: Final = 20.0
ALICE: Final = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001"
BOB: Final = "bob/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000002"
PATHS: Final = {ALICE: "/devices/alice", BOB: "/devices/bob"}


class World:
    """A companion in a process of its own, and a simulated OpenSIPS with two phones in a thread."""

    def __init__(self, setup: Setup, probe_port: int) -> None:
        self.setup = setup
        self.site = f"http://{setup.config.api.listen}"
        phones = [
            SimulatedPhone(device.partition("/")[0], device.rpartition(":")[2], latency_ms=30, jitter=0.05)
            for device in PATHS
        ]
        self.opensips = SimulatedOpenSIPS(
            "opensips",
            phones,
            events_to=setup.udp,
            probe_listen=f"127.0.0.1:{probe_port}",
            ping_interval=3600,
            speed=SPEED,
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self.opensips.start())

    def call(self, work: Any) -> Any:
        """Run a coroutine in the thread of the simulation."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def act(self, name: str, phone: str) -> None:
        """Let a phone do something."""

        async def work() -> None:
            getattr(self.opensips, name)(phone)

        self.call(work())

    def runs(self, device: str) -> list[Json]:
        entries = load_timeline(self.setup.store, device, 0, 1 << 52)
        return [entry for entry in entries if entry["event"] == "pinged"]

    def close(self) -> None:
        self.call(self.opensips.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.setup.store.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port = tmp_path_factory.mktemp("dashboard"), find_free_port()
    api = {"listen": f"127.0.0.1:{find_free_port()}", "tokens": [OPERATE.line, READ.line], "open_reads": False}
    with EmbeddedRedis(folder / "redis") as redis:
        setup = Setup(redis, folder, api=api)
        with setup.process(COMPANION_OPENSIPS=f'[{{"node":"opensips","probe_url":"udp:127.0.0.1:{port}"}}]'):
            until(lambda: setup.feed().heartbeat_at, 60)
            world = World(setup, port)
            until(lambda: len(setup.pages()) == len(PATHS))
            yield world
            world.close()


@pytest.fixture(scope="module")
def window(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser"), world.site)
    yield opened
    opened.close()


@pytest.fixture
def browser(window: Browser) -> Browser:
    window.driver.get(f"{window.site}/healthz")
    window.driver.delete_all_cookies()
    window.log_in(OPERATE_SECRET)
    window.complaints()
    return window


def drawn(browser: Browser, name: str) -> list[Any]:
    """Return the points of a series of the live graph that have a value."""
    points = browser.run(_LIVE_SERIES, name) or []
    return [point for point in points if point[1] is not None]


def test_a_device_is_pinged(world: World, browser: Browser) -> None:
    """Each second a round trip is drawn; stopped, the run is one entry of the timeline on the same page."""
    browser.open(PATHS[ALICE])
    browser.press("Ping for a minute")
    browser.until(lambda: len(drawn(browser, "Round trip")) >= 3)
    points = drawn(browser, "Round trip")
    assert all(20 <= milliseconds < 1000 for _, milliseconds, *_ in points)
    assert all(later[0] - earlier[0] >= 900 for earlier, later in pairwise(points))
    assert "200 OK" in browser.text
    browser.shoot(SCREENSHOTS / "ping-1440-light.png")
    browser.look(390, "dark")
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    assert not browser.contrasts()
    browser.shoot(SCREENSHOTS / "ping-390-dark.png")
    browser.look(1440)
    browser.press("Stop")
    browser.until(lambda: "Pinged on request" in browser.text)
    (run,) = world.runs(ALICE)
    assert run["answered"] == run["count"] >= 3
    assert f"{run['answered']} of {run['count']} answered" in browser.text
    browser.find("button[type=button]")
    assert not browser.complaints()


def test_a_silent_device(world: World, browser: Browser) -> None:
    """A ping without an answer is a cross."""
    browser.open(PATHS[BOB])
    world.act("mute", "bob")
    browser.press("Ping for a minute")
    browser.until(lambda: drawn(browser, "Lost"))
    browser.press("Stop")
    assert not drawn(browser, "Round trip")
    world.act("unmute", "bob")


def test_a_reply_that_lies(world: World, browser: Browser) -> None:
    """What a phone says in its status line stays text."""
    world.opensips.mi_datagram.reason = PAYLOAD
    browser.open(PATHS[ALICE])
    browser.press("Ping for a minute")
    browser.until(lambda: PAYLOAD[:60] in browser.text)
    browser.press("Stop")
    assert browser.run("return window.pwned") is None
    assert not browser.count("#app img, #app script, #app [onload], #app [onerror]")
    world.opensips.mi_datagram.reason = SimulatedMiDatagram.reason


def test_a_device_that_left(world: World, browser: Browser) -> None:
    """The page says why a device can not be pinged, and what to do."""
    world.act("unregister", "bob")
    until(lambda: world.setup.page(BOB)["status"] == "offline")
    browser.open(PATHS[BOB])
    browser.press("Ping for a minute")
    browser.until(lambda: "It can not be pinged" in browser.text)
    assert "try again when it has registered" in browser.text
    world.act("switch_on", "bob")


def test_who_may_only_look(world: World, browser: Browser) -> None:
    """Without the right there is no button, and a browser that sends what a button would is not heeded."""
    browser.driver.delete_all_cookies()
    browser.log_in(READ_SECRET)
    browser.open(PATHS[ALICE])
    browser.until(lambda: "Log in with a token of scope operate" in browser.text)
    before = len(world.opensips.questions)
    browser.run(_FORGE, "ping", "")
    browser.driver.find_element("link text", "7d").click()
    browser.until(lambda: browser.find(".choice [aria-current]").text == "7d")
    assert len(world.opensips.questions) == before


_FORGE: Final = """
const part = document.querySelector('#ping-now-title').closest('.part');
getElement(part.id.slice(1)).$emit('act', {name: arguments[0], value: arguments[1]});
"""
_LIVE_SERIES: Final = """
const graph = document.querySelector('.live-graph');
const drawn = (graph && getElement(graph.id.slice(1))?.chart?.getOption()?.series) ?? [];
return drawn.find((series) => series.name === arguments[0])?.data;
"""
