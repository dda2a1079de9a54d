"""Budgets of reports: what one device, and all of them, can make Redis keep."""

import random
import string
from typing import Any

import pytest

from companion.query.reader import Reader
from companion.store.report_budgets import ENTRY_BYTES, Charge, ReportLimits, charge_reports
from tests.integration.conftest import MakeSetup, Setup
from tests.integration.media import DEVICE, a_token, happening, keys, make_media, now_ms, page, report, sample, send
from tests.integration.web import READ_SECRET, client

LIMITS = ReportLimits(calls_per_hour=3, device_bytes_per_hour=10_000, all_bytes_per_hour=100_000, stored_calls=100)


def report_call(setup: Setup, call_id: str, *items: Any, device: str = DEVICE) -> Any:
    return send(page(setup, token=a_token(device, call_id)), report(*items or (sample(0),)), call_id)


def noise(n: int) -> Any:
    """An item that can not be packed small."""
    rng = random.Random(n)
    fields: Any = {f"f{m}": "".join(rng.choices(string.ascii_letters, k=250)) for m in range(12)}
    return happening(n, "noise", **fields) | {"at": now_ms()}


def problem(answer: Any) -> str:
    return str(answer.json()["type"].rpartition(":")[2])


def test_invented_calls(make_setup: MakeSetup) -> None:
    """A device that invents Call-IDs is told to wait, its earlier calls and other devices go on; the page says so."""
    setup = make_media(make_setup, calls_per_hour=3)
    answers = [report_call(setup, f"invented-{n}") for n in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 3
    assert problem(answers[3]) == "too-many-calls"
    assert 0 < int(answers[3].headers["retry-after"]) <= 1200
    assert answers[3].headers["access-control-expose-headers"] == "Retry-After"
    assert not [key for key in keys(setup) if "invented-3" in key]
    assert report_call(setup, "invented-0", sample(1)).status_code == 200
    assert report_call(setup, "another", device="bob/web").status_code == 200
    answer = client(setup, secret=READ_SECRET).get(f"/api/v1/devices/{DEVICE.replace('/', '%2F')}/calls").json()
    assert (len(answer["calls"]), answer["refused_reports"], answer["refused_why"]) == (3, 3, "calls")
    assert "3 reports of the last hour refused" in " ".join(setup.cli("calls", DEVICE).stdout.split())


def test_too_many_bytes(make_setup: MakeSetup) -> None:
    """A device that fills Redis within few calls is refused with the bound, however well its reports are packed."""
    setup = make_media(make_setup, megabytes_per_hour=1, reports_per_minute=6000)
    statuses = []
    for n in range(16):
        items = [noise(m) for m in range(60 * n, 60 * n + 60)]
        statuses.append(report_call(setup, f"call-{n % 2}", *items).status_code)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    media = [key for key in keys(setup) if ":media:" in key]
    assert sum(int(setup.store.connection.call("MEMORY", "USAGE", key)) for key in media) < 1_400_000
    assert Reader(setup.config, setup.store).calls(DEVICE, 3_600_000)["refused_why"] == "bytes"


def test_all_processes_share_the_budget(make_setup: MakeSetup) -> None:
    """What one API process took counts in the others, and after a restart."""
    setup = make_media(make_setup, calls_per_hour=2)
    answers = [report_call(setup, f"call-{n}") for n in range(4)]  # each page has an API of its own
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


def test_a_real_phone(make_setup: MakeSetup) -> None:
    """Two calls at once, what two hours without network kept back, and a reload that sends it again: all is taken."""
    setup = make_media(make_setup, reports_per_minute=6000)
    began, rng = now_ms() - 7_200_000, random.Random(1)
    for call_id in ("one", "two", "one"):
        browser = page(setup, token=a_token(call_id=call_id))
        for first in range(0, 7200, 400):
            noisy: Any = {"rtt_ms": 30 + 20 * rng.random(), "in": {"jitter_ms": 9 * rng.random(), "packets": 50}}
            items = [sample(n, at=began + 1000 * n, **noisy) for n in range(first, first + 400)]
            assert send(browser, report(*items), call_id).status_code == 200


def test_stored_calls(make_setup: MakeSetup) -> None:
    """Where as many calls are stored as may be, a new one is refused, and those that go on are not."""
    setup = make_media(make_setup, max_stored_calls=2)
    devices = ["a/1", "b/1", "c/1"]
    answers = [report_call(setup, "call", device=device) for device in devices]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert problem(answers[2]) == "fleet-too-many-calls"
    assert report_call(setup, "call", sample(1), device="a/1").status_code == 200


def test_refused_costs_nothing(make_setup: MakeSetup) -> None:
    """What is refused of one device uses up nothing of the budget of all."""
    store = make_media(make_setup).store
    limits = LIMITS._replace(all_bytes_per_hour=6 * (1000 + ENTRY_BYTES))
    greedy = charge_reports(store, [Charge("eve/web", 1000, is_new=True)] * 50, limits)
    assert [error.budget if error else "" for error in greedy] == [""] * 3 + ["calls"] * 47
    others = charge_reports(store, [Charge(f"{n}/web", 1000, is_new=True) for n in range(4)], limits)
    assert [error.budget if error else "" for error in others] == ["", "", "", "all_bytes"]


def test_the_budget_is_refilled(make_setup: MakeSetup) -> None:
    """A budget fills up evenly: a third of an hour later there is room for a third of it."""
    setup = make_media(make_setup)
    charge = Charge(DEVICE, 0, is_new=True)
    assert [bool(error) for error in charge_reports(setup.store, [charge] * 4, LIMITS)] == [False] * 3 + [True]
    key = setup.store.keys.report_budget(DEVICE)
    setup.store.connection.call("HINCRBY", key, "at", -1_200_000)
    assert [bool(error) for error in charge_reports(setup.store, [charge] * 2, LIMITS)] == [False, True]
    assert 0 < setup.store.connection.call("PTTL", key) <= 3_600_000


@pytest.mark.parametrize("field", ["calls_per_hour", "megabytes_per_hour"])
def test_no_key_for_ever(make_setup: MakeSetup, field: str) -> None:
    """What is kept of budgets ends with the hour, and belongs to no key without an end."""
    options: Any = {field: 1}
    setup = make_media(make_setup, **options)
    report_call(setup, "one")
    for key in keys(setup):
        assert setup.store.connection.call("PTTL", key) > 0, key
