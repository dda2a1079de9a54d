"""What the pages show, as plain data: hostile text stays text, colours come with words, addresses are encoded."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args
from urllib.parse import unquote

import pytest

from companion import dashboard
from companion.dashboard.filters.calls import CallFilters
from companion.dashboard.filters.remediations import CHOICES, DecisionFilters
from companion.dashboard.markup import (
    Markup,
    call,
    call_details,
    call_graph,
    call_history,
    call_minutes,
    call_quality,
    calls,
    device,
    devices,
    fleet,
    frame,
    live_ping,
    network_text,
    remediations,
    tag,
    timeline,
    times,
)
from companion.dashboard.presence import Band
from companion.pinging.run import PingRun
from companion.query.listing import Query
from companion.recording import audit as recording_audit
from companion.remediation.audit import Result
from companion.remediation.policy import Reason
from tests.unit.dashboard.call_page import call_page, call_row, calls_answer, unknown_row

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
START = round(NOW.timestamp() * 1000)
EVIL: Final = "<img src=x onerror=alert(1)>\"'{{7*7}}`${1}`\u202e</script>"
EVIL_DEVICE = f"{EVIL}/urn:uuid:{EVIL}"
PART_JS = Path(dashboard.__file__).with_name("part.js").read_text()


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def ping_run() -> PingRun:
    run = PingRun()
    run.add("answered", 34.2)
    run.add("unanswered", 5000)
    run.add("failed", 1)
    return run


def row(**values: Any) -> dict[str, Any]:
    return {
        "device": EVIL_DEVICE,
        "aor": EVIL,
        "node": EVIL,
        "status": "losing",
        "user_agent": EVIL,
        "push": True,
        "last_latency_ms": 217,
        "quality": "poor",
        "last_latency_at": at(-4),
        "last_register_at": at(-90),
        "consecutive_lost": 2,
        "contacts": 1,
        **values,
    }


def contact(**values: Any) -> dict[str, Any]:
    return {
        "contact": "c1",
        "uri": f"sip:{EVIL}@192.0.2.1",
        "node": EVIL,
        "status": "stale",
        "ghost": True,
        "received": f"sip:{EVIL}",
        "last_latency_ms": 60,
        "last_latency_at": at(-5),
        "last_register_at": at(-60),
        "registered_at": at(-60),
        "consecutive_lost": 5,
        "lost_since": at(-50),
        "disconnected_at": None,
        "ended_at": None,
        "ended_by": "",
        **values,
    }


TIMELINE: Final[list[dict[str, Any]]] = [
    {"at": at(-90), "event": "registered", "contact": "c1", "address": EVIL},
    {"at": at(-80), "event": "switched-over", "contact": "c1", "from": EVIL, "to": EVIL, "outage_ms": 99},
    {"at": at(-70), "event": "switched-over", "contact": "c1", "from": "", "to": "", "outage_at_most_ms": 125_000},
    {"at": at(-60), "event": "lost", "contact": "c1"},
    {"at": at(-50), "event": "stale", "contact": "c1", "lost": 3},
    {"at": at(-40), "event": "recovered", "contact": "c1", "by": "ping", "lost": 3, "after_ms": 20_000},
    {
        "at": at(-30),
        "event": "companion-push",
        "result": "woken",
        "reason": "lost-pings",
        "attempt": 1,
        "after_ms": 900,
    },
    {"at": at(-20), "event": EVIL, "contact": EVIL},
    {"at": at(-18), "event": "pinged", "node": EVIL, "count": 3, "answered": 0, "lost": 3},
    {"at": at(-16), "event": "pinged", "node": EVIL, "count": 3, "answered": 3, "lost": 0}
    | {"min_ms": 1, "average_ms": 2, "max_ms": 3},
    {"at": at(-10), "event": "expired", "contact": "c2", "address": EVIL},
]


def page(**values: Any) -> dict[str, Any]:
    registration = {
        "registered": True,
        "expires_at": at(900),
        "user_agent": EVIL,
        "received": f"sip:{EVIL}",
        "push": False,
        "last_register_at": at(-90),
    }
    latency = {
        "average_ms": 65.3,
        "max_ms": 90,
        "min_ms": 40,
        "total": 3,
        "answered": 2,
        "lost": 1,
        "loss_ratio": 0.3333,
    }
    return row() | {
        "registration": registration,
        "latency": {"window_seconds": 86400, **latency},
        "contacts": [contact(), contact(contact="c2", ended_at=at(-10), ended_by="expired", ghost=False)],
        "samples": [],
        "timeline": TIMELINE,
        **values,
    }


SUMMARY: Final = {
    "at": at(0),
    "devices": {"online": 8, "losing": 1, "unknown": 0, "stale": 1, "offline": 0, "total": 10},
    "contacts": {"online": 8, "losing": 1, "unknown": 0, "stale": 2, "offline": 4, "total": 15},
    "latency": {"p50_ms": 60, "p95_ms": 200, "p99_ms": None},
    "loss_ratio": 0.18,
}
NODE: Final = {
    "node": EVIL,
    "cluster": EVIL,
    "alive": False,
    "last_event_at": None,
    "contacts": None,
    "received": 12_345,
    "gaps": 2,
    "missed": 7,
    "kernel_drops": 0,
    "breaker": at(-5),
    "heard_by": [],
}
DECISION: Final = {
    "at": at(-5),
    "device": EVIL_DEVICE,
    "aor": EVIL,
    "node": EVIL,
    "contact": "c1",
    "reason": EVIL,
    "since": at(-60),
    "lost": 3,
    "action": "remove",
    "why": EVIL,
    "mode": "enforce",
    "result": EVIL,
    "answer": EVIL,
    "duration_ms": 12,
    "attempt": 1,
    "after_ms": 1500,
}
STATE: Final = {
    "mode": "observe",
    "paused_seconds": 1799,
    "last_sweep_at": at(-7),
    "candidates": 3,
    "acted": 1,
    "waiting": EVIL,
    "troubles": EVIL,
    "open_breakers": {EVIL: at(-5)},
}
BANDS: Final = [Band(START - 9000, START - 2000, "online"), Band(START - 2000, START, "offline")]
NETWORK: Final = {
    "network": EVIL,
    "calls": 12,
    "devices": 3,
    "mos": 3.1,
    "loss_percent": 4.5,
    "rtt_ms": 210.5,
    "relay_share": 0.25,
}
QUALITY: Final = {
    "at": at(-7),
    "total": 2500,
    "cut": True,
    "calls": 2000,
    "live": 3,
    "mos": {"p10": 2.9, "p50": 4.2, "p90": 4.4},
    "bands": {"best": 900, "high": 500, "medium": 300, "low": 200, "poor": 60, "bad": 30, "unknown": 10},
    "loss_percent": 1.2,
    "rtt_ms": 80.5,
    "relay_share": 0.2,
    "networks": [NETWORK],
}
OTHER: Final = "other/urn:uuid:1"
EVERYTHING: Final[dict[str, Markup]] = {
    "head": tag("div", *frame.head("/devices/x", by="session"), *frame.head("/", by="loopback")),
    "away": frame.away("Redis does not answer"),
    "broken": frame.broken(),
    "waiting": frame.waiting(),
    "no device": frame.no_device(EVIL),
    "several devices": frame.no_device(EVIL, (EVIL_DEVICE, "b/c")),
    "no page": frame.no_page(),
    "devices": devices.device_table([row(), row(last_latency_ms=None, quality=None, last_latency_at=None)], Query()),
    "no devices": devices.device_table([], Query()),
    "none found": devices.device_table([], Query(search=EVIL)),
    "filters": devices.filter_fields(Query(search=EVIL, status=("stale",), push=True), [EVIL], SUMMARY["devices"]),  # type: ignore[arg-type]
    "pager": devices.list_pager({"total": 99, "next": "abc", "as_of": at(0)}, Query(cursor="x", sort="latency")),
    "device": tag("div", device.title(page()), device.overview(page())),
    "never answered": device.overview(page(last_latency_ms=None, quality=None, last_latency_at=None, contacts=[])),
    "figures": tag("div", device.analysis_head(EVIL_DEVICE, "7d"), device.statistics(page()["latency"])),
    "graph keys": device.graph_keys(page(), BANDS, START - 9000),
    "contacts": device.contacts(page()),
    "no contacts": device.contacts(page(contacts=[])),
    "ping head": live_ping.head(is_running=False, may_operate=True),
    "ping head, running": live_ping.head(is_running=True, may_operate=True),
    "ping head, reader": live_ping.head(is_running=False, may_operate=False),
    "ping figures": tag("div", *live_ping.figures(ping_run(), EVIL, EVIL)),
    "no ping figures": tag("div", *live_ping.figures(PingRun(), EVIL, EVIL)),
    "ping refused": live_ping.refusal(EVIL, EVIL),
    "timeline": device.timeline(page()),
    "long timeline": device.timeline(page(timeline=TIMELINE * 5)),
    "no timeline": device.timeline(page(timeline=[])),
    "switch-overs": device.switch_overs(TIMELINE),
    "no switch-overs": device.switch_overs([]),
    "stream history": call_history.history(
        calls_answer([call_row(), unknown_row(live=True)] * 5, refused=3), everything=False
    ),
    "no stream history": call_history.history(calls_answer([]), everything=False),
    "call": tag(
        "div", call.title(call_page()), call.legs(call_page(legs=[EVIL_DEVICE, OTHER])), call.overview(call_page())
    ),
    "unknown call": tag("div", call.title(call_page(**unknown_row())), call.overview(call_page(**unknown_row()))),
    "several calls": call.choice(EVIL, [EVIL_DEVICE, OTHER]),
    "no call": call.no_call(EVIL),
    "call's graph": tag(
        "div",
        call_graph.graph_head(call_page(), START),
        call_graph.statistics(call_page()),
        call_graph.nothing_measured(),
    ),
    "call's graph's keys": call_graph.graph_keys(["path", "restart", "network", "limit", "switch-over"]),
    "call below": tag(
        "div", call_details.columns(call_page(), START, everything=False), call_minutes.minutes(call_page())
    ),
    "unknown call below": call_details.columns(
        call_page(
            **unknown_row(),
            happenings=[],
            timeline=[],
            verdict={"what": "something new", "evidence": [], "bad_minutes": []},
        ),
        0,
        everything=True,
    ),
    "calls": tag(
        "div", calls.title(QUALITY), call_quality.overview(QUALITY), calls.recent([call_row()], filtered=False)
    ),
    "no calls": tag(
        "div", calls.title(None), call_quality.overview(QUALITY | {"calls": 0}), calls.recent([], filtered=False)
    ),
    "no networks": call_quality.overview(QUALITY | {"networks": [], "cut": False}),
    "no calls found": calls.recent([], filtered=True),
    "call filters": calls.filter_fields(CallFilters(text=EVIL, worst=("bad", "unknown"))),
    "call pager": calls.list_pager("1-0", CallFilters(since="2-0")),
    "fleet": tag("div", fleet.title(SUMMARY), fleet.statuses(SUMMARY), fleet.history_head(SUMMARY, "24h")),
    "worst": fleet.worst([row()]),
    "no worst": fleet.worst([]),
    "nodes": fleet.nodes([NODE, NODE | {"alive": True, "breaker": None}]),
    "no nodes": fleet.nodes([]),
    "remediation": fleet.remediation(STATE, [DECISION]),
    "state": remediations.state(STATE, may_operate=True),
    "state for lookers": remediations.state(STATE | {"paused_seconds": 0, "open_breakers": {}}, may_operate=False),
    "dialogs": tag("div", remediations.pause_dialog(), remediations.resume_dialog()),
    "decisions": remediations.decisions([DECISION], filtered=False),
    "no decisions": remediations.decisions([], filtered=True),
    "decision filters": remediations.filter_fields(DecisionFilters(text=EVIL, action="push")),
    "decision pager": remediations.list_pager("1-0", DecisionFilters(since="2-0")),
}


def walk(markup: Markup) -> Iterator[tuple[str, dict[str, Any], list[Any]]]:
    """Each element of some markup."""
    if isinstance(markup, list):
        name, attributes, *children = markup
        yield name, attributes, children
        for child in children:
            yield from walk(child)


def text(markup: Markup) -> str:
    """All that is to be read."""
    if isinstance(markup, list):
        return "".join(map(text, markup[2:]))
    return markup or ""


@pytest.mark.parametrize("name", EVERYTHING)
def test_markup_is_what_the_browser_knows(name: str) -> None:
    """Every page is made of tags and attributes that part.js lets through: what it does not know is never seen."""
    tags = set(re.findall(r"\w+", re.findall(r"TAGS = new Set\(\s*`([^`]+)`", PART_JS)[0])) | {"time"}
    allowed = re.compile(re.findall(r"ATTRIBUTES =\s*/\^\((.+)\)\$/", PART_JS)[0])
    own = {"act", "go", "share", "modal"}
    elements = list(walk(EVERYTHING[name]))
    assert elements
    assert not {element for element, _, _ in elements} - tags
    assert not {key for _, attrs, _ in elements for key in attrs if not allowed.fullmatch(key) and key not in own}


@pytest.mark.parametrize("name", EVERYTHING)
def test_children_are_text_or_elements(name: str) -> None:
    """Nothing gets onto a page but elements of ours and text; a number would be a hole."""
    for _, attrs, children in walk(EVERYTHING[name]):
        assert all(isinstance(child, str | list) for child in children)
        assert all(isinstance(value, str | bool) for value in attrs.values()), attrs


@pytest.mark.parametrize("name", EVERYTHING)
def test_addresses_stay_here(name: str) -> None:
    """No link leads off this server, whatever a phone calls itself."""
    for _, attrs, _ in walk(EVERYTHING[name]):
        if "href" in attrs:
            assert re.fullmatch(r"(/[A-Za-z0-9][^\s<>\"'`{}\\]*|/|#main|/\?window=\w+)", attrs["href"]), attrs["href"]


@pytest.mark.parametrize("name", EVERYTHING)
def test_icons_go_with_words(name: str) -> None:
    """Whatever a colour or drawing says is said in words, too, for who sees neither."""
    for element, attrs, children in walk(EVERYTHING[name]):
        if element == "svg":
            assert attrs["aria-hidden"] == "true"
        if attrs.get("class", "").split(" ")[0] in ("mark", "quality"):
            assert any(isinstance(child, str) for child in children)


@pytest.mark.parametrize("name", EVERYTHING)
def test_controls_have_names(name: str) -> None:
    """Each link, button and field has a name that can be read out."""
    for element, attrs, children in walk(EVERYTHING[name]):
        if element in ("a", "button"):
            assert text([element, attrs, *children]).strip() or attrs.get("aria-label")
        if element == "select" or (element == "input" and attrs["type"] == "search"):
            assert attrs["aria-label"]


def test_hostile_text_is_only_text() -> None:
    """What a phone said is there as it said it, but for characters that turn lines around."""
    listing = text(EVERYTHING["devices"])
    assert EVIL.replace("\u202e", "\ufffd") in listing
    assert not [name for name, element in EVERYTHING.items() if "\u202e" in text(element)]


def test_heard_keeps_its_direction_to_itself() -> None:
    """Text from the network is isolated, and nothing is a dash."""
    assert network_text("a\tb") == ["bdi", {"class": "heard"}, "a b"]
    assert "–" == text(network_text("")) == text(network_text(None))


def test_device_address_is_one_segment() -> None:
    """A device id in an address is encoded whole, its slash and percent signs too, and comes back the same."""
    where = devices.device_address("a/b%2Fc?d#e")
    assert where == "/devices/a%2Fb%252Fc%3Fd%23e"
    assert unquote(where.removeprefix("/devices/")) == "a/b%2Fc?d#e"


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (TIMELINE[0], "Registered"),
        (TIMELINE[1], "Switched over, away for 99 ms"),
        (TIMELINE[2], "Switched over, away for at most 2 min 5 s"),
        (TIMELINE[4], "Stale: 3 pings lost in a row"),
        (TIMELINE[5], "Recovered: answered again after 20 s"),
        (TIMELINE[6], "Companion, push: woken after 900 ms"),
        (
            {"event": "companion-remove", "result": "observed"},
            "Companion, remove: only observed: it would have been done",
        ),
        ({"event": "companion-remove", "result": "new"}, "Companion, remove: new"),
        ({"event": "gone"}, "Gone from OpenSIPS"),
        ({"event": "something new"}, "something new"),
    ],
)
def test_timeline_in_words(entry: dict[str, Any], words: str) -> None:
    """What happened is told in words; what is not known here, by its name."""
    assert words == timeline.describe_entry(entry).words


def test_a_removal_is_one_line() -> None:
    """OpenSIPS' event about our own removal says nothing new; without our entry in the window it stays."""
    decided = {"at": at(-2), "event": "companion-remove", "result": "removed", "reason": "ghost", "contact": "c1"}
    ended = {"at": at(-1), "event": "removed", "contact": "c1"}
    other = ended | {"contact": "c2"}
    assert timeline.without_echoes([decided, ended, other]) == [decided, other]
    assert {timeline.describe_entry(entry).words for entry in (decided, other)} == {"Removed by the companion"}


def test_a_decision_says_nothing_twice() -> None:
    """Where reason and why are the same words, or the outcome is what was decided, they stand there once."""
    ghost = DECISION | {"reason": "ghost", "why": "its device answers elsewhere", "action": "remove"}
    words = text(remediations.decisions([ghost | {"result": "removed"}], filtered=False))
    assert words.count("device answers elsewhere") == 1
    assert "remove:" not in words
    assert "remove: came-back" in text(remediations.decisions([ghost | {"result": "came-back"}], filtered=False))


def test_losses_that_are_left_out() -> None:
    """Where a ghost shows lost pings that the figures do not count, the page says so."""
    ghost = contact()
    for one, is_noted in ((ghost, True), (ghost | {"ghost": False, "ended_at": None}, False)):
        keys = text(device.graph_keys(page(contacts=[one]), BANDS))
        assert (device.GHOSTS_LEFT_OUT in keys) is is_noted


def test_figures_say_what_they_are_of() -> None:
    """The counts of the fleet are older than the rows below, and the share of losses is of the last pings."""
    assert "counted" in text(fleet.title(SUMMARY))
    assert "as of now" in text(fleet.worst([row()]))
    assert "lost last ping" in text(fleet.history_head(SUMMARY, "24h"))


def test_each_decision_has_words() -> None:
    """Each reason and each result in the audit has its words, and each reason can be selected."""
    reasons = {*get_args(Reason), *get_args(recording_audit.Reason)}
    assert reasons == set(timeline._REASONS) == set(CHOICES["reason"])
    assert {*get_args(Result), *get_args(recording_audit.Result)} == set(timeline._RESULTS)


def test_a_recording_in_the_audit() -> None:
    """The audit shows who recorded which device, for how long, and what went wrong; it has no evidence and no mode."""
    entry = {"at": at(0), "device": "alice/1", "action": "record", "result": "refused", "reason": "requested"}
    entry |= {
        "why": "by <b>support</b>, for 15 minutes",
        "answer": "n1: MI is away",
        "mode": "",
        "contact": "",
        "node": "",
    }
    words = text(remediations.decisions([entry | {"since": None, "lost": 0}], filtered=False))
    assert "record: refused" in words
    assert "Asked for; by <b>support</b>, for 15 minutes" in words
    assert "n1: MI is away" in words
    assert "since" not in words


def test_time_carries_its_iso_form() -> None:
    """A time carries its ISO 8601 form, from which the browser makes the words; never is a word or a dash."""
    assert ["time", {"datetime": at(0), "data-style": "moment"}, at(0)] == times.time(at(0), "moment")
    assert text(times.time(None, otherwise="never")) == "never"
    assert text(times.time(None)) == "–"


def test_sort_turns_around() -> None:
    """A column's head sorts by it, and again the other way; it says how it is sorted."""
    head = [
        attrs
        for name, attrs, _ in walk(devices.device_table([row()], Query(sort="latency", descending=True)))
        if name == "th"
    ]
    assert [attrs.get("aria-sort") for attrs in head[:3]] == [None, None, "descending"]
    links = [
        attrs["href"]
        for name, attrs, _ in walk(devices.device_table([row()], Query()))
        if name == "a" and attrs.get("go")
    ]
    assert "/devices?sort=latency&descending=yes" in links


def test_chips_show_what_is_chosen() -> None:
    """A filter that is on says so, and leads to where it is off."""
    chips = [attrs for _, attrs, _ in walk(EVERYTHING["filters"]) if attrs.get("class") == "chip"]
    pressed = [attrs["href"] for attrs in chips if attrs["aria-pressed"] == "true"]
    assert len(pressed) == 1
    assert "status" not in pressed[0]
