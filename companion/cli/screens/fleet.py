"""Render the fleet in the screen of the demo."""

from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from companion.cli.screens.cells import render_count
from companion.cli.screens.devices import DevicesTable
from companion.query.listing import WORST_FIRST
from companion.text import Json
from companion.usrloc.contact import STATUSES

LINES_AROUND: Final = 16
"""Lines of the screen without devices: where to look, the counts, the head of the table, and what is left out."""


class FleetScreen:
    """Render the counts of the fleet, and as many devices as the terminal has room for, those with trouble first."""

    def __init__(self, counts: Json, rows: list[Json]) -> None:
        self._counts = counts
        self._rows = sorted(rows, key=lambda row: (WORST_FIRST.index(row["status"]), row["device"]))
        self._now = datetime.now(UTC)

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> RenderResult:
        room = max(1, console.size.height - LINES_AROUND) if console.is_terminal else len(self._rows)
        hidden = len(self._rows) - room
        yield Text("   ").join(render_count(self._counts[status], status, status) for status in STATUSES)
        yield DevicesTable(self._rows[:room], self._now)
        yield Text(f"and {hidden} more" if hidden > 0 else "", style="bright_black")
