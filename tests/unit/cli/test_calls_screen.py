"""Calls in a terminal: what matters is there at any width, and what came from the network is only text."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from companion.cli.screens.call import render_call_page
from companion.cli.screens.calls import CallsTable
from companion.media.report import Happening
from companion.media.signalling import Signalling
from companion.media.totals import Totals, add
from companion.query.calls import render_call
from companion.store.call_media import CallMedia
from companion.store.calls import CallRecord
from tests.unit.cli.test_devices_screen import render
from tests.unit.media.samples import OPUS, START, happening, pings, seconds

NOW = datetime.fromtimestamp(START / 1000, UTC) + timedelta(minutes=10)
DEVICE = "alice/urn:uuid:c386bbc4-0b7e-4d8f-8c6a-2f6e3a1b9d10"
CALL_ID = "5f2c1b0e9a4d77d2@phone.example.com"
LOSSY: dict[str, Any] = {"packets": 47, "lost": 3, "rtt_ms": 310.0}
WIDTHS = (80, 100, 110, 140, 200)
HOSTILE = "[red]x[/red]\x1b[2J\r\n\ty\u202ez"


def row(**values: Any) -> dict[str, Any]:
    base = {
        "call_id": CALL_ID,
        "device": DEVICE,
        "direction": "in",
        "peer": "sip:bob@example.com",
        "started_at": "2026-11-24T09:30:00.000Z",
        "ended_at": "2026-11-24T09:42:03.000Z",
        "seconds": 723,
        "end": "hangup",
        "live": False,
        "mos": 2.41,
        "band": "bad",
        "loss_percent": 5.1,
        "rtt_ms": 310.4,
        "relay": True,
        "bad_seconds": 120,
    }
    return {**base, **values}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("of_many", [False, True])
def test_a_line_at_any_width(width: int, *, of_many: bool) -> None:
    """When, with whom, how long, how it ended, how it sounded, and enough of the Call-ID to type: all on one line."""
    head, line = render(CallsTable([row()], of_many=of_many), width)
    assert cell_len(line) <= width
    assert line.startswith("24 Nov 09:30 ")
    assert all(word in line for word in ("←", "bob@", "12 min 3 s", "hangup", "2.41", "5.1 %", "5f2c1b0e"))
    assert ("alice/…" in line or DEVICE in line) is of_many
    assert ("DEVICE" in head) is of_many


def test_wide_has_all() -> None:
    """A pipe gets the whole of all there is to say."""
    _, line = render(CallsTable([row()], of_many=True), 200)
    assert all(word in line for word in (DEVICE, "bob@example.com", "310 ms", "relay", "120 s", CALL_ID))


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"end": "lost"}, "lost"),
        ({"end": "", "ended_at": None, "live": True}, "live"),
        ({"end": "", "ended_at": None}, "gone"),
        ({"end": ""}, "ended"),
    ],
)
def test_how_it_ended(values: dict[str, Any], word: str) -> None:
    """A call goes on, has ended, or its page went without a word."""
    _, line = render(CallsTable([row(**values)], of_many=False))
    assert word in line.split()


def test_what_is_not_known() -> None:
    """What nobody told is a dash, and no zero."""
    unknown = dict.fromkeys(("mos", "band", "loss_percent", "rtt_ms", "relay"))
    _, line = render(CallsTable([row(**unknown, bad_seconds=0)], of_many=False), 140)
    assert line.split().count("–") == 5


def test_hostile_lines() -> None:
    """What a page calls things neither colours nor moves anything, and stays on its line."""
    lines = render(CallsTable([row(peer=HOSTILE, call_id=HOSTILE, device=HOSTILE, end=HOSTILE)], of_many=True), 200)
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
    assert "[red]x" in lines[1]


def page(*samples: Any, device_pings: Any = (), happenings: tuple[Happening, ...] = (), **call: Any) -> dict[str, Any]:
    media = CallMedia(tuple(samples), (OPUS, *happenings))
    sums = add(Totals(), (OPUS, *samples))
    base = {"ref": "0", "call_id": CALL_ID, "device": DEVICE, "direction": "in", "peer": "sip:bob@example.com"}
    ends = {"ended_at": START + 120_000, "end": "hangup", "why": "", "last_at": START, "dropped": 0, "said_at": 0}
    made = CallRecord(**{**base, "started_at": START, **ends, "totals": sums, **call})
    shown_page = render_call(made, media, Signalling(device_pings, 30_000), round(NOW.timestamp() * 1000))
    return {**shown_page, "timeline": [], "legs": [DEVICE]}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_fits(width: int) -> None:
    """A call's page wraps no graph and no line of a table, however long its call was."""
    path = happening(
        1, "path", local="relay", remote="srflx", protocol="udp", relay="tcp", local_address="192.0.2.0/24"
    )
    bad = page(
        *seconds(1, 60),
        *seconds(61, 600, **LOSSY),
        device_pings=pings(*range(40, 70)),
        happenings=(path,),
        ended_at=START + 660_000,
    )
    lines = render(render_call_page(bad, NOW), width)
    assert all(cell_len(line) <= width for line in lines)
    text = "\n".join(lines)
    for words in (CALL_ID, "MOS", "Verdict", "media path", "bad minutes: 10 of 11", "Round trip", "Bad minutes"):
        assert words in text
    assert any(line.endswith("UTC") for line in lines)


def test_a_page_of_a_good_call() -> None:
    """A good call has its verdict and its graphs, and no word of bad minutes."""
    text = "\n".join(render(render_call_page(page(*seconds(1, 120), device_pings=pings(40, None, 45)), NOW)))
    assert "Verdict  good" in text
    assert "Bad minutes" not in text
    assert "×" in text


def test_a_page_of_nothing() -> None:
    """A call of which nothing is known says so, and has no graphs."""
    text = "\n".join(render(render_call_page(page(ended_at=None, end=""), NOW)))
    assert "Verdict  not known" in text
    assert "insufficient data" in text
    assert "Round trip" not in text


def test_a_gap_is_a_gap() -> None:
    """Where nothing is known there is no column, and a short call fills its graph."""
    lines = render(render_call_page(page(*seconds(1, 10), *seconds(21, 10), ended_at=START + 30_000), NOW))
    bottom = lines[lines.index("MOS") + 4]
    columns = bottom[9:]
    assert columns.count("█") > 40
    assert "  " in columns.strip()


def test_more_than_fits() -> None:
    """Of very many bad minutes and happenings the first and the last are shown, and the rest counted."""
    many = tuple(happening(n, "x-new", a=n) for n in range(1, 60))
    lines = render(render_call_page(page(*seconds(1, 1200, **LOSSY), happenings=many), NOW), 140)
    assert any("and 10 more: --json" in line for line in lines)
    assert any("and 40 earlier: --json" in line for line in lines)


def test_hostile_page() -> None:
    """Nothing that a page told is obeyed by a terminal."""
    evil = Happening(n=3, at=START, what="network", fields={HOSTILE: HOSTILE, "type": HOSTILE})
    made = page(*seconds(1, 30), happenings=(evil,), peer=HOSTILE, why=HOSTILE, call_id=HOSTILE)
    text = "\n".join(
        render(render_call_page({**made, "path": {"local": HOSTILE, "network": HOSTILE}, "codec": HOSTILE}, NOW))
    )
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x" in text
