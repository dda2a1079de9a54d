"""The screen of `companion top` fits into any terminal."""

from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from companion.cli.screens.fleet import FleetNotice, FleetScreen, ScrolledPage, render_help
from companion.cli.top_state import TopState

SIZES = [(80, 24), (160, 50)]


def make_screen(room: int, rows: int, notice: str = "", **fields: Any) -> FleetScreen:
    devices = [f"user{number}/urn:uuid:6513270e-269e-0d37-f2a7-{number:012}" for number in range(rows)]
    state = TopState(room=room, devices=devices, total=100_000, selected=1, **fields)
    row = {
        "status": "losing",
        "last_latency_ms": 217,
        "quality": "excellent",
        "last_latency_at": "2026-05-04T12:00:00+00:00",
        "consecutive_lost": 12,
        "last_register_at": None,
        "push": True,
        "node": "sip1",
        "user_agent": "\x1b[2J\x07\x9b31mBrowser Phone\r\n1.2.3",
    }
    counts = dict.fromkeys(("online", "losing", "unknown", "stale", "offline"), 900_000)
    return FleetScreen(
        state, {"devices": [row | {"device": device} for device in devices], "counts": counts}, FleetNotice(notice)
    )


def draw(console: Console, page: Any) -> list[str]:
    lines = console.render_lines(page, console.options.update_dimensions(*console.size))
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("is_full", [True, False])
def test_fits(width: int, height: int, *, is_full: bool) -> None:
    """The keys are on the last line, whether the list fills the screen or not, and no line wraps."""
    console, room = Console(width=width, height=height, force_terminal=True), height - 5
    lines = draw(console, make_screen(room, room if is_full else 3, search="x" * 300))
    assert lines[0].startswith("900000 online   900000 losing   900000 unknown")
    assert lines[2].startswith("DEVICE")
    assert sum(line.startswith("user") for line in lines) == (room if is_full else 3)
    assert lines[-1].rstrip().endswith("q leave")


@pytest.mark.parametrize(("width", "height"), [*SIZES, (20, 3), (1, 1)])
def test_any_size(width: int, height: int) -> None:
    """However small the terminal is, what is drawn has its size."""
    console = Console(width=width, height=height, force_terminal=True)
    for page in (make_screen(max(1, height - 5), 3), ScrolledPage([], TopState(), FleetNotice("")), render_help()):
        assert [width] * height == [len(line) for line in draw(console, page)]


def test_hostile_text() -> None:
    """No control character of a User-Agent or of an error reaches the terminal."""
    screen = make_screen(5, 3, "\x1b[1mRedis\x07", is_searching=False)
    assert all(line.isprintable() for line in draw(Console(width=160, height=10, force_terminal=True), screen))


def test_one_device_stands_out() -> None:
    """The selected device, and none beside, is in reverse video: visible without colours too."""
    console = Console(width=80, height=10, force_terminal=True, color_system=None)
    lines = console.render_lines(make_screen(5, 3), console.options.update_dimensions(80, 10))
    reverse = [line for line in lines if any(segment.style and segment.style.reverse for segment in line)]
    assert len(reverse) == 1
    assert "".join(segment.text for segment in reverse[0]).startswith("user1/")


def test_a_page_is_scrolled() -> None:
    """Of a page that is longer than the screen, the lines below those above are shown."""
    console = Console(width=80, height=6, force_terminal=True)
    page = console.render_lines(Text("\n".join(f"line {number}" for number in range(50))))
    lines = draw(console, ScrolledPage(page, TopState(room=4, scrolled=10), FleetNotice("")))
    assert [line.strip() for line in lines[:4]] == ["line 10", "line 11", "line 12", "line 13"]
    assert "Esc back" in lines[-1]
