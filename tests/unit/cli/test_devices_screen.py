"""Devices in a terminal: what matters is there at any width, and what came from the network is only text."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from companion.cli.screens import device, devices, graph, summary, text, timeline

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
INSTANCE = "urn:uuid:38c0c8fd-8712-b8bc-076f-3787b9d179e0"
WIDTHS = (72, 80, 99, 100, 160, 200)


def render(page: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(page)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def row(**values: Any) -> dict[str, Any]:
    return {
        "device": f"dave/{INSTANCE}",
        "status": "losing",
        "last_latency_ms": 217,
        "quality": "poor",
        "last_latency_at": at(-4),
        "consecutive_lost": 2,
        "last_register_at": at(-90),
        "push": True,
        "node": "sip1",
        "user_agent": "Browser Phone 1.2.3 with a very long name indeed, longer than any terminal has room for",
        **values,
    }


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def contact(number: int, **values: Any) -> dict[str, Any]:
    return {
        "contact": f"c{number}",
        "uri": f"sip:dave@{number}.invalid;transport=ws",
        "status": "online",
        "ghost": False,
        "received": f"sip:192.0.2.{number}:40000;transport=ws",
        "last_latency_ms": 60,
        "last_latency_at": at(-5),
        "last_register_at": at(-60),
        "consecutive_lost": 0,
        "ended_at": None,
        "ended_by": "",
        **values,
    }


def page(**values: Any) -> dict[str, Any]:
    return {
        **row(),
        "registration": {
            "registered": True,
            "expires_at": at(600),
            "last_register_at": at(-90),
            "user_agent": "X",
            "received": "",
            "push": False,
        },
        "latency": {
            "window_seconds": 3600,
            "average_ms": 65.3,
            "max_ms": 97,
            "min_ms": 44,
            "total": 5040,
            "answered": 5000,
            "lost": 40,
            "loss_ratio": 0.0079,
        },
        "contacts": [contact(1)],
        "samples": [],
        "timeline": [],
        **values,
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_state_at_any_width(width: int) -> None:
    """In a narrow terminal, too, who it is and how it is are whole, on one line."""
    head, line = render(devices.DevicesTable([row()], NOW), width)
    assert head.split()[:3] == ["DEVICE", "STATUS", "LATENCY"]
    state = line.split()[1:9]
    assert state == ["losing", "217", "ms", "poor", "4", "s", "ago", "2"]
    assert line.startswith("dave/")
    assert "b9d179e0" in line
    assert cell_len(line) <= width


def test_wide_has_all() -> None:
    """A wide terminal shows the whole id and all there is to say."""
    head, line = render(devices.DevicesTable([row()], NOW), 200)
    assert head.split()[-6:] == ["LOST", "REGISTERED", "PUSH", "NODE", "USER", "AGENT"]
    assert line.startswith(f"dave/{INSTANCE} ")
    assert "1 min ago" in line
    assert "yes" in line
    assert "sip1" in line


def test_two_of_one_aor() -> None:
    """Two devices of one AOR can be told apart at 80 columns."""
    other = row(device="dave/urn:uuid:38c0c8fd-8712-b8bc-076f-000000000001")
    _, first, second = render(devices.DevicesTable([row(), other], NOW))
    assert first.split()[0] != second.split()[0]


def test_nothing_to_list() -> None:
    """No devices are a head without lines."""
    assert len(render(devices.DevicesTable([], NOW))) == 1


def test_hostile_text() -> None:
    """A User-Agent neither colours nor moves anything, and stays on its line."""
    lines = render(devices.DevicesTable([row(user_agent="[red]x\x1b[2J\r\n\ty")], NOW), 200)
    assert len(lines) == 2
    assert "[red]x" in lines[1]
    assert "\x1b" not in lines[1]


@pytest.mark.parametrize("width", WIDTHS[1:])
def test_page_fits(width: int) -> None:
    """A device's page wraps no line, however long its graph and its addresses are."""
    pings = [(round(NOW.timestamp() * 1000) - n * 10_000, 50 + n) for n in range(300)]
    moved = {
        "at": at(-9),
        "event": "switched-over",
        "contact": "c1",
        "from": "192.0.2.1:40000",
        "to": "192.0.2.2:40000",
    }
    lines = render(device.render_device_page(page(samples=pings, timeline=[{**moved, "outage_ms": 99}]), NOW), width)
    assert all(cell_len(line) <= width for line in lines)
    assert len([line for line in lines if "█" in line]) <= graph.GRAPH_HEIGHT
    assert any(line.endswith("now UTC") for line in lines)
    assert any("away for 99 ms" in line for line in lines)
    assert any("pings 5040   answered 5000   lost 40 (0.8%)" in line for line in lines)


def test_lost_pings_are_marked() -> None:
    """A lost ping is a cross under its place, and no column of the graph."""
    now = round(NOW.timestamp() * 1000)
    lines = render(device.LatencyGraph([(now - 1000, None), (now, 50)], 60_000, now))
    assert "×" in lines[-2]
    assert lines[0].count("█") == 1


def test_no_pings_at_all() -> None:
    """A device that was never pinged has no graph."""
    assert render(device.LatencyGraph([], 60_000, 0)) == []


def test_ghosts_and_ended_contacts() -> None:
    """Ghosts are called so; of many contacts that ended only the last few are shown, and the rest counted."""
    ended = [contact(n, ended_at=at(-n), ended_by="expired", status="offline") for n in range(3, 13)]
    ghost = contact(2, status="stale", ghost=True)
    lines = render(device.render_device_page(page(contacts=[contact(1), ghost, *ended]), NOW), 120)
    assert any(line.startswith("  2  stale ghost") for line in lines)
    assert [line.split()[0] for line in lines if " expired " in line] == ["3", "4", "5"]
    assert any("and 7 more that ended" in line for line in lines)


def test_timeline_names_contacts_by_number() -> None:
    """A line of the timeline says which of the listed contacts it is about."""
    entries = [{"at": at(-9), "event": "lost", "contact": "c2"}, {"at": at(-8), "event": "stale", "contact": "gone"}]
    lines = render(device.render_device_page(page(contacts=[contact(1), contact(2)], timeline=entries), NOW))
    newest, oldest = lines[lines.index("Timeline") + 1 :]
    assert "#" not in newest
    assert "#2  lost" in oldest


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"address": "192.0.2.1:5060"}, "192.0.2.1:5060"),
        ({"lost": 1}, "1 ping lost"),
        ({"by": "ping", "lost": 3, "after_ms": 61_500}, "by ping, 3 pings lost, after 1 min 1 s"),
        ({"from": "a:1", "to": "b:2", "outage_ms": 99}, "away for 99 ms, a:1 → b:2"),
        ({"from": "a:1", "to": "b:2", "outage_at_most_ms": 300_000}, "away for at most 5 min, a:1 → b:2"),
        ({"result": "observed", "reason": "ghost", "mode": "observe", "attempt": 0}, "observed, ghost"),
        ({"anything": "else"}, "anything else"),
        ({}, ""),
    ],
)
def test_told(fields: dict[str, Any], words: str) -> None:
    """What happened is told in words, and what is not known yet by its name."""
    assert words == timeline.describe_entry({"at": at(0), "event": "x", "contact": "c", **fields})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "now"), (-5, "5 s ago"), (-60, "1 min ago"), (-7200, "2 h ago"), (-200_000, "2 d 7 h ago"), (30, "in 30 s")],
)
def test_ago(seconds: float, words: str) -> None:
    """Times are told as a person says them."""
    assert words == text.ago(at(seconds), NOW)


def test_summary_without_nodes() -> None:
    """Where nothing was ever heard of, the summary says what to look at."""
    counts = dict.fromkeys(("online", "losing", "unknown", "stale", "offline", "total"), 0)
    latency = {"p50_ms": None, "p95_ms": None, "p99_ms": None}
    empty = {"devices": counts, "contacts": counts, "latency": latency, "loss_ratio": None, "nodes": []}
    assert "is a bridge running" in render(summary.render_summary(empty, NOW))[-1]
