"""Simulate calls of browser phones and the reports of their pages: good calls, and some of each trouble.

They go over HTTP as those of real pages do. Calls are as long as real ones: their times are on the wire.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgspec

from companion import log
from companion.media.report import Call, Happening, Incoming, Item, MediaSample, Outgoing, Report
from companion.simulator.phone import Behaviour, SimulatedPhone
from companion.times import now_ms
from companion.tokens import call as token
from companion.tokens.call import Claims

REPORT_SECONDS: Final = 5.0
TIMEOUT_SECONDS: Final = 5.0
LIVE_CALLS: Final = 4
"""So many go on at once, if there are browser phones for them."""
LENGTHS: Final = (40, 150)
"""Seconds that a call lasts, at least and at most."""
AWAY_SECONDS: Final = 8
TOKEN_SECONDS: Final = 3600
PACKETS: Final = 50
BYTES: Final = 3_100
"""Of a second of Opus at 24 kbit/s."""

logger = log.get(__name__)


class Kind(StrEnum):
    """Name how a call goes."""

    GOOD = "good"
    RELAY = "relay"
    SWITCH = "switch"
    BACKGROUND = "background"


def make_device_id(phone: SimulatedPhone) -> str:
    return f"{phone.aor}/urn:uuid:{phone.instance}"


def select_callers(fleet: Sequence[SimulatedPhone]) -> list[SimulatedPhone]:
    """Return the browsers among the phones. Those that stay all the time come first."""
    browsers = (phone for phone in fleet if phone.transport == "ws" and phone.instance)
    return sorted(browsers, key=lambda phone: phone.behaviour is not Behaviour.STEADY)


@dataclass(eq=False)
class SimulatedCall:
    """Represent one call of one phone from `started_at` (epoch ms) on. The same seed gives the same call."""

    device: str
    peer: str
    kind: Kind
    started_at: int
    seconds: int
    seed: str
    outgoing: bool = False

    call_id: str = field(init=False)
    items: list[Item] = field(init=False)
    next: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self.call_id = f"{self._chance.getrandbits(64):016x}@phone.example.com"
        self.items = []
        for second in range(self.seconds):
            for what, fields in self._iterate_happenings(second):
                self._add(Happening(n=len(self.items), at=self._at(second), what=what, fields=fields))
            self._add(self._make_sample(second + 1))

    @property
    def ends_at(self) -> int:
        return self._at(self.seconds)

    def report(self, now: int) -> Report:
        """Return what its page has not reported by now (epoch ms)."""
        ended = now >= self.ends_at
        new = [item for item in self.items[self.next :] if item.at <= now]
        report = Call(
            direction="out" if self.outgoing else "in",
            peer=self.peer,
            started_at=self.started_at,
            ended_at=self.ends_at if ended else None,
            end="hangup" if ended else "",
        )
        samples = tuple(item for item in new if isinstance(item, MediaSample))
        happenings = tuple(item for item in new if isinstance(item, Happening))
        return Report(v=1, now=now, call=report, samples=samples, happenings=happenings)

    def _at(self, second: int) -> int:
        return self.started_at + second * 1000

    def _add(self, item: Item) -> None:
        self.items.append(item)

    @property
    def _turn(self) -> int:
        """Return the second from which on it is not as before."""
        return self.seconds // 3

    def _iterate_happenings(self, second: int) -> Iterator[tuple[str, dict[str, Any]]]:
        if second == 0:
            yield "ice", {"state": "connected"}
            yield "codec", {"in": "opus/48000/2", "out": "opus/48000/2"}
            yield "path", _make_path(relayed=self.kind is Kind.RELAY)
        if second == self._turn and self.kind is Kind.BACKGROUND:
            yield "hidden", {}
        if second == self._turn and self.kind is Kind.SWITCH:
            yield "offline", {}
            yield "ice", {"state": "disconnected"}
        if second == self._turn + AWAY_SECONDS and self.kind is Kind.SWITCH:
            yield "online", {}
            yield "restart", {}
            yield "path", {**_make_path(relayed=False), "network": "cellular", "local_address": "203.0.113.0"}
            yield "switch-over", self._make_switch_over()

    def _make_switch_over(self) -> dict[str, Any]:
        steps = [round(self._chance.uniform(150, 700)) for _ in range(5)]
        names = ("noticed_ms", "socket_ms", "registered_ms", "reinvite_ms", "media_ms")
        took = {name: sum(steps[1 : n + 1]) for n, name in enumerate(names) if n}
        return {"reason": "offline", "noticed_ms": steps[0], **took, "result": "resumed"}

    def _make_sample(self, second: int) -> MediaSample:
        turned = second > self._turn
        if self.kind is Kind.SWITCH and turned and second <= self._turn + AWAY_SECONDS:
            return self._make_away_sample(second)
        relayed, hidden = self.kind is Kind.RELAY, self.kind is Kind.BACKGROUND and turned
        lost = self._count_lost(0.05) if relayed and turned else self._count_lost(0.0005)
        rtt_ms = self._vary(290 if relayed and turned else 120 if relayed else 45)
        return MediaSample(
            n=len(self.items),
            at=self._at(second),
            ms=1000,
            flags=("hidden",) if hidden else (),
            incoming=Incoming(
                packets=PACKETS - lost,
                bytes=(PACKETS - lost) * BYTES // PACKETS,
                lost=lost,
                jitter_ms=self._vary(18 if relayed else 4),
                buffer_ms=self._vary(85 if relayed else 45),
                concealed=round(self._chance.uniform(0.15, 0.3) if hidden else lost / PACKETS, 4),
                level=round(self._chance.uniform(0.05, 0.3), 3),
            ),
            outgoing=Outgoing(packets=PACKETS, bytes=BYTES, target_bps=24_000, lost=0, rtt_ms=rtt_ms),
        )

    def _make_away_sample(self, second: int) -> MediaSample:
        nothing = Incoming(packets=0, bytes=0, lost=0)
        return MediaSample(n=len(self.items), at=self._at(second), ms=1000, flags=("offline",), incoming=nothing)

    def _vary(self, value: float) -> float:
        return round(value * self._chance.lognormvariate(0, 0.12), 1)

    def _count_lost(self, share: float) -> int:
        return sum(self._chance.random() < share for _ in range(PACKETS))


def _make_path(*, relayed: bool) -> dict[str, Any]:
    near = {"local": "relay", "relay": "udp"} if relayed else {"local": "srflx", "local_address": "198.51.100.0"}
    return {**near, "remote": "srflx", "protocol": "udp", "network": "wifi", "remote_address": "192.0.2.0"}


class SimulatedCalls:
    """Let browser phones call each other, one kind of call after the other, and report it to an API at `url`."""

    def __init__(self, fleet: Sequence[SimulatedPhone], url: str, secret: str) -> None:
        self._phones = select_callers(fleet)[: 2 * LIVE_CALLS]
        self._url = url
        self._secret = secret
        self._chance = random.Random(f"{time.time_ns()}")
        self._kinds = list(Kind)
        self._made = 0
        self._live: list[SimulatedCall] = []
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run until stopped. While nobody listens, pages keep their reports."""
        async with httpx2.AsyncClient(base_url=self._url, timeout=TIMEOUT_SECONDS) as client:
            while not self._stopping.is_set():
                await asyncio.gather(*(self._report_call(client, call) for call in self._live))
                self._live = [call for call in self._live if call.next < len(call.items)]
                self._live += self._begin_calls()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPORT_SECONDS):
                        await self._stopping.wait()

    def stop(self) -> None:
        """Tell nothing more than is being told."""
        self._stopping.set()

    def _begin_calls(self) -> Iterator[SimulatedCall]:
        """Start as many calls as there is room for, of phones that are not in a call."""
        busy = {call.device for call in self._live}
        free = [n for n, phone in enumerate(self._phones[:LIVE_CALLS]) if make_device_id(phone) not in busy]
        for n in free:
            yield self._make_call(n, now_ms(), self._chance.randint(*LENGTHS))

    def _make_call(self, caller: int, started_at: int, seconds: int) -> SimulatedCall:
        phone, other = self._phones[caller], self._phones[caller - 1]
        kind = self._kinds[self._made % len(self._kinds)]
        self._made += 1
        peer = f"sip:{other.aor.replace(' ', '%20')}@example.com"
        seed = f"{self._chance.random()}"
        return SimulatedCall(make_device_id(phone), peer, kind, started_at, seconds, seed, outgoing=self._made % 3 == 0)

    async def _report_call(self, client: httpx2.AsyncClient, call: SimulatedCall) -> None:
        now = now_ms()
        call_token = token.make(self._secret, Claims(call.device, call.call_id), now // 1000, TOKEN_SECONDS)
        try:
            answer = await client.post(
                f"/api/v1/calls/{quote(call.call_id, safe='')}/samples",
                content=msgspec.json.encode(call.report(now)),
                headers={"authorization": f"Bearer {call_token}"},
            )
        except httpx2.HTTPError:
            return
        if answer.status_code == 200:
            call.next = answer.json()["next"]
        else:
            logger.error("could not report a simulated call", status=answer.status_code, answer=answer.text[:200])
