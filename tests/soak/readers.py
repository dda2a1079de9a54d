"""Read the companion as people and machines do: API answers, streams, and pages of the dashboard."""

import ast
import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from random import Random
from typing import Final
from urllib.parse import quote, urlencode

import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

THINK_SECONDS: Final = 0.5
TIMEOUT_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 1.0
READY: Final = "/readyz"
PROBES: Final = ("/healthz", READY, "/metrics")
PATHS: Final = (
    *("/api/v1/summary", "/api/v1/devices?limit=50", "/api/v1/devices?status=stale", "/api/v1/nodes"),
    *("/api/v1/history", "/api/v1/calls", "/api/v1/media", "/api/v1/remediations", "/api/v1/remediation"),
)
PAGES: Final = ("/", "/devices", "/calls", "/remediations")
_QUERY: Final = re.compile(r"query: (\{.*?\}),\n")


class Answers:
    """Count answers by path and status ("none" when the connection failed), and keep the slowest in seconds."""

    def __init__(self) -> None:
        self.statuses: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.slowest: defaultdict[str, float] = defaultdict(float)

    def note(self, path: str, status: str, seconds: float) -> None:
        name = path.partition("?")[0]
        self.statuses[name][status] += 1
        self.slowest[name] = max(self.slowest[name], seconds)

    def count(self, status: str) -> int:
        return sum(counts[status] for counts in self.statuses.values())


class Readers:
    """Keep readers of each kind at it until cancelled; a connection that ends is made anew."""

    def __init__(self, port: int, devices: Sequence[str], seed: int) -> None:
        self.answers = Answers()
        self.streamed = self.page_messages = 0
        self.is_ready = False
        self.thawed_at = 0.0
        """When the API went on after it was frozen, by the monotonic clock: who had asked before says nothing of it."""
        self._port = port
        self._devices = devices
        self._seed = seed

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for path in PROBES:
                tasks.create_task(self._probe(path))
            for number in range(4):
                tasks.create_task(self._read(Random(f"{self._seed}/{number}")))
            for device in ("", "", *self._devices[:3]):
                tasks.create_task(self._stream(device))
            for path in (*PAGES, *(f"/devices/{quote(device, safe='')}" for device in self._devices[:4])):
                tasks.create_task(self._keep_page(path))

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self._port}", timeout=TIMEOUT_SECONDS, trust_env=False)

    async def _probe(self, path: str) -> None:
        async with self._client() as client:
            while True:
                status = await self._get(client, path)
                if path == READY:
                    self.is_ready = status == "200"
                await asyncio.sleep(1)

    async def _read(self, chance: Random) -> None:
        async with self._client() as client:
            while True:
                device = f"/api/v1/devices/{quote(chance.choice(self._devices), safe='')}"
                await self._get(client, chance.choice((*PATHS, device, f"{device}/latency", f"{device}/timeline")))
                await asyncio.sleep(chance.expovariate(1 / THINK_SECONDS))

    async def _get(self, client: httpx2.AsyncClient, path: str) -> str:
        started, status = time.monotonic(), "none"
        try:
            status = str((await client.get(path)).status_code)
        except httpx2.HTTPError:
            await asyncio.sleep(AGAIN_SECONDS)
        parts = path.split("/")
        name = "/".join([*parts[:4], "…", *parts[5:]]) if len(parts) > 4 else path
        self.answers.note(name, status, time.monotonic() - started if started >= self.thawed_at else 0.0)
        return status

    async def _stream(self, device: str) -> None:
        path = f"/api/v1/events?device={quote(device, safe='')}" if device else "/api/v1/events"
        async with self._client() as client:
            while True:
                try:
                    async with client.stream("GET", path) as answer:
                        async for line in answer.aiter_lines():
                            self.streamed += line.startswith("data:")
                except httpx2.HTTPError:
                    pass
                await asyncio.sleep(AGAIN_SECONDS)

    async def _keep_page(self, path: str) -> None:
        async with self._client() as client:
            while True:
                try:
                    html = (await client.get(path)).text
                    if match := _QUERY.search(html):
                        await self._live(ast.literal_eval(match[1]))
                except (httpx2.HTTPError, WebSocketException, OSError, TimeoutError):
                    pass
                await asyncio.sleep(AGAIN_SECONDS)

    async def _live(self, query: dict[str, object]) -> None:
        """Keep the page's connection as its script does: by socket.io over a WebSocket."""
        ids = {"document_id": f"{query['client_id']}-document", "tab_id": f"{query['client_id']}-tab"}
        implicit = {"implicit_handshake": "true"}
        words = urlencode({"EIO": "4", "transport": "websocket", **query, **ids, **implicit})
        place = f"ws://127.0.0.1:{self._port}/_nicegui_ws/socket.io/?{words}"
        async with connect(place, origin=f"http://127.0.0.1:{self._port}", max_size=None, proxy=None) as socket:  # type: ignore[arg-type]
            async for text in socket:
                if text[:1] == "0":
                    await socket.send("40")
                elif text[:1] == "2":
                    await socket.send("3")
                else:
                    self.page_messages += 1
