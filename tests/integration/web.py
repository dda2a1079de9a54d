"""A companion's HTTP side with phones to tell of, asked in this process."""

import time
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from starlette.testclient import TestClient

from companion.opensips.events import INSERT, LATENCY, LOST_PING_US
from companion.services.web import make_app
from companion.store.consumers import ConsumerReport, save_consumer
from companion.store.jobs import JobRun, save_job_run
from companion.text import Json
from companion.tokens.access import Token
from tests.integration.conftest import MakeSetup, RedisUrl, Setup, message, phone_event, record_events

HOST: Final = "127.0.0.1:8780"
# the same in each process of tests: they are part of the tests' names
READ_SECRET, OPERATE_SECRET, WRONG_SECRET = (f"companion_{letter * 43}" for letter in "rox")
READ = Token("reader", "read", sha256(READ_SECRET.encode()).hexdigest())
OPERATE = Token("operator", "operate", sha256(OPERATE_SECRET.encode()).hexdigest())

PUSHED: Final = "sip:bob@192.0.2.2;pn-provider=fcm;pn-prid=SECRET;pn-param=ALSO"
ALIVE_MS: Final = 60_000
"""The bridge was heard of so much later than now: a test may take its time."""
Event = tuple[str, str, Json]
FLEET: Final[Sequence[Event]] = [
    (INSERT, "ann", {"attr": "<urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001>"}),
    (LATENCY, "ann", {"latency": 20_000, "attr": "<urn:uuid:c386bbc4-0b7e-4d8f-8c6a-000000000001>"}),
    (INSERT, "bob", {"uri": PUSHED}),
    (
        LATENCY,
        "bob",
        {"uri": "sip:bob@192.0.2.2;pn-provider=fcm;pn-prid=SECRET;pn-param=ALSO", "latency": LOST_PING_US},
    ),
    (INSERT, "bob", {"uri": "sip:latency@192.0.2.3"}),
    (LATENCY, "bob", {"uri": "sip:latency@192.0.2.3", "latency": 217_000}),
    (INSERT, "eve%2F", {"uri": "sip:e%2Fve@192.0.2.4", "user_agent": '=HYPERLINK("http://evil.example")<script>'}),
]


def fill(setup: Setup, events: Sequence[Event] = FLEET) -> None:
    """Store what these events say, as of a second ago, of a bridge that lives."""
    now, batch = int(time.time() * 1000) - 1000, []
    seqs: defaultdict[str, int] = defaultdict(lambda: -1)
    for n, (event, aor, params) in enumerate(events):
        seqs[event] += 1
        payload = phone_event(aor, **params)
        batch.append(message(event, payload, now + n, seqs[event]))
    record_events(setup, batch)
    setup.store.connection.call("HSET", setup.store.keys.node("opensips"), "heartbeat_at", now + ALIVE_MS)


def staff(setup: Setup) -> None:
    """Store what a consumer and a scheduler store that do their work, as of a few seconds from now."""
    now = int(time.time() * 1000)
    save_consumer(setup.store, "host/1/abcd", ConsumerReport(now + 10_000))
    save_job_run(setup.store, "sweep", JobRun(now, 60))


def make_web(make_setup: MakeSetup, server: RedisUrl | None = None, **api: object) -> Setup:
    """A setup whose API knows two tokens and has no dashboard, unless told otherwise."""
    return make_setup(server=server, api={"tokens": [READ.line, OPERATE.line], "dashboard": False, **api})


def client(setup: Setup, *, peer: str = "127.0.0.1", secret: str = "", **headers: str) -> TestClient:
    """Somebody who asks the API of a setup, from this address and with this token."""
    sent_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if secret:
        sent_headers["authorization"] = f"Bearer {secret}"
    return TestClient(
        make_app(setup.config, setup.store),
        base_url=f"http://{HOST}",
        headers=sent_headers,
        client=(peer, 50_000),
        follow_redirects=False,
    )
