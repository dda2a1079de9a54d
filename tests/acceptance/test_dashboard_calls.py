"""Pages of calls as people see them: a real browser, a real companion, reports as pages send them, and pages that lie.

Screenshots of every page, narrow and wide, light and dark, go to the folder that SCREENSHOTS names, else .screenshots/.
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.remote.webelement import WebElement

from companion.dashboard.markup.call_cells import call_address
from companion.opensips.events import INSERT, LATENCY, LOST_PING_US
from companion.query.reader import Reader
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.times import epoch_ms
from companion.tokens import access
from companion.tokens import call as token
from companion.tokens.call import Claims
from tests.acceptance import browser as chromium
from tests.acceptance.browser import Browser, Scheme
from tests.acceptance.scripted import BAD, GOOD, RELAY, RELAYED, ScriptedCall, eventful
from tests.integration.conftest import Setup, message, phone_event, record_events, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (chromium.BROWSER and chromium.DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]

READ_SECRET, READ = access.make("ben", "read")
SECRET: Final = "the secret that signs tokens of calls, for this test"
PAYLOAD: Final = "<img src=x onerror=window.pwned=1>\"'{{window.pwned=1}}</script><svg onload=window.pwned=1>"
EVIL: Final = f"evil {PAYLOAD}"
DAVE: Final = "dave/urn:uuid:00000000-0000-4000-8000-00000000000d"
ALICE: Final = "alice/urn:uuid:00000000-0000-4000-8000-00000000000a"
LIAR: Final = f"{EVIL}/urn:uuid:00000000-0000-4000-8000-00000000000e"
EVENTFUL: Final = "a84b4c76e66710@phone.example.com"
RUNNING: Final = "running@phone.example.com"
BOTH: Final = "both/sides@phone.example.com"
FAILED: Final = "failed@phone.example.com"
PING_SECONDS: Final = 30
MINUTE_MS: Final = 60_000
SCREENSHOTS: Final = Path(os.environ.get("SCREENSHOTS", ".screenshots"))


class World:
    """A companion to which pages have told of their calls, of devices that OpenSIPS has pinged meanwhile."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.site = f"http://{setup.config.api.listen}"
        self.reader = Reader(setup.config, setup.store)
        self.began = self.now() - 30 * MINUTE_MS
        self.going: ScriptedCall | None = None
        self._ping()

    @staticmethod
    def now() -> int:
        return int(time.time() * 1000)

    def _ping(self) -> None:
        """An hour of pings of each device, as a recorder stores them; dave's are bad in his call's bad minutes."""
        events = sorted(
            (event for n, device in enumerate((DAVE, ALICE, LIAR)) for event in self._events(device, n)),
            key=lambda event: event[2],
        )
        seqs = {event: count() for event in (INSERT, LATENCY)}
        batch = [message(event, params, ts, next(seqs[event])) for event, params, ts in events]
        record_events(self.setup, batch)

    def _events(self, device: str, n: int) -> Iterator[tuple[str, dict[str, Any], int]]:
        aor, _, instance = device.rpartition("/")
        first = self.began - 10 * MINUTE_MS + n
        uri = f"sip:phone{n}@192.0.2.1"
        yield INSERT, phone_event(aor, attr=f"<{instance}>", uri=uri), first
        for ts in range(first + 1000, self.now(), PING_SECONDS * 1000):
            lost = device == DAVE and 9 * MINUTE_MS < ts - self.began < 10 * MINUTE_MS
            slow = device == DAVE and 2 * MINUTE_MS < ts - self.began < 4 * MINUTE_MS
            latency_us = LOST_PING_US if lost else 190_000 if slow else 45_000
            yield LATENCY, phone_event(aor, attr=f"<{instance}>", uri=uri, latency=latency_us), ts

    def tell(self, call: ScriptedCall) -> None:
        """As the page that makes the call does."""
        claims, now = Claims(call.device, call.call_id), self.now()
        call.post(self.setup.config.api.listen, token.make(SECRET, claims, now // 1000, 600), now)

    def tell_all(self) -> ScriptedCall:
        """Every call there is; the one that goes on."""
        self.tell(eventful(DAVE, EVENTFUL, self.began, "sip:support@example.com"))
        self.tell(self._call(ALICE, BOTH, 400, "sip:dave@example.com", "in").begin(RELAY).seconds(90, RELAYED).end())
        self.tell(self._call(DAVE, BOTH, 400, "sip:alice@example.com").begin().seconds(90).end("lost", "ICE failed"))
        self.tell(self._call(DAVE, FAILED, 500, "sip:nobody@example.com").end("failed", "486 Busy Here"))
        self.tell(self._lie())
        for n in range(12):
            call = self._call(ALICE, f"short-{n}@phone.example.com", 100 * (n + 2), "sip:dave@example.com")
            self.tell(call.begin().seconds(40, (GOOD, RELAYED, BAD)[n % 3]).end())
        going = self._call(DAVE, RUNNING, 95, "sip:bob@example.com", "in").begin().seconds(90)
        self.tell(going)
        return going

    def _call(self, device: str, call_id: str, seconds_ago: int, peer: str, direction: str = "out") -> ScriptedCall:
        return ScriptedCall(device, call_id, self.now() - 1000 * seconds_ago, peer, direction)

    def _lie(self) -> ScriptedCall:
        call = self._call(LIAR, EVIL, 600, EVIL, "in")
        path = dict.fromkeys(("local", "remote", "protocol", "relay", "network", "local_address"), EVIL)
        call.happen("codec", **{"in": "opus/48000/2", "out": EVIL}).happen("path", **path).seconds(30)
        call.happen("path", **path).happen("ice", state=EVIL).happen("network", type=EVIL, effective=EVIL)
        call.happen("limit", max_bps=EVIL, by=EVIL).happen("switch-over", reason=EVIL, result=EVIL, media_ms=EVIL)
        return call.happen("never-heard-of", said=EVIL).seconds(30, BAD).end("failed", EVIL)

    def call(self, call_id: str, device: str = DAVE) -> dict[str, Any]:
        return self.reader.call(call_id, device)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("calls")
    api = {"listen": f"127.0.0.1:{find_free_port()}", "tokens": [READ.line], "open_reads": False}
    with EmbeddedRedis(folder / "redis") as redis:
        setup = Setup(redis, folder, api=api, media={"secret": SECRET}, pings={"interval": PING_SECONDS})
        made = World(setup)
        with setup.process("api"):
            until(lambda: _answers(setup.config.api.port), 60)
            made.going = made.tell_all()
            yield made
        setup.store.close()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def window(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser"), world.site)
    opened.log_in(READ_SECRET)
    yield opened
    opened.close()


@pytest.fixture
def browser(window: Browser) -> Browser:
    """Logged in as one who may only look, and nothing to complain about yet."""
    window.look(1440)
    window.requests()
    window.complaints()
    return window


PAGES: Final = {
    "calls": "/calls",
    "call": call_address(EVENTFUL, DAVE),
    "running-call": call_address(RUNNING, DAVE),
    "failed-call": call_address(FAILED, DAVE),
    "both-calls": call_address(BOTH),
    "liars-call": call_address(EVIL, LIAR),
    "stream-history": "/devices/dave?window=3h",
    "liars-history": f"/devices/{quote(LIAR, safe='')}",
}


def measured_points(rows: list[list[Any]], place: int) -> list[list[Any]]:
    """When something was measured, and what."""
    return [[row[0], row[place]] for row in rows if row[place] is not None]


def test_support_follows_a_call(world: World, browser: Browser) -> None:
    """From a device's Stream history to the call: how it sounded, whose fault it was, and graphs of what is stored."""
    browser.open("/devices/dave?window=3h")
    rows = browser.driver.find_elements("css selector", "[aria-labelledby=stream-history-title] tbody tr")
    assert len(rows) == 4
    row = next(row for row in rows if "alice@example.com" in row.text)
    assert all(words in row.text for words in ("to", "1 min 30 s", "lost", "ICE failed", "best", "0%", "direct udp"))
    row.find_element("css selector", "[data-row]").click()
    browser.until(lambda: browser.series("MOS"))
    call = world.call(BOTH)
    drawn = {name: [point[:2] for point in browser.series(name)][1:] for name in ("MOS", "Round trip", "Jitter")}
    assert drawn == {
        name: measured_points(call["samples"], place) for name, place in (("MOS", 7), ("Round trip", 2), ("Jitter", 3))
    }
    pings = [list(ping) for ping in call["pings"]]
    assert [point[:2] for point in browser.series("OPTIONS")] == [ping for ping in pings if _is_near(ping[0], call)]
    assert f"{call['mos']:.2f}" in browser.find(".big").text
    assert "best" in browser.find(".big").text


def test_verdict_comes_with_its_evidence(world: World, browser: Browser) -> None:
    """The verdict is there in words, with all that speaks for it, for the call and for each bad minute."""
    browser.open(PAGES["call"])
    call = world.call(EVENTFUL)
    assert call["verdict"]["bad_minutes"]
    for reason in call["verdict"]["evidence"]:
        assert reason in browser.find(".evidence").text
    for minute, line in zip(call["verdict"]["bad_minutes"], _bad_minutes(browser), strict=True):
        assert minute["evidence"][0] in line.text
    assert f"{len(call['verdict']['bad_minutes'])} bad minutes" in str(
        browser.find(".graph").get_attribute("aria-label")
    )


def test_everything_is_on_one_clock(world: World, browser: Browser) -> None:
    """Pings, lost ones, mutes, holds and changes of network stand below the sound they go with, and in words."""
    browser.open(PAGES["call"])
    browser.until(lambda: browser.series("MOS"))
    call = world.call(EVENTFUL)
    assert [point[0] for point in browser.series("Lost")] == [ts for ts, ms in call["pings"] if ms is None]
    drawn = browser.find(".graph svg").text
    assert all(word in drawn for word in ("muted", "held", "hidden", "offline", "gap", "lost", "bad", "media"))
    assert all(words in drawn for words in ("switch-over 1.2 s", "ICE restart", "path: relay", "limit 16 kbit/s"))
    happenings = browser.find("[aria-labelledby=in-the-call-title]").text
    assert all(
        words in happenings
        for words in ("Switched over in 1.2 s", "Media goes through a relay", "The device went offline")
    )


def test_pointer_tells_the_figures(world: World, browser: Browser) -> None:
    """Wherever the pointer is, the graph says what was measured then; a lost ping only where one was lost."""
    browser.open(PAGES["call"])
    browser.until(lambda: browser.series("MOS"))
    call = world.call(EVENTFUL)
    (lost, *_) = (ts for ts, ms in call["pings"] if ms is None)
    _point(browser, lost)
    browser.until(lambda: "Lost ping" in browser.find(".tooltip").text)
    assert all(name in browser.find(".tooltip").text for name in ("MOS", "Round trip", "Jitter", "Bitrate in"))
    _point(browser, world.began + MINUTE_MS)
    browser.until(lambda: "Lost ping" not in browser.find(".tooltip").text)


def test_a_bad_minute_is_looked_at(world: World, browser: Browser) -> None:
    """A bad minute leads to the graph of it, at an address to share, and back; the page is not loaded again."""
    browser.open(PAGES["call"])
    browser.until(lambda: browser.series("MOS"))
    browser.run("window.stayed = true")
    whole = browser.run(_AXIS)
    _bad_minutes(browser)[0].find_element("tag name", "a").click()
    browser.until(lambda: browser.run(_AXIS) != whole)
    minute = int(parse_qs(urlsplit(browser.driver.current_url).query)["minute"][0])
    assert browser.run(_AXIS) == [minute - 30_000, minute + 90_000]
    assert all(minute - 31_000 <= point[0] <= minute + 91_000 for point in browser.series("MOS"))
    browser.driver.back()
    browser.until(lambda: browser.run(_AXIS) == whole)
    assert browser.run("return window.stayed")


def test_a_call_that_goes_on_is_followed(world: World, browser: Browser) -> None:
    """New samples, a mute and the end of a call show by themselves, on its page and in its device's history."""
    assert world.going
    world.going.clock = world.now() - 5000
    world.tell(world.going.seconds(5))
    browser.open(PAGES["running-call"])
    browser.until(lambda: browser.series("MOS"))
    browser.run("window.stayed = true")
    assert browser.count("h1 .mark.online") == 1
    last = browser.series("MOS")[-1][0]
    world.tell(world.going.happen("muted").seconds(5, BAD, ("muted",)))
    browser.until(lambda: browser.series("MOS")[-1][0] > last)
    browser.until(lambda: "Muted" in browser.find("[aria-labelledby=in-the-call-title]").text)
    drawn = [point[:2] for point in browser.series("MOS")]
    missing = [measured for measured in measured_points(world.call(RUNNING)["samples"], 7) if measured not in drawn]
    assert not missing
    world.tell(world.going.end("hangup", "goodbye"))
    browser.until(lambda: "hung up" in browser.find("h1").text)
    assert "goodbye" in browser.find(".when").text
    assert browser.run("return window.stayed")


def test_both_sides_of_a_call_are_told_apart(browser: Browser) -> None:
    """A Call-ID that two devices told of asks for whose; each side leads to the other."""
    browser.open(PAGES["both-calls"])
    assert "2 devices took part in this call" in browser.find("h1").text
    browser.driver.find_element("partial link text", "alice").click()
    browser.until(lambda: "Call from dave@example.com" in browser.text)
    browser.find(".legs a").click()
    browser.until(lambda: "Call to alice@example.com" in browser.text)


def test_the_fleets_calls_are_looked_through(world: World, browser: Browser) -> None:
    """How calls sound stands on top; a filter and a search find calls, and are an address to share."""
    browser.open("/calls")
    quality = world.reader.media()
    summary = browser.find("[aria-labelledby=quality-of-the-last-hour-title]").text
    assert all(figure in summary for figure in (f"{quality['mos']['p50']:.2f}", f"{quality['relay_share']:.1%}"))
    bars = browser.find("[aria-labelledby=how-calls-sound-title]").text
    assert all(word in bars for word in ("best", "high", "medium", "low", "poor", "bad", "not scored"))
    every = browser.count("[data-row]")
    browser.run("arguments[0].click()", browser.driver.find_element("css selector", ".chips a[href*=bad]"))
    browser.until(lambda: 0 < browser.count("[data-row]") < every)
    assert "worst=bad" in browser.driver.current_url
    browser.find("input[name=text]").send_keys("support@")
    browser.until(lambda: browser.count("[data-row]") == 1)
    assert "text=support" in browser.driver.current_url
    browser.open("/calls?text=486+busy")
    assert browser.count("[data-row]") == 1
    browser.open("/calls?text=nobody-called")
    assert "No call fits these filters" in browser.text


def test_lies_are_only_text(browser: Browser) -> None:
    """Markup in Call-ID, peer, reasons and all fields of what happened is read as it was said, and does nothing."""
    for name, path in PAGES.items():
        browser.open(path)
        if name in ("calls", "liars-call", "liars-history"):
            browser.until(lambda: PAYLOAD in browser.text)
        assert browser.run("return window.pwned") is None, name
        assert not browser.count("#app img, #app script, #app [onload], #app [onerror], #app iframe"), name
    browser.open(PAGES["liars-call"])
    browser.until(lambda: browser.series("MOS"))
    assert PAYLOAD in browser.find("h1").text
    assert "never-heard-of" in browser.find("[aria-labelledby=in-the-call-title]").text
    assert "window.pwned" not in browser.run("return document.querySelector('.graph').innerHTML")
    assert not browser.complaints()


def test_liars_call_is_found_by_its_link(browser: Browser) -> None:
    """A call whose Call-ID and device are made of markup has a page that its link leads to."""
    browser.open(f"/calls?{urlencode({'text': 'pwned'})}")
    browser.find("[data-row]").click()
    browser.find("#clock")
    assert PAYLOAD in browser.find(".call-title .mono").text


def test_keyboard_is_enough(browser: Browser) -> None:
    """/ leads to the search, arrows through the calls, Enter to one; its minutes unfold without a mouse."""
    browser.open("/calls")
    browser.driver.find_element("tag name", "body").send_keys("/")
    assert browser.focused == "text"
    browser.keys(Keys.ARROW_DOWN)
    browser.keys(Keys.ARROW_DOWN)
    browser.keys(Keys.ENTER)
    summary = browser.find("details summary")
    browser.run("arguments[0].focus()", summary)
    browser.keys(Keys.ENTER)
    browser.until(lambda: browser.count("details[open] tbody tr"))


def test_times_are_the_viewers(world: World, browser: Browser) -> None:
    """When a call began is told in the zone of who looks, and in UTC on hovering."""
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    try:
        browser.open(PAGES["call"])
        element = browser.find(".when time")
        at = str(world.call(EVENTFUL)["started_at"])
        assert element.get_attribute("title") == f"{at[:10]} {at[11:19]} UTC"
        assert browser.run("return new Date(arguments[0]).toTimeString().slice(0, 8)", at) in element.text
        assert at[11:19] not in element.text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_nothing_leaves_the_machine(browser: Browser) -> None:
    """No page asks anybody but the companion for anything."""
    for path in PAGES.values():
        browser.open(path)
    addresses = browser.requests()
    assert any(address.startswith("ws:") for address in addresses)
    assert {urlsplit(address).hostname for address in addresses if not address.startswith(("data:", "blob:"))} == {
        "127.0.0.1"
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_can_be_read(browser: Browser, scheme: Scheme) -> None:
    """Every text, those of the graph too, stands out from its ground as WCAG AA asks for, in light and in dark."""
    browser.look(1440, scheme)
    for name, path in PAGES.items():
        browser.open(path)
        if "call" in name and name not in ("calls", "both-calls", "failed-call"):
            browser.until(lambda: browser.series("MOS"))
        assert not browser.contrasts(), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_has_its_picture(browser: Browser, width: int, scheme: Scheme) -> None:
    """Each page fits into a desk's screen and a phone's, and the browser has nothing to say against it."""
    for name, path in PAGES.items():
        browser.look(width, scheme)
        browser.open(path)
        assert browser.run("return document.documentElement.scrollWidth") <= width, name
        browser.shoot(SCREENSHOTS / f"{name}-{width}-{scheme}.png")
        assert not browser.complaints(), name


def test_there_is_no_such_call(browser: Browser) -> None:
    """A call that is not known says so, and where the others are."""
    browser.driver.get(f"{browser.site}/calls/nobody")
    browser.until(lambda: "No such call" in browser.text)
    browser.driver.get(f"{browser.site}{call_address(EVENTFUL, ALICE)}")
    browser.until(lambda: "No such call" in browser.text)


def test_nobody_looks_without_a_token(browser: Browser) -> None:
    """Who is not logged in is led to the login, and from there to the call they wanted to see."""
    browser.driver.delete_all_cookies()
    browser.driver.get(browser.site + PAGES["call"])
    browser.find("input[name=token]").send_keys(READ_SECRET + Keys.ENTER)
    browser.find("#clock")
    assert "support@example.com" in browser.find("h1").text


def _is_near(at: int, call: dict[str, Any]) -> bool:
    """Whether a ping is near enough to a call to be on its graph, or the end of a line that is."""
    margin_ms = 10_000 + 1000 * PING_SECONDS
    return epoch_ms(call["started_at"]) - margin_ms <= at <= epoch_ms(call["ended_at"]) + margin_ms


def _bad_minutes(browser: Browser) -> list[WebElement]:
    browser.find(".bad-minutes li")
    return browser.driver.find_elements("css selector", ".bad-minutes li")


def _point(browser: Browser, at: int) -> None:
    """Put the mouse on the graph at this time, in its first panel."""
    browser.run("document.querySelector('.graph').scrollIntoView({block: 'start'})")
    x, y = browser.run(_PLACE, at)
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})


_AXIS: Final = """
const {min, max} = getElement(document.querySelector('.graph').id.slice(1)).chart.getOption().xAxis[0];
return [min, max];
"""
_PLACE: Final = """
const graph = document.querySelector('.graph'), chart = getElement(graph.id.slice(1)).chart;
const box = graph.getBoundingClientRect();
const panel = chart.getOption().series.find((series) => series.name === 'MOS').xAxisIndex;
const [x, y] = chart.convertToPixel({gridIndex: panel}, [arguments[0], 3]);
return [box.x + x, box.y + y];
"""
