"""The OpenAPI document against a running companion: what it says is so, whatever somebody sends."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from jsonschema_rs import Draft202012Validator
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from companion.opensips.events import INSERT, LATENCY
from companion.services.web import make_v1
from companion.simulator.redis import EmbeddedRedis, find_free_port
from tests.integration.conftest import Kind, Setup, until
from tests.integration.media import SECRET, a_token, happening, path_of, report, sample
from tests.integration.web import FLEET, OPERATE, OPERATE_SECRET, fill

schema = schemathesis.openapi.from_dict(make_v1().openapi()).exclude(path="/events")
"""All operations but the endless one."""
ALICE = {"attr": "<urn:uuid:c386bbc4-0b7e-4d8f-8c6a>"}
"""The device of the document's examples."""
OPERATOR = {"authorization": f"Bearer {OPERATE_SECRET}"}
SAMPLES = "/calls/{call_id}/samples"


@pytest.fixture(scope="module")
def companion(servers: dict[Kind, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a companion in a process of its own answers, with phones to tell of."""
    listen = f"127.0.0.1:{find_free_port()}"
    api = {"listen": listen, "tokens": [OPERATE.line], "dashboard": False}
    media = {"secret": SECRET, "reports_per_minute": 6000}
    setup = Setup(servers["module"], tmp_path_factory.mktemp("openapi"), api=api, media=media)
    fill(setup, [*FLEET, (INSERT, "alice", ALICE), (LATENCY, "alice", {**ALICE, "latency": 48_000})])
    with setup.process("api") as process:
        until(lambda: is_alive(listen), 60)
        yield f"http://{listen}"
        assert process.terminate() == 0
        warnings = {line["event"] for line in process.log() if line["level"] in ("warning", "error")}
        assert warnings <= {"not ready"} | {
            f"a report of a call was refused: {why}" for why in ("wrong-report", "token-wrong", "foreign-call")
        }
    setup.store.close()


def is_alive(listen: str) -> bool:
    try:
        return httpx2.get(f"http://{listen}/healthz").status_code == 200
    except httpx2.ConnectError:
        return False


@pytest.fixture(scope="module")
def document(companion: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx2.get(f"{companion}/api/v1/openapi.json").json()
    return document


@schema.parametrize()
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_operations(companion: str, case: schemathesis.Case[Any]) -> None:
    """Each operation answers what is described, to what may be sent and to what may not; and never with a 500."""
    excluded = [ignored_auth]  # proven for each route and everybody in test_access.py
    if case.query.get("cursor"):
        excluded.append(positive_data_acceptance)  # a text, but not any text
    if case.path == SAMPLES:
        excluded.append(positive_data_acceptance)  # its times must fit each other
    case.call_and_validate(base_url=f"{companion}/api/v1", headers=_headers(case), excluded_checks=excluded)


def _headers(case: schemathesis.Case[Any]) -> dict[str, str]:
    """What lets it in: where a call is told of, a token for that very call."""
    if case.path != SAMPLES:
        return OPERATOR
    device, call_id = case.query.get("device") or "alice/web", unquote(str(case.path_parameters["call_id"]))
    return {"authorization": f"Bearer {a_token(str(device), call_id)}"}


def test_a_report_as_it_is_described(companion: str, document: dict[str, Any]) -> None:
    """A report that is made by the document's own schema, and whose times fit, is taken."""
    payload = report(sample(0), happening(1, "ice", state="connected"))
    body = document["paths"][SAMPLES]["post"]["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**document, **body})
    assert validator.is_valid(payload)
    assert not validator.is_valid(payload | {"now": -1})
    headers = {"authorization": f"Bearer {a_token()}"}
    answer = httpx2.post(f"{companion}{path_of()}", json=payload, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"stored": 2, "next": 2, "advice": None})


def test_the_examples_are_there(companion: str, document: dict[str, Any]) -> None:
    """What the document gives as examples of devices are some of those that the operations were tried with."""
    parameters = document["paths"]["/devices/{id}"]["get"]["parameters"]
    for name in next(parameter["schema"]["examples"] for parameter in parameters if parameter["name"] == "id"):
        answer = httpx2.get(f"{companion}/api/v1/devices/{quote(name, safe='')}")
        assert answer.json()["samples"]


def test_the_document(document: dict[str, Any]) -> None:
    """The document is of OpenAPI 3.1, says where it holds, and everything in it is told in words."""
    assert document["openapi"].startswith("3.1")
    assert document["servers"][0]["url"] == "/api/v1"
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["description"]
            assert all(parameter["description"] for parameter in operation.get("parameters", ()))


@pytest.mark.parametrize("status", ["401", "421", "422", "500", "503"])
def test_problems_are_described(document: dict[str, Any], status: str) -> None:
    """Each operation describes its problems as what they are."""
    for operations in document["paths"].values():
        for operation in operations.values():
            assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
