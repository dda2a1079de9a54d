"""The browser collector in a real Chromium: two peers in a page, a relay that spoils what goes between them."""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from statistics import mean, median
from typing import Any, Final

import pytest

from companion.media import changes, minutes, scoring, verdict
from companion.media.report import MediaSample
from companion.text import Json
from tests.acceptance import browser as chromium
from tests.acceptance.browser import Browser
from tests.acceptance.receiver import Call, Receiver, problem
from tests.acceptance.relay import Relay
from tests.acceptance.sip_socket import SipSocket
from tests.acceptance.stats import ADDRESSES, CASES, Case
from tests.integration.conftest import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (chromium.BROWSER and chromium.DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]

FLAGS: Final = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)
MEDIA_SECONDS: Final = 60
"""How long a test waits for what only media can bring, and media take their time."""
OFFLINE_SECONDS: Final = 20
SLACK_MS: Final = 6000
"""So late may a busy machine be with what is done each second."""
OPUS: Final = "opus/48000/2"

_START: Final = """
const [site, callId, ports, options, media] = arguments;
const done = arguments[arguments.length - 1];
(async () => {
  window.lastMile = new LastMile({ url: site, token: window.token ?? "secret", ...options });
  Object.assign(window, await peers(ports, media));
  window.call = lastMile.watch(near, { callId, direction: "out", peer: "bob\\u202e\\0" });
})().then(done, (error) => done(String(error.stack)));
"""


class Page:
    """A page with two peers, the near one watched."""

    def __init__(self, browser: Browser, receiver: Receiver, relay: Relay) -> None:
        self.browser = browser
        self.receiver = receiver
        self.relay = relay

    def open(self) -> None:
        self.browser.driver.get(f"{self.receiver.site}/")
        until(lambda: self.run("return window.ready"))

    def run(self, script: str, *values: Any) -> Any:
        return self.browser.run(script, *values)

    def wait(self, script: str, *values: Any) -> Any:
        """What a script answers that has to wait: the value of an expression that is a promise."""
        done = "arguments[arguments.length - 1]"
        return self.browser.driver.execute_async_script(f"Promise.resolve({script}).then({done}, {done})", *values)

    def call(self, call_id: str, media: Json | None = None, **options: Any) -> Call:
        site = options.pop("url", self.receiver.site)
        values = site, call_id, self.relay.ports(), options, media or {"audio": True}
        assert self.browser.driver.execute_async_script(_START, *values) is None
        return self.receiver[call_id]

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait for what reports tell, and have them come as soon as there is something: as if tabs were changed."""

        def hurried() -> Any:
            self.run("document.dispatchEvent(new Event('visibilitychange'))")
            return condition()

        until(hurried, MEDIA_SECONDS)

    def offline(self, *, off: bool) -> None:
        network = {"offline": off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", network)

    def now(self) -> float:
        return float(self.run("return performance.timeOrigin + performance.now()"))


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("collector"), "", *FLAGS)
    yield opened
    opened.close()


@pytest.fixture
def page(window: Browser) -> Iterator[Page]:
    """Nothing that goes wrong on it may reach the application, and no report may be refused unless that is the test."""
    with Receiver() as receiver, Relay() as relay:
        made = Page(window, receiver, relay)
        made.open()
        yield made
        assert made.run("return complaints") == []
        assert receiver.wrong == []
        window.driver.get("about:blank")


def between(readings: list[list[float]], since: float, to: float) -> list[float]:
    """What Chromium's counters grew by between two times, those in between its readings interpolated."""
    times = [reading[0] for reading in readings]

    def at(moment: float) -> list[float]:
        after = bisect_left(times, moment)
        old, new = readings[after - 1], readings[after]
        share = (moment - old[0]) / (new[0] - old[0])
        return [start + share * (end - start) for start, end in zip(old[1:], new[1:], strict=True)]

    return [end - start for start, end in zip(at(since), at(to), strict=True)]


def total(samples: list[Json], side: str, name: str) -> float:
    return float(sum(sample[side].get(name, 0) for sample in samples))


def bps(samples: list[Json], side: str = "out") -> float:
    return 8000 * total(samples, side, "bytes") / float(sum(sample["ms"] for sample in samples))


def test_rates_are_those_of_chromium_and_a_limit_is_kept(page: Page) -> None:
    """Samples add up to Chromium's own counters; Opus sends 50 packets a second, and less when it is told to."""
    call = page.call("rates@phone")
    page.run("window.readings = read(near)")
    since = page.now()
    until(lambda: len(call.media(since)) >= 12, MEDIA_SECONDS)
    free = call.media(since)
    start, end = free[0]["at"] - free[0]["ms"], free[-1]["at"]
    counted = between(page.run("return readings"), start, end)
    summed = [total(free, side, name) for side in ("in", "out") for name in ("bytes", "packets")]
    assert summed == pytest.approx(counted, rel=0.02)
    seconds = (end - start) / 1000
    assert summed[1::2] == pytest.approx([50 * seconds, 50 * seconds], rel=0.06)
    assert 18_000 < bps(free) < 36_000
    assert {OPUS} == set(call.list_happenings("codec")[-1]["fields"].values())

    assert page.wait("lastMile.limit(near, { maxBitrate: 16000 })") is True
    page.until(lambda: call.list_happenings("limited"))
    limited = call.list_happenings("limited")[0]["fields"]
    limit = call.list_happenings("limit")[0]
    assert limit["fields"] == {"max_bps": 16_000, "by": "page"}
    assert limited["before_bps"] == pytest.approx(bps(free), rel=0.25)
    assert limited["after_bps"] < 17_000 < limited["before_bps"]
    assert bps(call.media(limit["at"] + 1000)) < 17_000
    print_figures(page, call, free, limited)


def print_figures(page: Page, call: Call, free: list[Json], limited: Json) -> None:
    """What documents may quote: `pytest -s`."""
    sizes = [len(body) for body in call.raw]
    print(f"\n{bps(free):.0f} bit/s out, {bps(free, 'in'):.0f} in; a limit: {limited}")
    print(f"reports of up to {max(sizes)} bytes, {sum(sizes) / len(call.samples):.0f} a second")


def test_a_bad_line_shows(page: Page) -> None:
    """5 % loss and 150 ms each way show in loss, round trip and MOS, and the verdict blames the media's way."""
    call = page.call("line@phone")
    started = page.now()
    page.until(lambda: sum("rtt_ms" in sample for sample in call.media(started)) >= 4)
    good = [sample for sample in call.media(started) if "rtt_ms" in sample]
    page.relay.loss, page.relay.delay = 0.05, 0.15
    spoilt = page.now()

    def shows() -> bool:
        trips = [sample["out"]["rtt_ms"] for sample in call.media(spoilt) if "rtt_ms" in sample["out"]]
        return len(call.media(spoilt)) > 15 and bool(trips) and trips[-1] > 290

    page.until(shows)
    bad = call.media(spoilt)
    assert 0.02 < total(bad, "in", "lost") / (total(bad, "in", "packets") + total(bad, "in", "lost")) < 0.09
    assert max(sample["out"].get("lost", 0) for sample in bad) > 0.01
    assert 290 < bad[-1]["rtt_ms"] < 1500
    assert median(sample["rtt_ms"] for sample in good) < 100
    before, after = mos(call, good), mos(call, bad[8:])
    assert before > after + 1
    happenings = [item for item in call.items.values() if not isinstance(item, MediaSample)]
    moments = minutes.build_moments([item for item in call.items.values() if isinstance(item, MediaSample)], happenings)
    late = [moment for moment in moments if moment.sample.at >= spoilt]
    case = verdict.Case(minutes.build_minutes(late[0].sample.at - 1000, late, changes.find_changes(happenings)))
    call_verdict = verdict.judge(case)
    print(f"\nMOS {before:.2f}, on the bad line {after:.2f}; {call_verdict}")
    assert call_verdict.what == "media"


def mos(call: Call, samples: list[Json]) -> float:
    """The mean of what the companion makes of these."""
    items = [item for sample in samples if isinstance(item := call.items[sample["n"]], MediaSample)]
    return mean(score.mos for item in items if (score := scoring.score(item, OPUS)))


def test_nothing_is_lost_offline(page: Page) -> None:
    """After 20 s without a network every item is there, with its own time, and the time without is marked."""
    call = page.call("offline@phone")
    page.until(lambda: call.samples)
    page.offline(off=True)
    gone = page.now()
    until(lambda: page.now() - gone > 1000 * OFFLINE_SECONDS, 2 * OFFLINE_SECONDS)  # what is asked for is time
    count = len(call.reports)
    page.offline(off=False)
    back = page.now()
    until(lambda: len(call.reports) > count, MEDIA_SECONDS)
    page.run("call.end()")
    until(lambda: call.last["call"]["ended_at"])
    assert call.numbers == list(range(call.next))
    assert call.last["dropped"] == 0
    marked = [sample["at"] for sample in call.media() if "offline" in sample["flags"]]
    assert gone <= marked[0] <= marked[-1] <= back + SLACK_MS
    assert marked[0] <= gone + SLACK_MS
    assert marked[-1] >= back - SLACK_MS
    assert marked == sorted(set(marked))
    assert call.list_happenings("offline")[0]["at"] == pytest.approx(gone, abs=SLACK_MS)
    assert call.list_happenings("online")[0]["at"] == pytest.approx(back, abs=SLACK_MS)
    assert median(1000 * sample["in"]["packets"] / sample["ms"] for sample in call.media(gone)) > 25


def test_a_restart_of_ice_is_no_spike(page: Page) -> None:
    """Counters that begin anew under a new pair neither jump nor vanish; the restart is told, and marked."""
    call = page.call("restart@phone")
    page.until(lambda: len(call.samples) >= 4)
    page.wait("(near.restartIce(), negotiate(near, far, arguments[0]))", page.relay.ports())
    restarted = page.now()
    page.until(lambda: len(call.media(restarted)) >= 6)
    samples = call.media(call.media()[0]["at"])
    assert [sum("restart" in sample["flags"] for sample in samples)] == [1]
    assert len(call.list_happenings("restart")) == 1
    for side in ("in", "out"):
        packets = [1000 * sample[side]["packets"] / sample["ms"] for sample in samples]
        assert max(packets) < 150  # all that came before would be more
        assert median(packets) == pytest.approx(50, abs=4)
    assert all(0 < sample.get("rtt_ms", 1) < 1000 for sample in samples)
    assert all(sample["in"]["lost"] <= 25 for sample in samples)


# What it makes of getStats

_COMPARE: Final = "return compare(...[...arguments].map((stats) => new Map(stats.map((stat) => [stat.id, stat]))))"


@pytest.fixture(scope="module")
def module(window: Browser) -> Iterator[Callable[..., Any]]:
    """Runs a script on a page that has the collector, and no call."""
    with Receiver() as receiver:

        def run(script: str, *values: Any) -> Any:
            if not window.driver.current_url.startswith(receiver.site):
                window.driver.get(f"{receiver.site}/")
            until(lambda: window.run("return window.ready"))
            return window.run(script, *values)

        yield run
        window.driver.get("about:blank")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_made_of_stats(module: Callable[..., Any], case: Case) -> None:
    """A sample says what is known, of any browser, and nothing else: no guess, no 0, no jump."""
    assert case.expected == module(_COMPARE, case.before, case.after)


def test_addresses_are_shortened(module: Callable[..., Any]) -> None:
    """Of an address only the network is told, 24 bits or 48; of a name nothing."""
    shortened = module("return arguments[0].map(shorten)", list(ADDRESSES))
    assert list(ADDRESSES.values()) == shortened
    assert all(ip_address(address) for address in shortened if address)


# How it tells: what a server may answer, and what of it is lost


def test_a_new_token_is_asked_for(page: Page) -> None:
    """A token that has run out costs nothing but time: a new one is asked for, of the same call."""
    page.run("window.asked = []; window.token = async (...of) => `token ${asked.push(of)}`")
    page.receiver.answers = [problem(401, "token-expired")]
    call = page.call("token@phone", device="bob/phone")
    page.until(lambda: call.reports)
    assert page.run("return asked") == [["token@phone", "bob/phone"]] * 2
    assert call.tokens == ["token 2"]
    assert call.numbers == list(range(call.next))


def test_what_is_refused_is_not_sent_again(page: Page) -> None:
    """A report that is refused for what it is is dropped and counted, the console told once, and later ones go on."""
    page.run("window.told = []; console.warn = (...words) => told.push(words.join(' '))")
    page.receiver.answers = [problem(422, "wrong-report")] * 2
    call = page.call("refused@phone")
    page.until(lambda: call.reports)
    assert call.last["dropped"] == call.numbers[0] > 0
    assert page.run("return told") == ["last-mile: wrong-report"]


@pytest.mark.parametrize("answer", [problem(429, "too-many-reports", Retry_After="1"), problem(503, "redis-away")])
def test_what_is_not_taken_now_is_sent_later(page: Page, answer: Any) -> None:
    """A server that has too much to do, or no Redis, gets all of it later."""
    page.receiver.answers = [answer] * 2
    call = page.call("later@phone")
    page.run("call.end({ end: 'failed', why: 'busy' })")
    page.until(lambda: call.reports)
    assert page.receiver.refused == [answer[0]] * 2
    assert call.numbers == list(range(call.next))
    assert (call.last["call"]["end"], call.last["call"]["why"], call.last["dropped"]) == ("failed", "busy", 0)


def test_what_is_kept_is_bounded(page: Page) -> None:
    """A page keeps 3,600 items of a call, drops the oldest and counts them, and sends 400 at once."""
    page.receiver.always = problem(503, "redis-away")
    call = page.call("bounded@phone")
    page.run(_MANY, 4000)
    page.receiver.always = None
    page.run("call.end(); dispatchEvent(new Event('online'))")
    until(lambda: call.next > 4000, MEDIA_SECONDS)
    assert list(range(call.next - 3600, call.next)) == call.numbers
    dropped_on_the_way = call.last["dropped"] - (call.next - 3600)
    assert dropped_on_the_way in (0, 1), "an item may be dropped while its acknowledgement is on the way, once at most"
    assert {400} == {len(payload["samples"]) + len(payload["happenings"]) for payload in call.reports[:-1]}


def test_a_page_that_goes_tells_what_it_knows(page: Page) -> None:
    """What is not acknowledged goes as a beacon, with the token: the oldest items, and how many are lost."""
    page.receiver.always = problem(503, "redis-away")
    call = page.call("beacon@phone")
    page.run(_MANY, 3000)
    page.receiver.always = None
    page.browser.driver.get(f"{page.receiver.site}/last-mile.js")
    until(lambda: any("token" in payload for payload in call.reports), MEDIA_SECONDS)
    page.open()
    beacon = next(payload for payload in call.reports if "token" in payload)
    numbers = sorted(item["n"] for item in [*beacon["samples"], *beacon["happenings"]])
    assert (beacon["call"]["end"], beacon["token"]) == ("closed", "secret")
    assert len(json.dumps(beacon)) < 64_000
    assert numbers == list(range(len(numbers)))
    assert beacon["dropped"] + len(numbers) >= 3000


_MANY: Final = """
const [{ track }] = near.getSenders();
for (let left = arguments[0]; left--; document.dispatchEvent(new Event("visibilitychange")))
  track.enabled = !track.enabled;
"""


def test_a_server_that_is_not_there_disturbs_nobody(page: Page) -> None:
    """With nobody at the address the call goes on, and nothing but the console's own network errors is to be seen."""
    page.call("nobody@phone", url="http://127.0.0.1:9")
    readings = page.run("window.readings = read(near)")
    until(lambda: len(page.run("return readings")) > 20, MEDIA_SECONDS)
    page.run(
        "lastMile.watch(); lastMile.watch(near); lastMile.watchTransport(); lastMile.limit(); lastMile.constrain();"
        "call.end(); lastMile.stop()"
    )
    page.run("new LastMile().watch(far, { callId: 'none' })")
    readings = page.run("return readings")
    assert readings[-1][2] - readings[0][2] > 50


def test_advice_is_taken_by_who_wants_it(page: Page) -> None:
    """A bitrate that the server advises is kept where the page says so, once, and told; else nothing happens."""
    page.receiver.advice = {"max_bitrate": 16_000, "why": "loss"}
    call = page.call("advised@phone", advice=True)
    page.until(lambda: call.list_happenings("limit"))
    assert [item["fields"] for item in call.list_happenings("limit")] == [{"max_bps": 16_000, "by": "advice"}]
    assert page.run("return near.getSenders()[0].getParameters().encodings[0].maxBitrate") == 16_000
    page.open()
    call = page.call("unadvised@phone")
    page.until(lambda: len(call.reports) > 2)
    assert page.run("return near.getSenders()[0].getParameters().encodings[0].maxBitrate") is None


# What happens in a call


def test_a_page_that_slept_says_so(page: Page) -> None:
    """A second that took three is marked, and its figures are those of three; a page behind others says so, too."""
    call = page.call("asleep@phone")
    page.until(lambda: call.samples)
    page.run("for (const end = performance.now() + 3500; performance.now() < end; );")
    page.until(lambda: any("gap" in sample["flags"] for sample in call.media()))
    slept = next(sample for sample in call.media() if "gap" in sample["flags"])
    assert 2500 < slept["ms"] < 20_000
    assert 1000 * slept["out"]["packets"] / slept["ms"] == pytest.approx(50, abs=5)
    window = page.browser.driver.current_window_handle
    page.browser.driver.switch_to.new_window("tab")
    until(lambda: call.list_happenings("hidden"), MEDIA_SECONDS)
    page.browser.driver.close()
    page.browser.driver.switch_to.window(window)
    until(lambda: call.list_happenings("visible"), MEDIA_SECONDS)


def test_what_happens_is_told(page: Page) -> None:
    """Mute and hold are told and marked, and are no outage; a hang-up is the end; odd names do no harm."""
    call = page.call("happens@phone")
    page.run("near.getSenders()[0].track.enabled = false")
    page.until(lambda: call.list_happenings("muted"))
    page.run("near.getSenders()[0].track.enabled = true")
    page.until(lambda: call.list_happenings("unmuted"))
    page.wait("(near.getTransceivers()[0].direction = 'inactive', negotiate(near, far))")
    page.until(lambda: any("held" in sample["flags"] for sample in call.media()))
    page.wait("(near.getTransceivers()[0].direction = 'sendrecv', negotiate(near, far))")
    page.until(lambda: call.list_happenings("resumed"))
    page.run("near.close()")
    until(lambda: call.last["call"]["ended_at"], MEDIA_SECONDS)
    assert call.last["call"] | {"direction": "out", "peer": "bob", "end": "hangup", "why": ""} == call.last["call"]
    path = call.list_happenings("path")[0]["fields"]
    assert {"remote": "host", "protocol": "udp", "remote_address": "127.0.0.0"}.items() <= path.items()
    assert {OPUS} == set(call.list_happenings("codec")[-1]["fields"].values())


def test_video_is_measured_and_made_smaller(page: Page) -> None:
    """Frames, height and bytes of video are told; a lower height is kept, and told."""
    call = page.call("video@phone", {"audio": True, "video": {"width": 640, "height": 480}})
    page.until(lambda: any(has_height(sample, 480) for sample in call.media()))
    assert page.wait("lastMile.constrain(near.getSenders()[1].track, { height: 240 })") is True
    page.until(lambda: any(has_height(sample, 240) for sample in call.media()))
    assert call.list_happenings("limit")[0]["fields"] == {"height": 240, "by": "page"}
    assert {"in_bytes", "out_bytes", "in_fps", "out_fps", "in_height"} <= call.media()[-1]["video"].keys()


def has_height(sample: Json, height: int) -> bool:
    return bool(sample.get("video", {}).get("out_height") == height)


# When signalling is gone

_PHONE: Final = """
const [url, ports, options] = arguments;
const done = arguments[arguments.length - 1];
window.dialled = 0;
window.dial = () => new Promise((ready, refused) => {
  dialled += 1;
  const socket = new WebSocket(url);
  socket.onopen = () => ready(socket);
  socket.onerror = refused;
  window.socket = socket;
});
const ask = (word) => new Promise((answered) => {
  socket.addEventListener("message", ({ data }) => data === `ok ${word}` && answered());
  socket.send(word);
});
const hooks = {
  reconnect: dial,
  reregister: () => ask("REGISTER"),
  reinvite: async (pc, callId) => {
    await ask(`INVITE ${callId}`);
    pc.restartIce();
    await negotiate(pc, far, ports);
  },
  ...options,
};
dial().then((socket) => window.link = lastMile.watchTransport(socket, hooks)).then(() => done(), done);
"""


@pytest.fixture
def server() -> Iterator[SipSocket]:
    with SipSocket() as opened:
        yield opened


def phone(page: Page, server: SipSocket, **options: Any) -> Call:
    """A call whose signalling goes over that server."""
    call = page.call("phone@here")
    page.until(lambda: call.samples)
    assert page.browser.driver.execute_async_script(_PHONE, server.url, page.relay.ports(), options) is None
    until(lambda: server.lines)
    return call


def check_switch_over(page: Page, call: Call, reason: str) -> Json:
    page.until(lambda: call.list_happenings("switch-over"))
    marks: Json = call.list_happenings("switch-over")[0]["fields"]
    assert (reason, "resumed") == (marks["reason"], marks["result"])
    steps = [marks[f"{step}_ms"] for step in ("socket", "registered", "reinvite", "media")]
    assert steps == sorted(steps)
    assert call.list_happenings("restart")
    return marks


def test_a_cut_line_is_dialled_again(page: Page, server: SipSocket) -> None:
    """A socket that breaks is opened again, registered, the call invited anew with ICE restart; all is measured."""
    call = phone(page, server)
    server.cut()
    marks = check_switch_over(page, call, "socket")
    assert [word for word in server.requests if word.strip()] == ["REGISTER", "INVITE phone@here"]
    assert page.run("return dialled") == 2
    print(f"\ncut: {marks}")


def test_a_dead_line_is_noticed(page: Page, server: SipSocket) -> None:
    """A server that falls silent, with its socket open, is given up after a ping."""
    call = phone(page, server, keepAlive=1, patience=1)
    until(lambda: "\r\n\r\n" in server.requests)
    server.deaf = True
    until(lambda: len(server.requests) >= 2)
    server.deaf = False
    marks = check_switch_over(page, call, "stalled")
    assert 1000 <= marks["noticed_ms"] < 20_000
    print(f"\nstalled: {marks}")


def test_a_server_that_knows_no_pings_is_left_alone(page: Page, server: SipSocket) -> None:
    """Who has never answered a ping is not taken for dead because it does not answer this one."""
    server.deaf = True
    phone(page, server, keepAlive=0.5, patience=0.5)
    until(lambda: len(server.requests) >= 4)
    assert page.run("return dialled") == 1


def test_a_network_that_is_back_is_used_at_once(page: Page, server: SipSocket) -> None:
    """With the network back the phone does not wait for its socket to find out, and tells how long all of it took."""
    call = phone(page, server)
    page.offline(off=True)
    gone = page.now()
    page.until(lambda: not page.run("return navigator.onLine"))
    page.offline(off=False)
    marks = check_switch_over(page, call, "offline")
    assert marks["socket_ms"] == pytest.approx(call.list_happenings("online")[0]["at"] - gone, abs=SLACK_MS)
    print(f"\noffline: {marks}")


def test_who_hangs_up_is_not_called_back(page: Page, server: SipSocket) -> None:
    """A socket that is closed in order stays closed, and so does one that nobody watches any more."""
    phone(page, server)
    page.run("socket.close()")
    page.wait(
        "dial().then((socket) => { window.link = lastMile.watchTransport(socket, { reconnect: dial }); link.stop(); })"
    )
    server.cut()
    until(lambda: page.run("return socket.readyState") == 3)
    page.wait("new Promise((wake) => setTimeout(wake, 700))")  # for what must not happen
    assert page.run("return dialled") == 2
