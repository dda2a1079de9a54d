"""The ladder of a SIP trace in a real browser: live while recording, by keyboard, and hostile text stays text."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, get_args

import pytest
from selenium.webdriver import Keys

from companion.opensips.hep import HepPacket
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import SimulatedPhone
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.sip import network_address
from tests.acceptance import browser as chromium
from tests.acceptance.browser import Browser, Scheme
from tests.acceptance.test_dashboard import OPERATE, OPERATE_SECRET, PAYLOAD, READ, READ_SECRET, SCREENSHOTS
from tests.integration.conftest import Setup, until
from tests.unit.trace.messages import encode_hep, sip

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (chromium.BROWSER and chromium.DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]

ALICE: Final = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001"
PATH: Final = "/traces/alice"
EDGE, BOB = "198.51.100.1:8080", "203.0.113.9:5060"
HOSTILE: Final = PAYLOAD.replace("\r", "").replace("\n", "")


class World:
    """A companion in a process of its own, a simulated OpenSIPS with a phone in a thread, and what mirrors messages."""

    def __init__(self, setup: Setup, hep: int, mi: int) -> None:
        self.setup = setup
        self.site = f"http://{setup.config.api.listen}"
        phone = SimulatedPhone("alice", ALICE.rpartition(":")[2], latency_ms=30)
        self.opensips = SimulatedOpenSIPS(
            "opensips", [phone], events_to=setup.udp, mi_listen=f"127.0.0.1:{mi}", ping_interval=3600, speed=20
        )
        self._hep = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._hep.connect(("127.0.0.1", hep))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.call(self.opensips.start())

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    @property
    def phone(self) -> str:
        contact = self.setup.page(ALICE)["contacts"][0]
        return network_address(contact["received"], contact["uri"])

    def mirror(self, source: str, target: str, message: bytes) -> None:
        """Send a message as OpenSIPS mirrors it."""
        self._hep.send(encode_hep(HepPacket(time.time_ns() // 1000, "ws", source, target, message)))

    def close(self) -> None:
        self.call(self.opensips.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._hep.close()
        self.setup.store.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, hep, mi = tmp_path_factory.mktemp("dashboard"), find_free_port(), find_free_port()
    api = {"listen": f"127.0.0.1:{find_free_port()}", "tokens": [OPERATE.line, READ.line], "open_reads": False}
    with EmbeddedRedis(folder / "redis") as redis:
        setup = Setup(redis, folder, api=api, bridge={"hep": f"udp:127.0.0.1:{hep}"})
        table = f'[{{"node":"opensips","mi_url":"http://127.0.0.1:{mi}/mi"}}]'
        with setup.process(COMPANION_OPENSIPS=table):
            until(lambda: setup.feed().heartbeat_at, 60)
            world = World(setup, hep, mi)
            until(lambda: len(setup.pages()) == 1)
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


def call(world: World) -> None:
    """Let alice call a busy phone that answers with hostile text, and send her INVITE twice."""
    phone = world.phone
    from_ = f'"{HOSTILE}" <sip:alice@example.com>;tag=1'
    invite = sip("INVITE sip:bob@example.com", from_=from_, body="v=0\r\na=ice-pwd:s3cr3t\r\n")
    world.mirror(phone, EDGE, invite)
    world.mirror(EDGE, phone, sip("100 Trying", cseq="1 INVITE", from_=from_))
    world.mirror(EDGE, BOB, invite)
    time.sleep(0.3)  # a retransmission comes later
    world.mirror(EDGE, BOB, invite)
    world.mirror(BOB, EDGE, sip(f"486 {HOSTILE}", cseq="1 INVITE", from_=from_))
    world.mirror(EDGE, phone, sip(f"486 {HOSTILE}", cseq="1 INVITE", from_=from_))


def test_a_recording(world: World, browser: Browser) -> None:
    """Pressed, messages appear by themselves; a message's text opens by keyboard; hostile text stays text."""
    browser.open("/devices/alice")
    browser.driver.find_element("link text", "SIP trace").click()
    browser.press("Record")
    browser.until(lambda: "Recording ends" in browser.text)
    assert world.opensips.mi.traces
    call(world)
    browser.until(lambda: browser.count(".ladder .step") == 6)
    assert "Call failed (486" in browser.text
    assert browser.count(".ladder .failed") == 2
    assert browser.count(".ladder .repeat") == 1
    browser.run("document.querySelector('.ladder .step').focus()")
    browser.keys(Keys.ENTER)
    browser.until(lambda: browser.count(".sip-text") == 1)
    assert "CSeq: 1 INVITE\n" in browser.find(".sip-text").text
    assert "a=ice-pwd:***" in browser.text
    assert "s3cr3t" not in browser.driver.page_source
    assert browser.run("return window.pwned") is None
    assert not browser.count("#app img, #app script, #app [onload], #app [onerror]")
    assert "from Phone to opensips" in str(browser.find(".ladder .step").get_attribute("aria-label"))
    for width in (1440, 390):
        for scheme in get_args(Scheme):
            browser.look(width, scheme)
            assert browser.run("return document.documentElement.scrollWidth") <= width
            assert not browser.contrasts()
            browser.shoot(SCREENSHOTS / f"trace-{width}-{scheme}.png")
    browser.look(1440)
    browser.press("Stop recording")
    browser.until(lambda: "Not recorded now" in browser.text)
    assert not world.opensips.mi.traces
    browser.open("/devices/alice")
    browser.until(lambda: "Recording stopped" in browser.text)
    browser.open("/remediations")
    browser.until(lambda: "record: stopped" in browser.text)
    assert f"by {OPERATE.name}, for 15 minutes" in browser.text
    browser.shoot(SCREENSHOTS / "remediations-recorded-1440-light.png")
    assert not browser.complaints()


def test_filter(world: World, browser: Browser) -> None:
    """Messages can be chosen by method and call, and exported."""
    browser.open(PATH)
    browser.find(".ladder .step")
    choose(browser, "REGISTER", steps=0)
    choose(browser, "", steps=6)
    assert browser.count("a[download][href$='trace.pcap']") == 1


def test_who_may_only_look(world: World, browser: Browser) -> None:
    """Without the right there is no button, and a browser that sends what a button would is not heeded."""
    browser.driver.delete_all_cookies()
    browser.log_in(READ_SECRET)
    browser.open(PATH)
    browser.until(lambda: "Log in with a token of scope operate" in browser.text)
    browser.run(_FORGE, "record", "")
    choose(browser, "REGISTER", steps=0)
    assert not world.opensips.mi.traces


def choose(browser: Browser, method: str, *, steps: int) -> None:
    """Choose a method until so many messages are shown: a page that is not connected yet drops what is chosen."""
    browser.until(lambda: browser.run(_CHOOSE, "method", method) or browser.count(".ladder .step") == steps)


_CHOOSE: Final = """
const field = document.querySelector(`select[name=${arguments[0]}]`);
if (!field) return;
if (arguments[1] && ![...field.options].some((o) => o.value === arguments[1])) field.add(new Option('x', arguments[1]));
field.value = arguments[1];
field.dispatchEvent(new Event('input'));
"""
_FORGE: Final = """
const part = document.querySelector('#recording-title').closest('.part');
getElement(part.id.slice(1)).$emit('act', {name: arguments[0], value: arguments[1]});
"""
