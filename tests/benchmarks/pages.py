"""Report calls as browsers do: each page has a connection and a token of its own and reports every five seconds.

    python -m tests.benchmarks.pages PORT CALLS SECONDS

connects, prints a line, waits for one, reports for SECONDS, and prints the outcome as JSON. Reports are spread evenly.
The time of a report counts from when it was due until it was accepted, so delays and refusals of the server count too.
"""

import asyncio
import json
import sys
import time
from random import Random
from typing import Any, Final
from urllib.parse import quote

from companion.tokens import call as token
from companion.tokens.call import Claims

SECRET: Final = "benchmark" * 4
EVERY_SECONDS: Final = 5
SAMPLES: Final = 5


def device(number: int) -> str:
    return f"caller{number}/urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}"


def call_id(number: int) -> str:
    return f"{number:08x}-5f2c1b0e9a@phone.example.com"


class Page(asyncio.Protocol):
    """Report one call on one connection, and repeat what was not accepted."""

    def __init__(self, number: int, seconds: int) -> None:
        self.times: list[float] = []
        self.refused = 0
        self.sent = 0
        self._random = Random(number)
        self._started_ms = int(time.time() * 1000)
        self._unsent: list[dict[str, Any]] = []
        self._due: list[float] = []
        self._sending = 0
        self._unread = b""
        self._transport: asyncio.Transport | None = None
        made = token.make(SECRET, Claims(device(number), call_id(number)), int(time.time()), seconds + 60)
        self._head = (
            f"POST /api/v1/calls/{quote(call_id(number), safe='')}/samples HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {made}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: "
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        raise RuntimeError("the server hung up") from exc

    @property
    def waits(self) -> bool:
        """Return whether something was not accepted yet."""
        return bool(self._due)

    def happen(self, due: float) -> None:
        """Add five seconds that are due at this time of the event loop."""
        self._unsent += self._items(int(time.time() * 1000))
        self._due.append(due)
        self.send()

    def five_seconds(self, now: int) -> dict[str, Any]:
        """Return a report of only the five seconds until `now` (epoch ms)."""
        self._unsent = self._items(now)
        return self._make_report() | {"now": now}

    def _items(self, now: int) -> list[dict[str, Any]]:
        happenings = [] if self.sent else [self._happening(now, "codec"), self._happening(now, "path")]
        return [*happenings, *(self._sample(now - 1000 * (SAMPLES - 1 - n)) for n in range(SAMPLES))]

    def send(self) -> None:
        """Send everything that was not accepted yet, unless an answer is still to come."""
        if self._sending or self._transport is None:
            return
        self._sending = len(self._due)
        body = json.dumps(self._make_report(), separators=(",", ":")).encode()
        self._transport.write(f"{self._head}{len(body)}\r\n\r\n".encode() + body)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        if not end or len(rest) < int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            return
        self._unread = b""
        self._answered(json.loads(rest) if head.startswith(b"HTTP/1.1 200") else None)

    def _answered(self, answer: dict[str, Any] | None) -> None:
        """Remove what was accepted; the rest is sent again with the next report."""
        done, self._sending = self._sending, 0
        if answer is None:
            self.refused += 1
            return
        now = asyncio.get_running_loop().time()
        self.times += [now - due for due in self._due[:done]]
        self._due = self._due[done:]
        self._unsent = [item for item in self._unsent if item["n"] >= answer["next"]]

    def _make_report(self) -> dict[str, Any]:
        call = {"direction": "out", "peer": "sip:echo@example.com", "started_at": self._started_ms}
        return {
            "v": 1,
            "now": int(time.time() * 1000),
            "call": call,
            "samples": [item for item in self._unsent if "ms" in item],
            "happenings": [item for item in self._unsent if "what" in item],
        }

    def _number_of_item(self) -> int:
        self.sent += 1
        return self.sent - 1

    def _happening(self, at: int, what: str) -> dict[str, Any]:
        fields = {
            "codec": {"in": "opus/48000/2", "out": "opus/48000/2"},
            "path": {"local": "srflx", "remote": "relay", "protocol": "udp", "network": "wifi"},
        }
        return {"n": self._number_of_item(), "at": at, "what": what, "fields": fields[what]}

    def _sample(self, at: int) -> dict[str, Any]:
        random = self._random
        jitter, rtt = round(random.uniform(1, 12), 1), round(random.uniform(30, 60), 1)
        return {
            "n": self._number_of_item(),
            "at": at + random.randrange(-3, 4),
            "ms": random.randrange(997, 1004),
            "rtt_ms": rtt,
            "in": {
                "packets": random.randrange(49, 52),
                "bytes": random.randrange(3000, 4000),
                "lost": int(random.random() < 0.02),
                "jitter_ms": jitter,
                "buffer_ms": round(random.uniform(30, 70), 1),
                "concealed": round(random.uniform(0, 0.01), 4),
                "level": round(random.random(), 3),
            },
            "out": {
                "packets": 50,
                "bytes": random.randrange(3000, 4000),
                "target_bps": 32_000,
                "lost": 0,
                "rtt_ms": round(rtt + 2, 1),
                "jitter_ms": round(random.uniform(1, 12), 1),
                "level": round(random.random(), 3),
            },
        }


async def run_pages(port: int, calls: int, seconds: int) -> dict[str, Any]:
    """Connect, wait for a line, report, and return the outcome (times in ms, sorted)."""
    loop = asyncio.get_running_loop()
    pages = [Page(number, seconds) for number in range(calls)]
    for page in pages:
        await loop.create_connection(lambda page=page: page, "127.0.0.1", port)  # type: ignore[misc]
    print("connected", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    started = loop.time()
    for number in range(calls * seconds // EVERY_SECONDS):
        due = started + number * EVERY_SECONDS / calls
        await asyncio.sleep(max(0.0, due - loop.time()))
        pages[number % calls].happen(due)
    while waiting := [page for page in pages if page.waits]:
        for page in waiting:
            page.send()
        await asyncio.sleep(0.2)
    return {
        "seconds": loop.time() - started,
        "sent": sum(page.sent for page in pages),
        "refused": sum(page.refused for page in pages),
        "times": sorted(round(1000 * seconds, 2) for page in pages for seconds in page.times),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run_pages(*map(int, sys.argv[1:])))))
