"""Give random requests to the whole HTTP application, in this process."""

import asyncio
import tempfile
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final, Self

from companion import metrics
from companion.config import Config
from companion.services.web import make_app
from companion.simulator.redis import EmbeddedRedis
from companion.store.store import open_store
from companion.times import now_ms
from companion.tokens import call
from companion.tokens.access import Token
from tests.fuzz.mutation import mutate_bytes, mutate_text, mutate_value, to_json
from tests.fuzz.targets import SECRET, Target

OPERATE_SECRET: Final = f"companion_{'o' * 43}"
ORIGIN: Final = "https://phone.example.com"
HOST: Final = "127.0.0.1:8780"
SECONDS: Final = 60.0
PATHS: Final = (
    *(
        "/api/v1/devices",
        "/api/v1/devices/alice%2Fweb",
        "/api/v1/devices/alice/latency",
        "/api/v1/devices/a%2Fb/timeline",
    ),
    *(
        "/api/v1/summary",
        "/api/v1/calls",
        "/api/v1/calls/x",
        "/api/v1/media",
        "/api/v1/history",
        "/api/v1/remediations",
    ),
    *("/api/v1/media-tokens", "/api/v1/remediation/pause", "/login", "/logout", "/healthz", "/readyz", "/metrics", "/"),
    *("/api/v1/calls/call/samples", "/api/v1/openapi.json", "/static/last-mile.js", "/api/v1/devices/a%2Fb/calls"),
)
QUERIES: Final = (
    "",
    "limit=5&sort=latency&cursor=e30",
    "window=1h&points=20",
    "status=online&push=true",
    "search=a&aor=b&node=n",
    "device=alice",
)
HEADERS: Final = (
    *(
        "authorization",
        "cookie",
        "origin",
        "host",
        "content-type",
        "content-length",
        "x-forwarded-for",
        "if-none-match",
    ),
    *("accept", "last-event-id", "sec-fetch-site", "referer", "x-forwarded-proto", "transfer-encoding"),
)


class WebFuzz:
    """Run an application on a Redis of its own."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.target = Target("HTTP", self._make, self._read)

    def __enter__(self) -> Self:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        redis = self._stack.enter_context(EmbeddedRedis(folder / "redis", persistent=False))
        token = Token("fuzz", "operate", sha256(OPERATE_SECRET.encode()).hexdigest())
        media = {"secret": SECRET, "origins": [ORIGIN], "calls_per_hour": 100_000}
        api = {"tokens": [token.line], "dashboard": False}
        config = Config.model_validate({"redis": {"url": redis.url}, "media": media, "api": api})
        store = open_store(config.redis)
        self._stack.callback(store.close)
        self._app = make_app(config, store)
        self._runner = self._stack.enter_context(asyncio.Runner())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _make(self, random: Random) -> tuple[dict[str, Any], bytes]:
        """Return the scope and the body of a request."""
        is_report = random.random() < 0.3
        path = "/api/v1/calls/call/samples" if is_report else mutate_text(random, PATHS)
        raw = path.encode("utf-8", "replace")
        headers = {
            "host": HOST,
            "origin": ORIGIN if is_report else f"http://{HOST}",
            "authorization": _secret(random, is_report),
        }
        for _ in range(random.choice((0, 1, 2))):
            name = random.choice(HEADERS)
            headers[name] = mutate_text(random, [headers.get(name, ""), "0", "a=b", "Bearer x", "*"])
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": random.choice(("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X\0"))
            if not is_report
            else "POST",
            "scheme": "http",
            "path": raw.decode("utf-8", "replace"),
            "raw_path": raw,
            "query_string": mutate_text(random, QUERIES).encode("utf-8", "replace"),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()],
            "client": ("127.0.0.1", 5) if random.random() < 0.8 else None,
            "server": ("127.0.0.1", 8780),
            "state": {},
        }
        return scope, _body(random)

    def _read(self, payload: tuple[dict[str, Any], bytes]) -> None:
        scope, body = payload
        errors = metrics.total(metrics.API_ERRORS)
        status = self._runner.run(asyncio.wait_for(_request(self._app, scope, body), SECONDS))
        assert status < 500 or status == 503, f"{scope['method']} {scope['path']}: {status}"
        assert metrics.total(metrics.API_ERRORS) == errors


def _secret(random: Random, is_report: bool) -> str:  # noqa: FBT001 - of this file alone
    if is_report and random.random() < 0.9:
        return "Bearer " + call.make(SECRET, call.Claims("alice/web", "call"), now_ms() // 1000, 60)
    return f"Bearer {OPERATE_SECRET}"


def _body(random: Random) -> bytes:
    now = now_ms()
    sample = {"n": random.randrange(1000), "at": now, "ms": 1000, "in": {"packets": 50}, "out": {"rtt_ms": 3}}
    value = random.choice(
        (
            {"v": 1, "now": now, "call": {"direction": "in", "started_at": now}, "samples": [sample], "happenings": []},
            {"device": "alice/web", "call_id": "x", "minutes": 5},
            {"minutes": 5},
        )
    )
    payload = to_json(mutate_value(random, value))
    return mutate_bytes(random, [payload, b"token=x&next=/"]) if random.random() < 0.5 else payload


async def _request(app: Any, scope: dict[str, Any], body: bytes) -> int:
    """Return the status of the answer; the client goes as soon as the answer begins."""
    status, messages = 0, [{"type": "http.request", "body": body, "more_body": False}]
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            gone.set()

    await app(scope, receive, send)
    return status
