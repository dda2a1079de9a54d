"""The week behind a fresh demo: what its documents promise is there through the API, and the same each time."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

import pytest
from starlette.testclient import TestClient

from companion.config import Config
from companion.demo.offices import BRANCH, BRANCH_PHONES, NODE, build_fleets
from companion.demo.past import FIRMWARE, Past
from companion.demo.past import Week as Period
from companion.services.web import make_app
from companion.simulator.conditions import DAY
from companion.simulator.redis import EmbeddedRedis
from companion.store.store import Store, open_store
from companion.text import Json
from companion.times import epoch_ms, now_ms
from tests.integration.conftest import until

PHONES: Final = 24
FEW: Final = 4
SEED: Final = "test"


def make_config(redis: EmbeddedRedis, prefix: str) -> Config:
    """A configuration as that of the demo: the phones of one node only can be asked."""
    return Config.model_validate(
        {
            "redis": {"url": redis.url, "prefix": prefix},
            "pings": {"interval": 3},
            "opensips": [
                {"node": NODE, "mi_url": "http://127.0.0.1:1/mi", "probe_url": "udp:127.0.0.1:1"},
                {"node": BRANCH, "mi_url": "http://127.0.0.1:1/mi"},
            ],
            "remediation": {"mode": "enforce", "push_per_day": 100_000},
            "api": {"dashboard": False},
        }
    )


def live(config: Config, store: Store, phones: int, week: Period) -> Past:
    past = Past(config, store, build_fleets(phones, SEED), week)
    past.live()
    return past


class Week:
    """A finished past, and the API that shows it."""

    def __init__(self, config: Config, store: Store) -> None:
        self.now = now_ms() / 1000
        self.past = live(config, store, PHONES, Period(self.now))
        self.client = TestClient(make_app(config, store), base_url="http://127.0.0.1:8780", client=("127.0.0.1", 5000))

    def get(self, path: str, **query: str | int) -> Json:
        answer = self.client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        document: Json = answer.json()
        return document

    def device(self, device_id: str) -> Json:
        return self.get(f"devices/{device_id}", window="7d")

    def devices(self, **fields: str) -> list[Json]:
        """The rows of the devices that have these fields."""
        until(lambda: self.get("devices", limit=100)["devices"])
        rows = self.get("devices", limit=100)["devices"]
        return [row for row in rows if all(row[name] == value for name, value in fields.items())]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis"), persistent=False) as server:
        yield server


@pytest.fixture(scope="module")
def week(redis: EmbeddedRedis) -> Iterator[Week]:
    config = make_config(redis, "week:")
    store = open_store(config.redis)
    made = Week(config, store)
    with made.client:
        yield made
    store.close()


def mean(pings: list[tuple[float, int | None]]) -> float:
    answered = [latency for _, latency in pings if latency is not None]
    return sum(answered) / len(answered)


def loss(pings: list[tuple[float, int | None]]) -> float:
    return sum(latency is None for _, latency in pings) / len(pings)


def pings_of(device: Json) -> list[tuple[float, int | None]]:
    """Times in epoch seconds, and latencies in ms."""
    return [(at / 1000, latency) for at, latency in device["samples"]]


def test_seven_days(week: Week) -> None:
    """Each pinged device has pings on each of seven days, the last one minutes ago."""
    pings = pings_of(week.device(week.devices(user_agent="JsSIP 3.10.1")[0]["device"]))
    ages = [week.now - at for at, _ in pings]
    assert max(ages) > 6.98 * DAY
    assert min(ages) < 600
    assert {int(age // DAY) for age in ages} == set(range(7))


def test_daily_rhythm(week: Week) -> None:
    """Latencies are higher by day than at night."""
    (row,) = (one for one in week.devices() if one["aor"] == "alice")
    pings = pings_of(week.device(row["device"]))
    by_day = [(at, ms) for at, ms in pings if 11 <= datetime.fromtimestamp(at, UTC).hour < 18]
    at_night = [(at, ms) for at, ms in pings if datetime.fromtimestamp(at, UTC).hour < 6]
    assert mean(by_day) > 1.3 * mean(at_night)


def test_bad_evening(week: Week) -> None:
    """On one evening the pings of one network are slow and lost, and its calls suffer from their path."""
    since, end = week.past.week.bad_evening
    callers = {call["device"] for call in week.get("calls", window="7d", limit=500)["calls"]}
    (device,) = (one for one in map(week.device, callers) if one["aor"] == "kim")
    pings = pings_of(device)
    evening = [(at, ms) for at, ms in pings if since < at < end]
    other = [(at, ms) for at, ms in pings if since - DAY < at < end - DAY]
    assert mean(evening) > 2.5 * mean(other)
    assert loss(evening) > 0.05 > loss(other)
    calls = week.get("calls", window="7d", limit=500)["calls"]
    bad = [call for call in calls if since < epoch_ms(call["started_at"]) / 1000 < end]
    assert len(bad) >= 3
    verdicts = {week.get(f"calls/{call['call_id']}")["verdict"]["what"] for call in bad}
    assert "media" in verdicts <= {"media", "signalling"}


def test_firmware(week: Week) -> None:
    """The devices of one firmware lose pings since they got it, and few before."""
    rows = week.devices(user_agent=FIRMWARE[1])
    assert len(rows) >= 2
    for row in rows:
        pings = pings_of(week.device(row["device"]))
        before = loss([ping for ping in pings if ping[0] < week.past.week.firmware_at])
        assert loss([ping for ping in pings if ping[0] > week.past.week.firmware_at]) > max(0.07, 2 * before)


def test_outage(week: Week) -> None:
    """All phones of the branch office failed together, the breaker is open, and nothing is done to them."""
    since, _ = week.past.week.outage
    rows = week.devices(node=BRANCH)
    assert len(rows) == BRANCH_PHONES
    for row in rows:
        events = [entry for entry in week.device(row["device"])["timeline"] if epoch_ms(entry["at"]) / 1000 > since]
        assert [entry["event"] for entry in events] == ["lost", "stale"]
    breakers = week.get("remediation")["open_breakers"]
    assert {BRANCH, f"cluster:{BRANCH}", "network:10.20.30.0/24"} == breakers.keys()
    assert all(0 < week.now - epoch_ms(opened_at) / 1000 < 1800 for opened_at in breakers.values())


def test_reloads_and_switch_overs(week: Week) -> None:
    """A browser is reloaded all the time: its device goes on from another address, and the ghost is removed."""
    (row,) = (one for one in week.devices() if one["aor"] == "dave")
    events = [entry["event"] for entry in week.device(row["device"])["timeline"]]
    assert min(events.count(event) for event in ("disconnected", "switched-over", "companion-remove")) >= 7


def test_decisions(week: Week) -> None:
    """Sleeping phones were woken by push, dead contacts removed, and live phones that lost pings kept, all week."""
    decisions = week.get("remediations", limit=500)["remediations"]
    outcomes = {(one["action"], one["result"]) for one in decisions}
    assert outcomes >= {("push", "pushed"), ("push", "woken"), ("remove", "removed"), ("remove", "answered")}
    times = [epoch_ms(one["at"]) for one in decisions]
    assert times == sorted(times, reverse=True)
    assert len({at // 86_400_000 for at in times}) >= 7


def test_verdicts(week: Week) -> None:
    """There are calls of each verdict."""
    calls = week.get("calls", window="7d", limit=500)["calls"]
    verdicts = {week.get(f"calls/{call['call_id']}")["verdict"]["what"] for call in calls}
    assert {"good", "media", "network", "device"} <= verdicts


def test_recording(week: Week) -> None:
    """A call was recorded from its INVITE to its BYE, on both legs, and the audit says who asked for it."""
    decisions = [one for one in week.get("remediations", limit=500)["remediations"] if one["action"] == "record"]
    assert [one["result"] for one in decisions] == ["ended", "started"]
    trace = week.get(f"devices/{decisions[0]['device']}/trace")
    (call,) = (one for one in week.get("calls", window="7d", limit=1)["calls"])
    methods = [
        step["method"]
        for step in trace["steps"]
        if step["call_id"] == call["call_id"] and step["method"] == step["label"]
    ]
    assert methods == ["INVITE"] * 2 + ["ACK"] * 2 + ["BYE"] * 2


def test_history_of_the_fleet(week: Week) -> None:
    """The graphs of the fleet go back a week, and show that the office was lost."""
    points = week.get("history", window="7d")["points"]
    assert len(points) > 300
    assert week.now - epoch_ms(points[0]["at"]) / 1000 > 6.9 * DAY
    late = week.get("history", window="3h")["points"]
    assert late[-1]["stale"] >= BRANCH_PHONES > late[0]["stale"]


def test_phones_live_on(week: Week) -> None:
    """At its end all phones are registered: the live simulation goes on with them."""
    phones = sum(len(node.phones) for node in week.past.nodes.values())
    bindings = sum(sum(1 for _ in node.usrloc) for node in week.past.nodes.values())
    assert bindings >= phones == PHONES + BRANCH_PHONES == len(week.devices())


def test_same_each_time(redis: EmbeddedRedis) -> None:
    """The same seed and the same start give the same week."""
    now, weeks = now_ms() / 1000, []
    for prefix in ("one:", "two:"):
        config = make_config(redis, prefix)
        store = open_store(config.redis)
        live(config, store, FEW, Period(now, days=1))
        weeks.append(partial(read_all, store, config))
    first, second = (read() for read in weeks)
    assert first == second


def read_all(store: Store, config: Config) -> Json:
    """What the API shows of the devices, the decisions and the fleet."""
    client = TestClient(make_app(config, store), base_url="http://127.0.0.1:8780", client=("127.0.0.1", 5000))
    with client:
        until(lambda: client.get("/api/v1/devices").json().get("devices"))
        rows = client.get("/api/v1/devices").json()["devices"]
        devices = [client.get(f"/api/v1/devices/{row['device']}", params={"window": "7d"}).json() for row in rows]
        own = [{name: one[name] for name in ("samples", "timeline", "contacts")} for one in devices]
        calls = client.get("/api/v1/calls", params={"window": "7d"}).json()
        decisions = client.get("/api/v1/remediations").json()
        history = client.get("/api/v1/history", params={"window": "7d"}).json()["points"]
    store.close()
    return {"devices": own, "calls": calls, "decisions": decisions, "history": history}
