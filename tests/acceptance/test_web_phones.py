"""Web phones as people have them, SIP.js and JsSIP in Chromium, on OpenSIPS with the shipped configuration.

Media goes from page to page; what each page saw of it is told to the companion that runs beside OpenSIPS.
"""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx2
import pytest

from companion.api import tokens
from companion.store import calls
from companion.store.calls import Call
from tests.acceptance import browser as chromium
from tests.acceptance.conftest import Build
from tests.acceptance.edge import INTERVAL, Companion, Edge, edge_with
from tests.acceptance.lines import MediaRelay, Relay
from tests.acceptance.web_phones import Chromium, Site, WebPhone, libraries

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (chromium.BROWSER and chromium.DRIVER), reason="no Chromium here: apt-get install chromium chromium-driver"
    ),
]
DOMAIN: Final = "127.0.0.1"
# nathelper crashes when a phone that hangs is pinged again before it was given up, ping_threshold of 3 seconds and what
# a busy machine adds to it
PATIENT: Final = 10
BACKEND_SECRET, BACKEND = tokens.make("backend", "operate")
STEPS: Final = ("socket_ms", "registered_ms", "reinvite_ms", "media_ms")


class World:
    """A site with phones, the OpenSIPS they register with, the companion, and what lies between, to be broken."""

    def __init__(self, stack: ExitStack, build: Build, folder: Path) -> None:
        self.site = stack.enter_context(Site(libraries()))
        self.edge: Edge = stack.enter_context(
            edge_with(build, folder, **{f'"natping_interval", {INTERVAL}': f'"natping_interval", {PATIENT}'})
        )
        self.companion = stack.enter_context(
            Companion(
                folder,
                self.edge.datagram,
                self.edge.server.mi_url,
                pings={"interval": PATIENT},
                media={"secret": uuid.uuid4().hex, "origins": [self.site.url]},
                api={"tokens": [BACKEND.line]},
            )
        )
        self.line = stack.enter_context(Relay(self.edge.server.ws_port))
        self.media = stack.enter_context(MediaRelay())
        self.browser = stack.enter_context(Chromium(folder / "chromium"))
        self.api = httpx2.Client(base_url=f"http://{self.companion.config.api.listen}")
        stack.enter_context(self.api)
        self.site.answers["/media-token"] = self._token
        self.site.answers["/way"] = lambda host, port: str(self.media.way_to(host, int(port)))

    def _token(self, device: str, callId: str) -> str:  # noqa: N803 - as the page says it
        """What an operator's own backend does for a page of its own."""
        wanted = {"device": device, "call_id": callId}
        bearer = {"Authorization": f"Bearer {BACKEND_SECRET}"}
        answer = self.api.post("/api/v1/media-tokens", json=wanted, headers=bearer)
        return str(answer.raise_for_status().json()["token"])


@pytest.fixture(scope="module")
def world(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, build, tmp_path_factory.mktemp("world"))


class User:
    """Somebody with a phone of their own in a window of their own."""

    def __init__(self, world: World, library: str, server: str, **settings: str) -> None:
        self._world = world
        self.name = uuid.uuid4().hex[:8]
        instance = str(uuid.uuid4())
        self.device = f"{self.name}@{DOMAIN}/urn:uuid:{instance}"
        self.phone = WebPhone(
            world.browser,
            f"{world.site.url}/{library}.html",
            user=self.name,
            domain=DOMAIN,
            server=server,
            instance=instance,
            companion=f"http://{world.companion.config.api.listen}",
            **settings,
        )
        self.until("phone.registered()")

    def run(self, script: str, *values: Any) -> Any:
        return self.phone.run(f"return {script}", *values)

    def until(self, script: str, *values: Any) -> Any:
        return self.phone.until(lambda: self.run(script, *values))

    def hears(self, packets: int = 50) -> None:
        """Wait until so many more have come."""
        self.until("phone.received().then((count) => count > arguments[0])", self.run("phone.received()") + packets)

    def told(self, call_id: str) -> Call | None:
        """What the companion knows of a call of this user's so far."""
        return calls.find(self._world.companion.store, self.device, call_id)

    def heard_of(self, call_id: str) -> Call:
        """The same, as soon as some seconds of it were told and scored."""
        self.phone.until(lambda: (told := self.told(call_id)) and told.totals.scored_seconds > 3)
        return self.knows(call_id)

    def knows(self, call_id: str) -> Call:
        told = self.told(call_id)
        assert told
        return told

    def happened(self, call_id: str, what: str) -> list[dict[str, Any]]:
        """The fields of all happenings of that name in a call."""
        media = calls.read(self._world.companion.store, self.knows(call_id))
        return [dict(each.fields) for each in media.happenings if each.what == what]


class Talk(NamedTuple):
    """Two users in a call. What is broken is between `mobile` and OpenSIPS."""

    mobile: User
    other: User
    call_id: str

    def over(self) -> None:
        """The other side hangs up: its BYE has to find the phone where it is now."""
        self.other.phone.run("phone.hangUp()")
        self.mobile.until("!phone.talking()")
        for user in (self.mobile, self.other):
            user.phone.until(lambda user=user: user.knows(self.call_id).ended_at)


@pytest.fixture
def talk(world: World, request: pytest.FixtureRequest) -> Iterator[Talk]:
    """A call that both hear; the parameter is the library, who calls, and whether media goes by way of the test."""
    library, caller, *relayed = request.param
    settings = dict.fromkeys(relayed, "yes")
    mobile = User(world, library, f"ws://127.0.0.1:{world.line.port}", **settings)
    other = User(world, library, world.edge.server.ws_url, **settings)
    calling, called = (mobile, other) if caller == "mobile" else (other, mobile)
    calling.phone.run("phone.call(arguments[0])", called.name)
    for each in (mobile, other):
        each.until("phone.talking()")
        each.hears()
    yield Talk(mobile, other, str(mobile.run("phone.callId()")))
    for each in (mobile, other):
        each.phone.close()


CALLS: Final = [("sipjs", "mobile"), ("sipjs", "other"), ("jssip", "mobile"), ("jssip", "other")]


@pytest.mark.parametrize("talk", CALLS[::3], indirect=True)
def test_a_call(world: World, talk: Talk) -> None:
    """Both sides of a call are devices with an OPTIONS latency, and what each page saw of its media is kept with them."""
    for user in (talk.mobile, talk.other):
        call = user.heard_of(talk.call_id)
        assert (call.totals.codec_in, call.totals.missing) == ("opus/48000/2", 0)
        user.phone.until(lambda user=user: world.companion.counts(user.device)[0])
        assert world.companion.statuses([user.device]) == ["online"]
    talk.over()
    told = {user: user.knows(talk.call_id) for user in (talk.mobile, talk.other)}
    assert {call.direction for call in told.values()} == {"in", "out"}
    assert [told[user].peer for user in (talk.mobile, talk.other)] == [talk.other.name, talk.mobile.name]
    assert {call.end for call in told.values()} == {"hangup"}


@pytest.mark.parametrize("talk", CALLS, indirect=True)
@pytest.mark.parametrize(("how", "reason"), [("cut", "socket"), ("hang", "stalled")])
def test_the_connection_goes(world: World, talk: Talk, how: str, reason: str) -> None:
    """A WebSocket that is cut, or hangs, is replaced: the phone registers and re-INVITEs over it, and that is measured."""
    talk.mobile.heard_of(talk.call_id)
    getattr(world.line, how)()
    talk.mobile.phone.until(lambda: talk.mobile.knows(talk.call_id).totals.switch_overs)
    check(talk, reason)
    assert talk.mobile.knows(talk.call_id).totals.silent_seconds == 0  # media goes another way
    events = world.companion.events(talk.mobile.device)
    assert "switched-over" in events


@pytest.mark.parametrize("talk", [(*call, "relayed") for call in CALLS], indirect=True)
def test_the_network_goes(world: World, talk: Talk) -> None:
    """When signalling and media go at once, as with a phone's network, both come back over the next one."""
    talk.mobile.heard_of(talk.call_id)
    world.media.fail()
    world.line.hang()
    talk.mobile.phone.until(lambda: talk.mobile.knows(talk.call_id).totals.switch_overs, 60)
    check(talk, "ice")


def check(talk: Talk, reason: str) -> None:
    """One switch-over for that reason, step by step; both hear each other, and nothing of the call was missed."""
    (steps,) = talk.mobile.happened(talk.call_id, "switch-over")
    print(steps)
    assert (steps["reason"], steps["result"]) == (reason, "resumed")
    took = [steps[step] for step in STEPS]
    assert took == sorted(took)
    assert talk.other.happened(talk.call_id, "restart")
    for user in (talk.mobile, talk.other):
        user.hears()
    talk.over()
    assert [user.knows(talk.call_id).totals.missing for user in (talk.mobile, talk.other)] == [0, 0]
