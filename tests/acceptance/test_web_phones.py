"""Web phones as people have them, SIP.js and JsSIP in Chromium, on OpenSIPS with the shipped configuration.

Media goes from page to page; what each page saw of it is told to the companion that runs beside OpenSIPS.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx2
import pytest

from companion.tokens import access
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
BACKEND_SECRET, BACKEND = access.make("backend", "operate")
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
        request = {"device": device, "call_id": callId}
        bearer = {"Authorization": f"Bearer {BACKEND_SECRET}"}
        answer = self.api.post("/api/v1/media-tokens", json=request, headers=bearer)
        return str(answer.raise_for_status().json()["token"])


@pytest.fixture(scope="module")
def world(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, build, tmp_path_factory.mktemp("world"))


class User:
    """Somebody with a phone of their own, in a window of their own."""

    def __init__(self, world: World, library: str, server: str, **settings: str) -> None:
        self._api = world.api
        self.name = uuid.uuid4().hex[:8]
        instance = str(uuid.uuid4())
        self.device = f"{self.name}@{DOMAIN}/urn:uuid:{instance}"
        own = {"user": self.name, "domain": DOMAIN, "server": server, "instance": instance}
        page, companion = f"{world.site.url}/{library}.html", str(world.api.base_url)
        self.phone = WebPhone(world.browser, page, **own, companion=companion, **settings)
        self.until("phone.registered()")

    def run(self, script: str, *values: Any) -> Any:
        return self.phone.run(f"return {script}", *values)

    def until(self, script: str, *values: Any) -> None:
        self.phone.until(lambda: self.run(script, *values))

    def hears(self, packets: int = 50) -> None:
        """Wait until so many more have come."""
        self.until("phone.received().then((count) => count > arguments[0])", self.run("phone.received()") + packets)

    def call(self, call_id: str) -> dict[str, Any]:
        """All that the companion tells of a call as this user's device saw it; nothing as long as it knows nothing."""
        answer = self._api.get(f"/api/v1/calls/{quote(call_id, safe='')}", params={"device": self.device})
        return dict(answer.json()) if answer.status_code == 200 else {}

    def wait_for_call(
        self, call_id: str, condition: Callable[[dict[str, Any]], Any], seconds: float = 40
    ) -> dict[str, Any]:
        """Wait until the call meets a condition; return it."""
        call: dict[str, Any] = {}

        def is_so() -> Any:
            call.clear()
            call.update(self.call(call_id))
            return call and condition(call)

        self.phone.until(is_so, seconds)
        return call


class Talk(NamedTuple):
    """Two users in a call. What is broken is between `mobile` and OpenSIPS."""

    mobile: User
    other: User
    call_id: str

    def over(self) -> dict[User, dict[str, Any]]:
        """The other side hangs up, and its BYE has to find the phone where it is now; what is told of the call then."""
        self.other.phone.run("phone.hangUp()")
        self.mobile.until("!phone.talking()")
        return {user: user.wait_for_call(self.call_id, lambda call: call["end"] == "hangup") for user in self.users}

    @property
    def users(self) -> tuple[User, User]:
        return self.mobile, self.other


@pytest.fixture
def talk(world: World, request: pytest.FixtureRequest) -> Iterator[Talk]:
    """A call that both hear and tell of; the parameter is the library, who calls, and settings of both pages."""
    library, caller, *settings = request.param
    line = f"ws://127.0.0.1:{world.line.port}"
    mobile, other = (User(world, library, url, **dict(settings)) for url in (line, world.edge.server.ws_url))
    calling, called = (mobile, other) if caller == "mobile" else (other, mobile)
    calling.phone.run("phone.call(arguments[0])", called.name)
    for user in (mobile, other):
        user.until("phone.talking()")
        user.hears()
    talk = Talk(mobile, other, str(mobile.run("phone.callId()")))
    for user in talk.users:
        user.wait_for_call(talk.call_id, lambda call: call["mos"])
    yield talk
    for user in talk.users:
        user.phone.close()


CALLS: Final = [("sipjs", "mobile"), ("sipjs", "other"), ("jssip", "mobile"), ("jssip", "other")]
RELAYED: Final = [(*call, ("relayed", "yes")) for call in CALLS]
NAMES: Final = ["-".join(call) for call in CALLS]


@pytest.mark.parametrize("talk", CALLS[::3], ids=NAMES[::3], indirect=True)
def test_a_call(talk: Talk) -> None:
    """Each side of a call is a device; what its page saw of the media is told beside its OPTIONS latency."""
    for user in talk.users:
        user.wait_for_call(talk.call_id, lambda call: any(latency is not None for _, latency in call["pings"]))
    calls = talk.over()
    assert {call["direction"] for call in calls.values()} == {"in", "out"}
    for user, far_end in (talk.users, reversed(talk.users)):
        call = calls[user]
        assert (call["peer"], call["codec"], call["missing"]) == (far_end.name, "opus/48000/2", 0)
        assert call["mos"]
        assert {"registered"} <= {entry["event"] for entry in call["timeline"]}


@pytest.mark.parametrize("talk", CALLS, ids=NAMES, indirect=True)
def test_the_connection_is_cut(world: World, talk: Talk) -> None:
    """A WebSocket that is cut is replaced, the phone registers and re-INVITEs, and each step is measured."""
    broken_at = time.time()
    world.line.cut()
    call = came_back(talk, broken_at)
    assert steps_of(call)["reason"] == "socket"
    assert "switched-over" in {entry["event"] for entry in call["timeline"]}


@pytest.mark.parametrize("talk", CALLS[::3], ids=NAMES[::3], indirect=True)
def test_the_connection_hangs(world: World, talk: Talk) -> None:
    """A WebSocket that stands and carries nothing any more is found out by asking, and replaced in the same way."""
    broken_at = time.time()
    world.line.hang()
    call = came_back(talk, broken_at)
    assert steps_of(call)["reason"] == "stalled"
    assert "switched-over" in {entry["event"] for entry in call["timeline"]}


@pytest.mark.parametrize("talk", RELAYED[1:3], ids=NAMES[1:3], indirect=True)
def test_the_network_goes(world: World, talk: Talk) -> None:
    """When signalling and media go at once, as a phone's network does, the call goes on over the next one."""
    broken_at = time.time()
    world.media.fail()
    world.line.hang()
    call = came_back(talk, broken_at)
    assert steps_of(call)["reason"] in ("stalled", "ice")
    assert [happening for happening in call["happenings"] if happening["what"] == "ice"]


@pytest.mark.parametrize("talk", CALLS[:3:2], ids=NAMES[:3:2], indirect=True)
def test_opensips_restarts(world: World, talk: Talk) -> None:
    """A call outlives OpenSIPS: both phones come back, and find each other though neither knows the new connection."""
    broken_at = time.time()
    world.edge.server.kill()
    world.edge.server.start()
    world.edge.server.wait()
    came_back(talk, broken_at)


def came_back(talk: Talk, broken_at: float) -> dict[str, Any]:
    """Whoever lost the connection came back step by step, both hear each other, and nothing of the call was missed."""
    call = talk.mobile.wait_for_call(talk.call_id, lambda call: call["switch_overs"], 90)
    steps = steps_of(call)
    assert steps["result"] == "resumed"
    took = [steps[step] for step in STEPS if step in steps]  # the far end's re-INVITE may have been faster
    assert took == sorted(took)
    detection_ms = 1000 * (steps["at"] - broken_at) - steps["media_ms"]
    print(
        f"\n{steps['reason']}: noticed after {detection_ms:.0f} ms, then",
        *(f"{step} {steps.get(step)}" for step in STEPS),
    )
    for user in talk.users:
        user.hears()
    calls = talk.over()
    assert [call["missing"] for call in calls.values()] == [0, 0]
    return calls[talk.mobile]


def steps_of(call: dict[str, Any]) -> dict[str, Any]:
    """The first switch-over of a call: its fields, and `at` in epoch seconds."""
    happening = next(item for item in call["happenings"] if item["what"] == "switch-over")
    return {**happening["fields"], "at": datetime.fromisoformat(happening["at"]).timestamp()}
