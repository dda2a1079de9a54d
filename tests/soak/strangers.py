"""What strangers do to the companion: connections that say nothing or little, floods, and nonsense on the bus."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from random import Random
from typing import Any, Final
from urllib.parse import quote

import httpx2
import msgpack
import zmq

from companion.bus.curve import Curve
from companion.bus.envelope import HEARTBEAT, HEARTBEAT_SECONDS
from companion.bus.publisher import Publisher
from companion.opensips.events import EVENT_NAMES
from companion.tokens import call as token
from companion.tokens.call import Claims

NODE: Final = "stranger"
CONNECTIONS: Final = 300
EVIL: Final = {"origin": "https://evil.example"}
SECRET: Final = "soak" * 8
Send = Callable[[httpx2.AsyncClient, int], Awaitable[httpx2.Response]]


class HttpStrangers:
    """Attack one HTTP port; each attack lasts for so many seconds."""

    def __init__(self, port: int, chance: Random) -> None:
        self._port = port
        self._url = f"http://127.0.0.1:{port}"
        self._chance = chance

    async def idle(self, seconds: float) -> None:
        """Open connections and say nothing."""
        await self._hold(seconds, b"")

    async def unfinished(self, seconds: float) -> None:
        """Begin requests, some of them logins with a body, and send a byte a second."""
        head = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        await self._hold(seconds / 2, head)
        await self._hold(seconds / 2, head + b"Content-Length: 60000\r\n\r\ntoken=")

    async def log_in_badly(self, seconds: float) -> None:
        """Try tokens, each time from another invented address."""

        def attempt(client: httpx2.AsyncClient, number: int) -> Awaitable[httpx2.Response]:
            address = f"203.0.113.{number % 256}, 198.51.100.{number // 256 % 256}"
            return client.post("/login", data={"token": f"wrong{number}"}, headers={"x-forwarded-for": address})

        await self._flood(seconds, attempt)

    async def poll_socket_io(self, seconds: float) -> None:
        """Begin sessions of socket.io by polling, from pages of another site."""
        place = "/_nicegui_ws/socket.io/?EIO=4&transport=polling&t="
        await self._flood(seconds, lambda client, number: client.get(f"{place}{number}", headers=EVIL))

    async def report_invented_calls(self, seconds: float) -> None:
        """Report many invented calls of one device."""
        now = int(time.time() * 1000)
        samples = [{"n": n, "at": now - 60_000 + 1000 * n, "ms": 1000, "in": {"packets": 50}} for n in range(60)]
        call = {"direction": "in", "peer": "sip:nobody@example.com", "started_at": now - 60_000}
        body = json.dumps({"v": 1, "now": now, "call": call, "samples": samples, "happenings": []}).encode()

        def report(client: httpx2.AsyncClient, number: int) -> Awaitable[httpx2.Response]:
            call_id = f"invented-{now}-{number % 500}"
            made = token.make(SECRET, Claims("flood/urn:uuid:f100d", call_id), now // 1000, 3600)
            headers = {"authorization": f"Bearer {made}"}
            return client.post(f"/api/v1/calls/{quote(call_id, safe='')}/samples", content=body, headers=headers)

        await self._flood(seconds, report)

    async def _hold(self, seconds: float, begin: bytes) -> None:
        """Hold connections that begin like this; those that still live get a byte a second if there was a beginning."""
        writers: list[asyncio.StreamWriter] = []
        try:
            for _ in range(CONNECTIONS):
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    writers.append(writer)
                    writer.write(begin)
            for _ in range(round(seconds)):
                await asyncio.sleep(1)
                for writer in writers:
                    if begin and not writer.is_closing():
                        writer.write(b"x")
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _flood(self, seconds: float, send: Send) -> None:
        """Send one request after the other on a few connections; what the answers are does not matter here."""
        first, ends = self._chance.randrange(1 << 24), time.monotonic() + seconds

        async def flood(start: int) -> None:
            async with httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{self._port}", timeout=10, trust_env=False
            ) as client:
                for number in range(start, start + 1_000_000, 4):
                    if time.monotonic() > ends:
                        return
                    with suppress(httpx2.HTTPError):
                        await send(client, number)
                    await asyncio.sleep(0.01)

        await asyncio.gather(*(flood(first + start) for start in range(4)))


class BusStranger:
    """Publish nonsense as a node of its own, with the right keys, and live between the attacks."""

    def __init__(self, endpoint: str, curve: Curve, chance: Random) -> None:
        self._publisher = Publisher(endpoint, NODE, high_water_mark=1000, curve=curve)
        self._chance = chance

    async def run(self) -> None:
        try:
            while True:
                self._publisher.heartbeat(int(time.time() * 1000))
                await asyncio.sleep(HEARTBEAT_SECONDS)
        finally:
            self._publisher.close()

    async def babble(self, seconds: float) -> None:
        """Send messages that are wrong in each part."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for frames in self._make_nonsense():
                self._publisher._socket.send_multipart(frames, zmq.NOBLOCK)
            await asyncio.sleep(0.05)

    def _make_nonsense(self) -> Iterator[list[bytes]]:
        chance, name = self._chance, self._chance.choice([*EVENT_NAMES, HEARTBEAT]).encode()
        yield [chance.randbytes(8), chance.randbytes(200)]
        yield [name]
        yield [name, chance.randbytes(50), b"", b"more"]
        yield [name, b"\xa4\xff\xfe\xfd\xfc"]  # text that is not UTF-8
        yield [name, b"\x81" * 2000]
        yield [name, msgpack.packb({"v": 1, "node": NODE, "run": 1, "seq": -1, "ts": "soon", "params": {}})]
        yield [name, msgpack.packb({"v": 2, "node": "a b", "run": 1, "seq": 0, "ts": 0, "params": {}})]
        for params in self._make_params():
            ts = chance.choice((0, int(time.time() * 1000), 1 << 52, (1 << 63) - 1))
            message = {"v": 1, "node": NODE, "run": 1, "seq": chance.randrange(1 << 31), "ts": ts, "params": params}
            yield [name, msgpack.packb(message)]

    def _make_params(self) -> Iterator[Any]:
        chance = self._chance
        yield from (None, [], "text", {"aor": None}, {"seqs": {"x": "y"}}, {"seqs": {b"\xff": 1}})
        yield {"domain": "location", "aor": "\x1b[2J" + "x" * 2000, "uri": "sip:" + "y" * 3000, "latency": -(1 << 62)}
        yield {"domain": "l", "aor": f"s{chance.randrange(9)}", "uri": "<script>", "expires": 1 << 62, "latency": 1}


async def knock_with_wrong_key(endpoints: tuple[str, ...], server_key: str, seconds: float) -> None:
    """Try to subscribe with a key that no bridge knows, again and again."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        public, secret = zmq.curve_keypair()
        with ExitStack() as stack:
            context = stack.enter_context(zmq.Context())
            for endpoint in endpoints:
                socket = stack.enter_context(context.socket(zmq.SUB))
                socket.setsockopt(zmq.LINGER, 0)
                socket.curve_publickey, socket.curve_secretkey = public, secret
                socket.curve_serverkey = server_key.encode()
                socket.subscribe(b"")
                socket.connect(endpoint)
            await asyncio.sleep(1)
