"""What pages send in tests: reports as they are on the wire, and tokens for them."""

import json
import time
from typing import Any, Final
from urllib.parse import quote

from starlette.testclient import TestClient

from companion.text import Json
from companion.tokens import call
from companion.tokens.call import Claims
from tests.integration.conftest import Kind, MakeSetup, Setup
from tests.integration.web import OPERATE, READ, client

SECRET: Final = "s" * 32
DEVICE: Final = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a"
CALL_ID: Final = "5f2c1b0e9a/1@phone.example.com"
ORIGIN: Final = "https://phone.example.com"


def make_media(make_setup: MakeSetup, kind: Kind = "module", **media: object) -> Setup:
    """A setup that takes reports from pages of ORIGIN."""
    api = {"tokens": [READ.line, OPERATE.line], "dashboard": False}
    return make_setup(kind, api=api, media={"secret": SECRET, "origins": [ORIGIN], **media})


def a_token(device: str = DEVICE, call_id: str = CALL_ID, *, seconds: int = 60, secret: str = SECRET) -> str:
    return call.make(secret, Claims(device, call_id), int(time.time()), seconds)


def now_ms() -> int:
    return int(time.time() * 1000)


def sample(n: int, *, now: int = 0, **more: Any) -> Json:
    """Second `n` of a call that began a minute before `now`."""
    return {
        "n": n,
        "at": (now or now_ms()) - 60_000 + 1000 * n,
        "ms": 1000,
        "in": {"packets": 50, "bytes": 3000, "lost": 0, "jitter_ms": 4.5, "buffer_ms": 40},
        "out": {"packets": 50, "bytes": 3000, "lost": 0, "rtt_ms": 30},
        **more,
    }


def happening(n: int, what: str, *, now: int = 0, **fields: Any) -> Json:
    return {"n": n, "at": (now or now_ms()) - 60_000 + 1000 * n, "what": what, "fields": fields}


def report(*items: Json, **more: Any) -> Json:
    """A report of these samples and happenings, as of now."""
    now = more.get("now") or now_ms()
    return {
        "v": 1,
        "now": now,
        "call": {"direction": "in", "peer": "sip:bob@example.com", "started_at": now - 60_000},
        "samples": [item for item in items if "what" not in item],
        "happenings": [item for item in items if "what" in item],
        **more,
    }


def path_of(call_id: str = CALL_ID) -> str:
    return f"/api/v1/calls/{quote(call_id, safe='')}/samples"


def page(setup: Setup, *, token: str | None = None, **headers: str) -> TestClient:
    """A page of another site's that tells of its call, far away, with a token of its own."""
    secret = a_token() if token is None else token
    return client(setup, peer="192.0.2.9", secret=secret, **{"origin": ORIGIN, **headers})


def send(browser: TestClient, payload: Json | bytes, call_id: str = CALL_ID, query: str = "", **headers: str) -> Any:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return browser.post(path_of(call_id) + query, content=body, headers=headers)


def dump(setup: Setup) -> dict[str, Any]:
    """All that there is in Redis of this test, as it stands."""
    connection = setup.store.connection
    reads: dict[str, tuple[Any, ...]] = {
        "hash": ("HGETALL",),
        "stream": ("XRANGE", "-", "+"),
        "zset": ("ZRANGE", 0, -1, "WITHSCORES"),
        "set": ("SMEMBERS",),
    }
    dumped = {}
    for key in keys(setup):
        name, *rest = reads[connection.call("TYPE", key)]
        dumped[key] = connection.call_for_bytes(name, key, *rest)
    return dumped


def keys(setup: Setup) -> list[str]:
    servers = setup.store.connection.masters()
    return sorted(key for server in servers for key in server.call("KEYS", f"{setup.config.redis.prefix}*"))
