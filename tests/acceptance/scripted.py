"""Calls as a browser would report them, made up second by second: a line turns bad, a network changes, one is muted."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.client import HTTPConnection
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from companion.text import Json

SIZE = 300
"""Items in a report: so many are well below what one may carry."""


class Line(NamedTuple):
    """How the way of the media is for a while; `loss` and `concealed` are shares."""

    rtt_ms: float = 46
    jitter_ms: float = 4
    loss: float = 0.0
    bps: float = 24_000
    concealed: float = 0.0
    buffer_ms: float = 35


GOOD = Line()
BAD = Line(rtt_ms=210, jitter_ms=28, loss=0.09, concealed=0.07, buffer_ms=90)
RELAYED = Line(rtt_ms=88, jitter_ms=7, loss=0.002)
WIFI = {"local": "srflx", "remote": "host", "protocol": "udp", "network": "wifi"}
RELAY = {"local": "relay", "remote": "host", "protocol": "udp", "relay": "tls", "network": "cellular"}


class ScriptedCall:
    """One call of a device; its clock, in epoch ms, goes on with each second that is told."""

    def __init__(self, device: str, call_id: str, started_at: int, peer: str = "", direction: str = "out") -> None:
        self.device = device
        self.call_id = call_id
        self.clock = started_at
        self.head: Json = {"direction": direction, "peer": peer, "started_at": started_at}
        self._samples: list[Json] = []
        self._happenings: list[Json] = []
        self._next_unsent = 0
        self._n = 0
        self._chance = random.Random(call_id)

    def begin(self, path: Json | None = None, codec: str = "opus/48000/2") -> Self:
        addresses = {"local_address": "198.51.100.0/24", "remote_address": "203.0.113.0/24"}
        self.happen("codec", **{"in": codec, "out": codec})
        self.happen("ice", state="checking").happen("path", **{**(path or WIFI), **addresses})
        return self.happen("ice", state="connected").happen("connection", state="connected")

    def happen(self, what: str, **fields: Any) -> Self:
        self._happenings.append({"n": self._number(), "at": self.clock, "what": what, "fields": fields})
        return self

    def seconds(self, count: int, line: Line = GOOD, flags: Sequence[str] = ()) -> Self:
        for _ in range(count):
            self.clock += 1000
            self._samples.append(self._sample(line, 1000, flags))
        return self

    def sleep(self, seconds: int, flags: Sequence[str] = ("gap",)) -> Self:
        """One sample for all of a time in which no timer ran, or nothing could be sent."""
        self.clock += seconds * 1000
        sample = {"n": self._number(), "at": self.clock, "ms": seconds * 1000, "flags": list(flags)}
        self._samples.append({**sample, "in": {"packets": 0, "bytes": 0, "lost": 0}, "out": {"packets": 0, "bytes": 0}})
        return self

    def end(self, how: str = "hangup", why: str = "") -> Self:
        self.head |= {"ended_at": self.clock, "end": how, "why": why}
        return self

    def _number(self) -> int:
        self._n += 1
        return self._n - 1

    def _sample(self, line: Line, ms: int, flags: Sequence[str]) -> Json:
        packets = 50 * ms // 1000
        lost = sum(self._chance.random() < line.loss for _ in range(packets))
        shake = self._chance.gauss
        rtt_ms = round(max(1.0, shake(line.rtt_ms, line.rtt_ms / 12)), 1)
        jitter_ms = round(max(0.2, shake(line.jitter_ms, line.jitter_ms / 6)), 1)
        in_bytes, out_bytes = (int(max(0.0, shake(line.bps, line.bps / 30)) * ms / 8000) for _ in range(2))
        muted = "muted" in flags
        sample = {"n": self._number(), "at": self.clock, "ms": ms, "rtt_ms": rtt_ms, "flags": list(flags)}
        received = {"packets": packets - lost, "bytes": in_bytes, "lost": lost, "jitter_ms": jitter_ms}
        playout = {"buffer_ms": line.buffer_ms, "concealed": line.concealed, "level": 0.1}
        sent = {"packets": packets, "bytes": out_bytes // 8 if muted else out_bytes, "rtt_ms": rtt_ms}
        return {
            **sample,
            "in": {**received, **playout},
            "out": {**sent, "lost": line.loss, "level": 0.0 if muted else 0.1},
        }

    def reports(self, now: int) -> Iterator[Json]:
        """What was not told yet, as reports sent at `now` (epoch ms); at least one, for how the call is."""
        for first in range(self._next_unsent, max(self._n, self._next_unsent + 1), SIZE):
            numbers = range(first, first + SIZE)
            yield {
                "v": 1,
                "now": now,
                "call": self.head,
                "samples": [item for item in self._samples if item["n"] in numbers],
                "happenings": [item for item in self._happenings if item["n"] in numbers],
            }
        self._next_unsent = self._n

    def post(self, listen: str, token: str, now: int) -> None:
        """Tell a companion, as the page that makes the call would."""
        for report in self.reports(now):
            path = f"/api/v1/calls/{quote(self.call_id, safe='')}/samples"
            head = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            with closing(HTTPConnection(listen, timeout=10)) as connection:
                connection.request("POST", path, json.dumps(report), head)
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()


def eventful(device: str, call_id: str, started_at: int, peer: str) -> ScriptedCall:
    """Ten minutes and a half in which everything happens that may happen in a call."""
    call = ScriptedCall(device, call_id, started_at, peer).begin().seconds(150)
    call.seconds(95, BAD).seconds(40)
    call.happen("muted").seconds(25, flags=("muted",)).happen("unmuted").seconds(30)
    call.happen("offline").sleep(14, ("offline", "gap")).happen("online")
    call.happen("network", type="cellular", effective="4g", rtt_ms=90).happen("restart")
    steps = {"noticed_ms": 310, "socket_ms": 420, "registered_ms": 560, "reinvite_ms": 790, "media_ms": 1240}
    call.happen("switch-over", reason="network", result="resumed", **steps)
    addresses = {"local_address": "192.0.2.0/24", "remote_address": "203.0.113.0/24"}
    call.seconds(1, RELAYED, ("restart",)).happen("path", **RELAY, **addresses).seconds(60, RELAYED)
    call.happen("limit", max_bps=16_000, by="advice").seconds(10, RELAYED._replace(bps=16_000))
    call.happen("limited", max_bps=16_000, before_bps=24_100, after_bps=16_050, before_loss=0.02, after_loss=0.0)
    call.seconds(30, RELAYED._replace(bps=16_000)).happen("hidden")
    call.seconds(20, RELAYED._replace(concealed=0.2, bps=16_000), ("hidden",)).sleep(9, ("hidden", "gap"))
    call.seconds(40, RELAYED._replace(concealed=0.2, bps=16_000), ("hidden",)).happen("visible")
    call.happen("held").seconds(20, RELAYED._replace(bps=1000), ("held",)).happen("resumed").seconds(80, RELAYED)
    return call.end("hangup", "BYE from the other side")
