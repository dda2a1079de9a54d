"""The dashboard as people see it: a real browser, a real companion, what a real OpenSIPS said, and phones that lie.

Screenshots of every page, narrow and wide, light and dark, go to the folder that SCREENSHOTS names, else .screenshots/.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest
from redis import Redis
from selenium.webdriver import Keys

from companion.opensips.events import INSERT, LATENCY, LOST_PING_US
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.simulator.replay import replay
from companion.times import iso
from companion.tokens import access
from tests.acceptance import browser as chromium
from tests.acceptance.browser import Browser, Scheme
from tests.integration.conftest import CAPTURE, Setup, Udp, notification, phone_event, until
from tests.integration.test_failover import halted, replicates

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (chromium.BROWSER and chromium.DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]

OPERATE_SECRET, OPERATE = access.make("anna", "operate")
READ_SECRET, READ = access.make("ben", "read")
DAVE: Final = "dave/urn:uuid:00000000-0000-4000-8000-00000000000d"
PAYLOAD: Final = (
    "<img src=x onerror=window.pwned=1>\"'{{window.pwned=1}}`${window.pwned=1}`</script><svg onload=window.pwned=1>"
)
EVIL: Final = f"evil {PAYLOAD}"
LIVE_SECONDS: Final = 110
"""Of the capture: behind it its phones hang up."""
SPEED: Final = 20
SCREENSHOTS: Final = Path(os.environ.get("SCREENSHOTS", ".screenshots"))


class World:
    """A companion with everything on, whose phones are those of the capture, and one that is up to no good."""

    def __init__(self, setup: Setup, redis: EmbeddedRedis) -> None:
        self.setup = setup
        self.redis = redis
        self.site = f"http://{setup.config.api.listen}"
        self._udp = Udp(setup.datagram)
        self.dave = self._replay()
        for event in (INSERT, LATENCY):
            self.say(event, self.evil(latency=30_000 if event == LATENCY else 0))

    def _replay(self) -> dict[str, Any]:
        """Play the capture; the parameters of dave's last ping."""
        lines = (CAPTURE / "event_datagram.jsonl").read_text().splitlines()
        early = [line for line in lines if json.loads(line)["t"] < LIVE_SECONDS]
        file = self.setup.folder / "early.jsonl"
        file.write_text("\n".join(early))
        asyncio.run(replay(file, self.setup.udp, SPEED))
        notifications = [json.loads(json.loads(line)["payload"]) for line in early]
        pings = [
            notification["params"]
            for notification in notifications
            if notification["method"] == LATENCY and notification["params"]["aor"] == "dave"
        ]
        last: dict[str, Any] = [ping for ping in pings if ping["latency"] != LOST_PING_US][-1]
        return last | {"expires": int(time.time()) + 3600}

    def evil(self, **params: Any) -> dict[str, Any]:
        lies = {"user_agent": EVIL, "attr": EVIL, "uri": f"sip:{PAYLOAD.replace(':', '')}@192.0.2.66"}
        return phone_event(EVIL, received=f"sip:192.0.2.66:5060;x={PAYLOAD}", **lies | params)

    def say(self, event: str, params: dict[str, Any]) -> None:
        self._udp.send(notification(event, params))

    def ping(self, latency_us: int) -> None:
        """Let dave's phone answer a ping, or lose one."""
        self.say(LATENCY, self.dave | {"latency": latency_us})

    def samples(self) -> list[Any]:
        return list(self.setup.page("dave")["samples"])

    def close(self) -> None:
        self._udp.__exit__()
        self.setup.store.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("dashboard")
    api = {"listen": f"127.0.0.1:{find_free_port()}", "tokens": [OPERATE.line, READ.line], "open_reads": False}
    with EmbeddedRedis(folder / "redis") as redis:
        setup = Setup(redis, folder, api=api, pings={"interval": 5}, remediation={"sweep_interval": 1})
        with setup.process():
            until(lambda: setup.feed().heartbeat_at, 60)
            made = World(setup, redis)
            until(lambda: any("evil" in device for device in setup.pages()))
            decide(made)
            yield made
            made.close()


def decide(world: World) -> None:
    """A decision of remediation about the liar, as a sweep writes it down."""
    device = next(name for name in world.setup.pages() if "evil" in name)
    words = dict.fromkeys(("aor", "uri", "node", "why", "result", "answer"), EVIL)
    numbers = {"since": int(time.time() * 1000), "lost": 3, "fence": 1, "duration_ms": 4, "attempt": 1, "after_ms": 0}
    decision = {"device": device, "contact": "c", "reason": "lost-pings", "action": "remove", "mode": "observe"}
    fields = [part for pair in (words | numbers | decision).items() for part in pair]
    world.setup.store.connection.call("XADD", world.setup.store.keys.remediations(), "*", *fields)


@pytest.fixture(scope="module")
def window(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser"), world.site)
    yield opened
    opened.close()


@pytest.fixture
def browser(window: Browser) -> Browser:
    """Logged in with the operate token, and nothing to complain about yet."""
    window.look(1440)
    window.driver.get(f"{window.site}/healthz")
    window.driver.delete_all_cookies()
    window.log_in(OPERATE_SECRET)
    window.requests()
    window.complaints()
    return window


def pages(world: World) -> dict[str, str]:
    """Every page, that of the liar too."""
    liar = next(name for name in world.setup.pages() if "evil" in name)
    return {
        "fleet": "/",
        "devices": "/devices",
        "device": "/devices/dave?window=3h",
        "liar": f"/devices/{quote(liar, safe='')}",
        "remediations": "/remediations",
    }


def test_nobody_looks_without_a_token(world: World, window: Browser) -> None:
    """Who is not logged in is led to the login, and from there to where they wanted to go."""
    window.driver.get(f"{world.site}/healthz")
    window.driver.delete_all_cookies()
    window.driver.get(f"{world.site}/devices?status=stale")
    window.find("input[name=token]").send_keys(READ_SECRET + Keys.ENTER)
    window.find(".chip[aria-pressed=true]")
    assert urlsplit(window.driver.current_url).query == "status=stale"


def test_support_finds_dave_and_looks_at_a_window(world: World, browser: Browser) -> None:
    """From the search to the device's page; a window is an address to share, and the graph shows what is stored."""
    browser.open("/devices")
    browser.find("input[name=search]").send_keys("dav")
    browser.until(lambda: browser.count("[data-row]") == 1)
    assert "search=dav" in browser.driver.current_url
    browser.find("[data-row]").click()
    browser.find(".graph svg")
    assert "Registration" in browser.text
    browser.driver.find_element("link text", "3h").click()
    browser.until(lambda: "window=3h" in browser.driver.current_url)
    stored = world.samples()
    answered = [[ts, ms] for ts, ms in stored if ms is not None]
    browser.until(lambda: [point[:2] for point in browser.series("Latency") if point[1] is not None] == answered)
    assert [point[0] for point in browser.series("Lost")] == [ts for ts, ms in stored if ms is None]
    assert f"{len(answered)}" in str(browser.find(".graph").get_attribute("aria-label"))


def test_going_back_goes_back(browser: Browser) -> None:
    """The browser's way back leads through the windows one looked at, without loading the page again."""
    browser.open("/devices/dave?window=3h")
    browser.run("window.stayed = true")
    browser.driver.find_element("link text", "7d").click()
    browser.until(lambda: browser.find(".choice [aria-current]").text == "7d")
    browser.driver.back()
    browser.until(lambda: browser.find(".choice [aria-current]").text == "3h")
    assert browser.run("return window.stayed")


def test_pings_appear_by_themselves(world: World, browser: Browser) -> None:
    """An answered ping and a lost one show without a reload, in the figures and in the graph."""
    browser.open("/devices/dave?window=3h")
    browser.until(lambda: browser.series("Latency"))
    browser.run("window.stayed = true")
    world.ping(217_000)
    browser.until(lambda: "217 ms" in browser.find(".big").text)
    assert "poor" in browser.find(".big").text
    lost = len(browser.series("Lost"))
    world.ping(LOST_PING_US)
    browser.until(lambda: len(browser.series("Lost")) == lost + 1)
    browser.until(lambda: browser.count("h1 .losing") == 1)
    world.ping(40_000)
    browser.until(lambda: browser.count("h1 .online") == 1)
    assert browser.run("return window.stayed")


def test_lies_are_only_text(world: World, browser: Browser) -> None:
    """HTML, scripts and templates in AOR, User-Agent, URI and audit are read as they were said, and do nothing."""
    for name, path in pages(world).items():
        browser.open(path)
        if name in ("devices", "liar", "remediations"):
            browser.until(lambda: PAYLOAD in browser.text)
        assert browser.run("return window.pwned") is None, name
        assert not browser.count("#app img, #app script, #app [onload], #app [onerror], #app iframe"), name
    assert not browser.complaints()


def test_liars_address_is_its_page(world: World, browser: Browser) -> None:
    """A device whose id is made of markup is found by its link, and only its title says its name."""
    browser.open(f"/devices?search={quote(EVIL, safe='')}")
    browser.find("[data-row]").click()
    browser.find(".graph")
    assert EVIL in browser.driver.title
    assert EVIL in browser.find("h1").text
    assert browser.run("return window.pwned") is None


def test_graph_tells_lies_as_text(world: World, browser: Browser) -> None:
    """What the graph says under the pointer is text as well."""
    browser.open(pages(world)["liar"])
    browser.until(lambda: browser.series("Latency"))
    graph = browser.find(".graph")
    browser.run("arguments[0].scrollIntoView({block: 'center'})", graph)
    chart = f"getElement({str(graph.get_attribute('id'))[1:]}).chart"
    browser.run(f"{chart}.dispatchAction({{type: 'showTip', seriesIndex: 0, dataIndex: 0}})")
    browser.until(lambda: "30 ms, excellent" in browser.find(".tooltip").text)


def test_nothing_leaves_the_machine(world: World, browser: Browser) -> None:
    """No page asks anybody but the companion for anything."""
    for path in pages(world).values():
        browser.open(path)
    addresses = browser.requests()
    assert any(address.startswith("ws:") for address in addresses)
    hosts = {urlsplit(address).hostname for address in addresses if not address.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"}


def test_keyboard_is_enough(browser: Browser) -> None:
    """The first stop leads to the content, / to the search, arrows through the list, Enter to a device."""
    browser.open("/devices")
    browser.keys(Keys.TAB)
    assert browser.focused == "Skip to the content"
    browser.keys(Keys.ENTER)
    browser.until(lambda: browser.run("return document.activeElement.id") == "main")
    browser.run("document.activeElement.blur()")
    browser.driver.find_element("tag name", "body").send_keys("/")
    assert browser.focused == "search"
    browser.keys(Keys.ARROW_DOWN)
    first = browser.focused
    browser.keys(Keys.ARROW_DOWN)
    assert browser.focused != first
    browser.keys(Keys.ARROW_UP)
    assert browser.focused == first
    browser.keys(Keys.ENTER)
    browser.find(".graph")


def test_focus_outlives_updates(world: World, browser: Browser) -> None:
    """Who walks through a list stays where they are while it is brought up to date."""
    browser.open("/devices?sort=device")
    row = browser.find("[data-row]")
    browser.run("arguments[0].focus()", row)
    as_of = browser.find(".pager time").get_attribute("datetime")
    world.ping(45_000)
    browser.until(lambda: browser.find(".pager time").get_attribute("datetime") != as_of)
    assert browser.run("return document.activeElement === arguments[0]", row)


def test_times_are_the_viewers(world: World, browser: Browser) -> None:
    """Times are in the zone of who looks; hovering shows them in UTC, and machines read ISO 8601."""
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    try:
        browser.open("/devices/dave?window=3h")
        element = browser.find(".below time")
        at = str(element.get_attribute("datetime"))
        assert at == iso(max(ts for ts, ms in world.samples() if ms is not None))
        assert element.get_attribute("title") == f"{at[:10]} {at[11:19]} UTC"
        local = browser.run("return new Date(arguments[0]).toTimeString().slice(0, 8)", at)
        assert local != at[11:19]
        assert f"ago ({local})" in element.text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_dark_mode_follows_the_system_until_chosen(browser: Browser) -> None:
    """Colours follow the system; the switch goes before it, and is remembered."""
    ground = "return getComputedStyle(document.body).backgroundColor"
    browser.open("/")
    light = browser.run(ground)
    browser.look(1440, "dark")
    dark = browser.run(ground)
    assert light != dark
    browser.find(".themes input[value=light]").click()
    assert browser.run(ground) == light
    browser.open("/devices")
    assert browser.run(ground) == light
    browser.find(".themes input[value=system]").click()
    assert browser.run(ground) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_texts_can_be_read(world: World, browser: Browser, scheme: Scheme) -> None:
    """Every text on every page stands out from its ground as WCAG AA asks for, in light and in dark."""
    browser.look(1440, scheme)
    for name, path in pages(world).items():
        browser.open(path)
        assert not browser.contrasts(), name


def test_who_may_operate_holds_remediation(world: World, browser: Browser) -> None:
    """A pause asks for how long, is confirmed, and shows; resuming is confirmed, too."""
    browser.open("/remediations")
    browser.press("Pause…")
    browser.find("dialog[open]")
    browser.run("arguments[0].click()", browser.find("input[value='3600']"))
    browser.press("Pause it")
    until(lambda: _paused_ms(world) > 3_500_000)
    browser.until(lambda: "paused, 59 min" in browser.text)
    browser.press("Resume")
    browser.press("Resume it")
    until(lambda: not _paused_ms(world))


def test_a_failover_may_undo_a_pause(world: World, browser: Browser, tmp_path: Path) -> None:
    """A pause that no replica of Redis confirms is in force, and the viewer is told what may happen to it."""
    with EmbeddedRedis(tmp_path / "replica") as second, Redis(port=second.port, decode_responses=True) as replica:
        until(lambda: replicates(replica, world.redis))
        browser.open("/remediations")
        browser.press("Pause…")
        browser.find("dialog[open]")
        with halted(second.pid):
            browser.press("Pause it")
            browser.until(lambda: "A failover may undo it" in browser.text)
        browser.until(lambda: "paused, 29 min" in browser.text)
        browser.press("Close")
        browser.until(lambda: not browser.count("dialog"))
        browser.press("Resume")
        browser.press("Resume it")
        until(lambda: not _paused_ms(world))


def test_a_dialog_can_be_left(world: World, browser: Browser) -> None:
    """Escape and Cancel leave everything as it was."""
    browser.open("/remediations")
    browser.press("Pause…")
    browser.find("dialog[open]")
    browser.keys(Keys.ESCAPE)
    browser.until(lambda: not browser.count("dialog"))
    browser.press("Pause…")
    browser.press("Cancel")
    browser.until(lambda: not browser.count("dialog"))
    assert not _paused_ms(world)


def test_who_may_only_look_can_not_hold_it(world: World, browser: Browser) -> None:
    """Without the right there is no button, and a browser that sends what a button would is not heeded."""
    browser.driver.delete_all_cookies()
    browser.log_in(READ_SECRET)
    browser.open("/remediations")
    assert "operate to pause remediation" in browser.text
    assert not browser.count("button.button")
    browser.run(_FORGE, "pause", {"seconds": "900"})
    browser.run(_FORGE, "ask-pause", "")
    browser.find("input[name=text]").send_keys("behind what was forged")
    browser.until(lambda: "No decision fits" in browser.text)
    assert not browser.count("dialog")
    assert not _paused_ms(world)


def test_an_ended_session_sees_no_more(world: World, browser: Browser) -> None:
    """Who logs out in one window is led to the login in the others, and nothing new is told to them."""
    browser.open("/devices/dave")
    browser.run("fetch('/logout', {method: 'POST'})")
    browser.until(lambda: "/login" in browser.driver.current_url)


def test_there_is_no_such_page(world: World, browser: Browser) -> None:
    """What there is not says so, and where to go on."""
    browser.driver.get(f"{world.site}/devices/nobody")
    browser.until(lambda: "No such device" in browser.text)
    browser.driver.get(f"{world.site}/nowhere")
    browser.until(lambda: "There is no such page" in browser.text)
    browser.open("/devices?search=nobody")
    assert "Nothing fits all of these filters" in browser.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_page_has_its_picture(world: World, browser: Browser, width: int, scheme: Scheme) -> None:
    """Each page fits into a desk's screen and a phone's, and the browser has nothing to say against it."""
    for name, path in pages(world).items():
        browser.look(width, scheme)
        browser.open(path)
        assert browser.run("return document.documentElement.scrollWidth") <= width, name
        browser.shoot(SCREENSHOTS / f"{name}-{width}-{scheme}.png")
        assert not browser.complaints(), name


def test_it_gets_over_a_redis_that_was_away(world: World, browser: Browser) -> None:
    """While Redis is away a page says so and keeps what it showed; when it is back the page goes on."""
    browser.open("/devices/dave?window=3h")
    browser.run("window.stayed = true")
    world.redis.stop()
    browser.until(lambda: "Redis does not answer" in browser.text, 30)
    assert "Registration" in browser.text
    world.redis.start()
    browser.until(lambda: not browser.count(".banner"), 30)
    assert browser.run("return window.stayed")


_FORGE: Final = """
const part = document.querySelector('[aria-labelledby=state-title]').closest('.part');
getElement(part.id.slice(1)).$emit('act', {name: arguments[0], value: arguments[1]});
"""


def _paused_ms(world: World) -> int:
    return max(0, int(world.setup.store.connection.call("PTTL", world.setup.store.keys.pause())))
