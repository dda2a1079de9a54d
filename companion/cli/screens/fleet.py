"""Render the fleet in the screen of `companion top` and of the demo."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment, SegmentLines
from rich.table import Table
from rich.text import Text

from companion.cli.screens.cells import render_count
from companion.cli.screens.devices import DevicesTable
from companion.cli.screens.text import text
from companion.cli.top_state import TopState
from companion.text import Json
from companion.usrloc.contact import STATUSES

LINES_AROUND: Final = 5
"""Lines of a list without devices: the counts, what is listed, the head of the table, a notice, the keys."""
LINES_BELOW: Final = 2
"""Lines below the page of a device: a notice, the keys."""
LIST_KEYS: Final = (
    ("↑↓", "move"),
    ("Enter", "open"),
    ("s", "sort"),
    ("r", "reverse"),
    ("f", "status"),
    ("/", "search"),
    ("h", "help"),
    ("q", "leave"),
)
PAGE_KEYS: Final = (("↑↓", "scroll"), ("Esc", "back"), ("h", "help"))
HELP: Final = (
    ("↑ ↓, k j", "select the device above or below; scroll in the page of a device"),
    ("PgUp PgDn, Space", "turn a page"),
    ("Home End, g G", "go to the first or the last device"),
    ("Enter", "open the selected device; Esc goes back"),
    ("s", "sort by the next column: status, device, latency, last ping, REGISTER, lost"),
    ("r", "reverse the order"),
    ("f", "only devices of the next status: stale, losing, unknown, online, offline"),
    ("/", "search in device ids and user agents; Enter ends typing, Esc the search"),
    ("Esc", "list all devices again"),
    ("q, Ctrl-C", "leave; on the page of a device, q goes back"),
)


class FleetNotice(NamedTuple):
    """Hold a line about what is shown: `style` is that of a trouble or of a remark."""

    line: str
    style: str = "yellow"


class FleetScreen:
    """Render the counts, the devices that there is room for, and the keys. `above` are lines of the caller."""

    def __init__(self, state: TopState, fleet: Json, notice: FleetNotice, above: Sequence[list[Segment]] = ()) -> None:
        self._state = state
        self._fleet = fleet
        self._notice = notice
        self._above = above

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        state, rows = self._state, self._fleet["devices"][: self._state.room]
        if self._above:
            yield SegmentLines(self._above, new_lines=True)
        yield render_counts(self._fleet["counts"])
        yield _render_choice(state)
        yield DevicesTable(rows, selected=state.selected)
        yield from [""] * (state.room - len(rows))
        yield _render_prompt(state.search) if state.is_searching else text(self._notice.line or " ", self._notice.style)
        yield _render_keys(LIST_KEYS)


class ScrolledPage:
    """Render a part of a page that is longer than the screen, and the keys."""

    def __init__(self, lines: Sequence[list[Segment]], state: TopState, notice: FleetNotice) -> None:
        self._lines = lines[state.scrolled : state.scrolled + state.room]
        self._blank = state.room - len(self._lines)
        self._notice = notice

    def __rich_console__(self, _: Console, __: ConsoleOptions) -> RenderResult:
        yield SegmentLines(self._lines, new_lines=True)
        yield from [""] * self._blank
        yield text(self._notice.line or " ", self._notice.style)
        yield _render_keys(PAGE_KEYS)


def render_counts(counts: Json) -> Text:
    """Render the number of devices by status."""
    line = Text("   ").join(render_count(counts.get(status, 0), status, status) for status in STATUSES)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def render_fleet(fleet: Json) -> Group:
    """Render the fleet for who has no terminal."""
    return Group(render_counts(fleet["counts"]), DevicesTable(fleet["devices"]))


def render_help() -> Group:
    """Render what the keys do."""
    table = Table.grid(padding=(0, 2))
    for keys, purpose in HELP:
        table.add_row(Text(f"  {keys}", style="bold"), Text(purpose))
    return Group(Text("Keys", style="bold"), table, "", Text("Any key goes back.", style="bright_black"))


def _render_choice(state: TopState) -> Text:
    """Render which devices are on the screen, of how many, and in which order."""
    return text("   ".join(_describe_choice(state)), "bright_black")


def _describe_choice(state: TopState) -> Iterator[str]:
    last = state.offset + len(state.devices)
    yield f"{min(state.offset + 1, last):,}–{last:,} of {state.total:,}"
    yield state.order
    yield f"only {state.status}" if state.status else "all statuses"
    if state.search:
        yield f"with “{state.search}”"


def _render_prompt(search: str) -> Text:
    return text(f"search: {search}▏", "bold")


def _render_keys(keys: Sequence[tuple[str, str]]) -> RenderableType:
    parts = (Text.assemble((key, "bold"), f" {purpose}") for key, purpose in keys)
    line = Text("  ").join(parts)
    line.no_wrap, line.overflow = True, "ellipsis"
    return line
