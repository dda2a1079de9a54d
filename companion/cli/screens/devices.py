"""Render the list of devices."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from companion.cli.screens.cells import render_latency, render_word
from companion.cli.screens.text import ago, text
from companion.sip import short_id
from companion.text import Json

WIDE: Final = 100
"""Columns from which on a list of devices has room for all there is to say of them."""


class DevicesTable:
    """Render a line for each device with as many columns as fit, its state first; `selected` is one to stand out."""

    def __init__(self, rows: Sequence[Json], now: datetime | None = None, selected: int | None = None) -> None:
        self._rows = rows
        self._selected = selected
        self._now = now or datetime.now(UTC)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.max_width >= WIDE
        longest = max((len(row["device"]) for row in self._rows), default=0)
        room = max(24, min(longest, options.max_width - WIDE + 16))
        table = _make_table(wide=wide)
        for number, row in enumerate(self._rows):
            cells = (*self._state(row), *(self._particulars(row) if wide else ()), text(row["user_agent"]))
            style = "reverse" if number == self._selected else ""
            table.add_row(text(short_id(row["device"], room)), *cells, style=style)
        yield table

    def _state(self, row: Json) -> tuple[Text, ...]:
        return (
            render_word(row["status"]),
            render_latency(row["last_latency_ms"]),
            render_word(row["quality"]),
            text(ago(row["last_latency_at"], self._now, brief=True)),
            text(row["consecutive_lost"] or ""),
        )

    def _particulars(self, row: Json) -> tuple[Text, ...]:
        registered = ago(row["last_register_at"], self._now, brief=True)
        return text(registered), text("yes" if row["push"] else ""), text(row["node"])


def _make_table(*, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("DEVICE", no_wrap=True)
    for name in ("STATUS", "LATENCY", "QUALITY", "LAST PING", "LOST"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("LATENCY", "LOST") else "left")
    if wide:
        table.add_column("REGISTERED", no_wrap=True)
        table.add_column("PUSH", no_wrap=True)
        table.add_column("NODE", max_width=16)
    table.add_column("USER AGENT", min_width=10, max_width=48)
    return table
