"""Render the list of calls."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from companion.cli.screens.call_cells import ARROWS, render_end, render_mos
from companion.cli.screens.text import text
from companion.sip import INSTANCE_END, short_id
from companion.text import Json, times
from companion.times import format_seconds

WIDE: Final = 110
"""Columns from which on a list of calls has room for all there is to say of them."""


def render_refused_reports(answer: Json) -> Iterator[Text]:
    """Say that reports of a device's calls were refused, if any were."""
    if answer.get("refused_reports"):
        option = {"calls": "calls_per_hour", "bytes": "megabytes_per_hour"}.get(answer["refused_why"], "")
        reports = times(answer["refused_reports"], "report")
        yield text(f"{reports} of the last hour refused: more than [media] {option} allows", "yellow")


class CallsTable:
    """Render a line for each call with as many columns as fit; `of_many` adds the device."""

    def __init__(self, calls: Sequence[Json], *, of_many: bool, now: datetime | None = None) -> None:
        self._calls = calls
        self._of_many = of_many
        self._now = now or datetime.now(UTC)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(self._columns(wide=options.max_width >= WIDE))
        rows = [[column.cell(call) for column in columns] for call in self._calls]
        rooms = self._rooms(options.max_width, columns, rows)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        for column in columns:
            table.add_column(column.name, no_wrap=True, justify=column.justify, overflow="ellipsis")
        for call, row in zip(self._calls, rows, strict=True):
            elastic = {
                "DEVICE": text(short_id(call["device"], rooms[0])),
                "WITH": _render_cut(format_peer(call), rooms[1]),
                "CALL-ID": _render_cut(call["call_id"], rooms[2]),
            }
            table.add_row(*(elastic.get(column.name, cell) for column, cell in zip(columns, row, strict=True)))
        yield table

    def _columns(self, *, wide: bool) -> Iterator["_Column"]:
        """Yield the columns that fit; the cells of device, peer and Call-ID come later."""
        yield _Column("STARTED UTC", lambda call: text(_format_start(call["started_at"])))
        if self._of_many:
            yield _Column("DEVICE")
        yield _Column("", lambda call: text(ARROWS.get(call["direction"], "·")))
        yield _Column("WITH")
        yield _Column("LENGTH", lambda call: text(format_seconds(call["seconds"])), "right")
        yield _Column("ENDED", render_end)
        yield _Column("MOS", render_mos, "right")
        yield _Column("LOSS", lambda call: text(_format_percent(call["loss_percent"])), "right")
        if wide or not self._of_many:
            yield _Column("RTT", lambda call: text(_format_ms(call["rtt_ms"])), "right")
            yield _Column("PATH", _render_path)
        if wide:
            yield _Column(
                "BAD", lambda call: text(f"{call['bad_seconds']} s" if call["bad_seconds"] else None), "right"
            )
        yield _Column("CALL-ID")

    def _rooms(self, width: int, columns: Sequence["_Column"], rows: Sequence[Sequence[Text]]) -> list[int]:
        """Return the widths of device, peer and Call-ID: first a minimum for each, then more while there is room."""
        fixed = [max(len(column.name), *map(len, cells)) for column, *cells in zip(columns, *rows, strict=True)]
        rest = width - sum(n for n, column in zip(fixed, columns, strict=True) if column.cell is not _render_later)
        rest -= len(columns) - 1
        devices = [call["device"] for call in self._calls] if self._of_many else []
        peers, ids = [*map(format_peer, self._calls)], [call["call_id"] for call in self._calls]
        short = max((len(device.rpartition("/")[0]) + INSTANCE_END + 2 for device in devices), default=0)
        longest = [max(map(len, texts), default=0) for texts in (devices, peers, ids)]
        rooms = [0, 0, 0]
        for step in ((15, 9, 9), (short, 24, 20), longest):
            for n in (2, 1, 0):  # a Call-ID is to be typed, a peer to be recognised
                rooms[n] += max(0, min(step[n], longest[n], rooms[n] + rest - sum(rooms)) - rooms[n])
        return rooms


def _render_later(_: Json) -> Text:
    return Text()


class _Column(NamedTuple):
    name: str
    cell: Callable[[Json], Text] = _render_later
    justify: JustifyMethod = "left"


def _format_start(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%d %b %H:%M")


def format_peer(call: Json) -> str:
    """Return the other end without the scheme of its URI.

    >>> peer({"peer": "sip:bob@example.com"}), peer({"peer": "tel:+4930"})
    ('bob@example.com', 'tel:+4930')
    """
    uri: str = call["peer"]
    return uri.removeprefix("sip:").removeprefix("sips:")


def _render_cut(value: str, room: int) -> Text:
    """Render a text in at most this many columns."""
    cell = text(value)
    cell.truncate(max(1, room), overflow="ellipsis")
    return cell


def _format_percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} %"


def _format_ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} ms"


def _render_path(call: Json) -> Text:
    return text(None) if call["relay"] is None else text("relay", "yellow") if call["relay"] else text("direct")
