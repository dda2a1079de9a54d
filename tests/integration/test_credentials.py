"""Registrations with secrets everywhere, and all that is ever shown of them: no secret is in it."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from typer.testing import CliRunner

from companion import log
from companion.cli.main import app
from companion.errors import CompanionError, MiCallError
from companion.http.events.sources import DeviceSource, EventSource, FleetSource
from companion.opensips.events import DELETE, INSERT, LATENCY, LOST_PING_US
from companion.query.devices import iterate_devices
from companion.query.reader import Reader
from companion.remediation import audit
from companion.remediation.audit import AuditEntry, Outcome, describe_evidence
from companion.remediation.policy import Candidate, Decision
from companion.services.web import make_app
from companion.text import Json
from tests.integration.conftest import MakeSetup, Setup
from tests.integration.web import HOST, Event, fill, make_web
from tests.planted import is_leaked, registrations

API = ("", "/latency", "/timeline", "/calls", "/latency.csv")
FLEET_API = ("/devices", "/summary", "/history", "/nodes", "/remediations", "/remediation", "/calls", "/media")
EXAMPLES = 4
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes seconds, so none is made smaller."""
COMMANDS = (
    *(["summary"], ["devices"], ["devices", "--json"], ["nodes"], ["calls"], ["check-config"]),
    *(["remediations"], ["remediations", "--json"], ["remediation", "status"]),
)

Outputs = list[tuple[str, str]]
"""Each output with its name."""


def make_events(number: int, registration: Json) -> Iterator[Event]:
    """Make the life of a phone: it registers, answers, moves, loses pings; and events that are refused."""
    aor, moved = f"user{number}", registration["uri"] + ";moved=1"
    yield INSERT, aor, registration
    yield LATENCY, aor, registration | {"latency": 40_000}
    yield INSERT, aor, registration | {"uri": moved, "callid": registration["uri"]}
    for _ in range(4):
        yield LATENCY, aor, registration | {"uri": moved, "latency": LOST_PING_US}
    yield DELETE, aor, registration
    yield INSERT, aor, registration | {"cseq": -(1 << 40)}
    yield INSERT, aor, registration | {"uri": {registration["uri"]: 1}}
    yield LATENCY, aor, registration | {"latency": registration["uri"]}
    yield INSERT, aor, registration | {"callid": registration["uri"] * 99}


def decide(setup: Setup) -> None:
    """Write a decision about each contact into the audit, whose answer of MI repeats its URI."""
    for device in iterate_devices(setup.store):
        for contact in device.contacts:
            answer = str(MiCallError(500, f"bad URI {contact.binding.uri}"))
            evidence = describe_evidence(contact, {"n": {"uri": contact.binding.uri}}, "remove")
            outcome = Outcome("mi-error", answer, evidence=evidence)
            candidate = Candidate(contact, "lost-pings", contact.lost_since)
            audit.record(setup.store, AuditEntry(candidate, Decision("remove", "it is lost"), outcome, "enforce"))


def ask_api(client: TestClient, devices: list[str]) -> Outputs:
    """Ask every GET route, of each device by its id."""
    paths = [f"/api/v1/devices/{quote(device, safe='')}{rest}" for device in devices for rest in API]
    paths += [f"/api/v1{path}" for path in FLEET_API]
    paths += ["/metrics", "/healthz", "/readyz", "/", "/devices", "/calls", "/remediations"]
    paths += [f"/devices/{quote(device, safe='')}" for device in devices]
    return [(path, client.get(path).text) for path in paths]


def follow(setup: Setup, devices: list[str]) -> Outputs:
    """Take the first frames of the live streams."""
    reader = Reader(setup.config, setup.store)
    sources: list[EventSource] = [FleetSource(reader), *(DeviceSource(reader, device, 1) for device in devices)]
    return [("stream", event.encode().decode()) for source in sources for event in [*source.first(1), *source.poll()]]


def run_commands(setup: Setup, devices: list[str]) -> Outputs:
    """Run the commands that show devices or contacts; errors of ours are shown as well."""
    runner, file = CliRunner(), str(setup.file())
    commands = [*COMMANDS]
    for device in devices:
        commands += [["device", device], ["device", device, "--json"], ["ping", device, "--count", "1"]]
    outputs = []
    for command in commands:
        result = runner.invoke(app, [*command, "-c", file])
        if result.exception and not isinstance(result.exception, SystemExit | CompanionError):
            raise result.exception
        outputs.append((" ".join(command), f"{result.output}{result.exception or ''}"))
    return outputs


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """Take what is logged, at any level."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    log.configure("json", "debug", stream)
    try:
        yield stream
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@settings(
    max_examples=EXAMPLES,
    phases=PHASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(planted=st.lists(registrations("user"), min_size=4, max_size=4))
def test_no_output_holds_a_secret(make_setup: MakeSetup, planted: list[Json]) -> None:
    """API, pages, streams, metrics, commands, audit and log: nothing that leaves the companion holds a credential."""
    setup = make_web(make_setup, dashboard=True)
    with logged() as stream:
        fill(setup, [event for number, one in enumerate(planted) for event in make_events(number, one)])
        decide(setup)
        devices = [device.id for device in iterate_devices(setup.store)]
        with TestClient(make_app(setup.config, setup.store), base_url=f"http://{HOST}") as client:
            outputs = ask_api(client, devices)
        outputs += follow(setup, devices)
        outputs += run_commands(setup, devices)
        outputs += [("audit", json.dumps(entry)) for _, entry in audit.read(setup.store)]
    outputs += [("log", line) for line in stream.getvalue().splitlines()]
    assert len(devices) >= len(planted)
    assert sorted({name for name, text in outputs if is_leaked(text)}) == []
    assert all(any(name.startswith(kind) for name, _ in outputs) for kind in ("stream", "device ", "audit", "log"))
