"""Draw a latency graph in a terminal."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from companion.usrloc.contact import Ping

GRAPH_HEIGHT: Final = 6

GRAPH_WIDTH: Final = 96

GRAPH_MARGIN: Final = 9

BLOCKS: Final = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Scale:
    """Represent the scale of a graph: a column shows the worst value of its slice, from `floor` to `top`.

    Without `top` the scale ends at the highest value. The style of a column may depend on its value.
    """

    unit: str = "ms"
    height: int = GRAPH_HEIGHT
    floor: float = 0
    top: float | None = None
    worst: Callable[[Iterable[float]], float] = max
    style: Callable[[float], str] = lambda _: "cyan"


Held = tuple[int, int, float | None]
"""From and until when (epoch ms; the same for what is of one moment) there was this value; None is not known."""


class Graph:
    """Draw a measurement as a column for each slice of a time span (epoch ms); a slice without values stays empty."""

    def __init__(self, points: Iterable[Held], span: tuple[int, int], scale: Scale | None = None) -> None:
        self._points = list(points)
        self._span = span
        self._scale = scale or Scale()

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        cells = split_in_slices(self._points, self._span, compute_width(options))
        columns = [self._scale.worst(numbers) if (numbers := _select_numbers(values)) else None for values in cells]
        top = self._scale.top or max(_select_numbers(columns), default=0) or 1
        for level in reversed(range(self._scale.height)):
            yield self._line(columns, top, level)

    def _line(self, columns: Sequence[float | None], top: float, level: int) -> Text:
        edge = top if level == self._scale.height - 1 else self._scale.floor if level == 0 else None
        label = "" if edge is None else f"{edge:.10g} {self._scale.unit}".strip()
        line = Text(f"{label:>{GRAPH_MARGIN - 1}} ", style="bright_black")
        for value in columns:
            line.append(self._block(value, top, level), style="" if value is None else self._scale.style(value))
        line.rstrip()
        return line

    def _block(self, value: float | None, top: float, level: int) -> str:
        share = 0 if value is None else (value - self._scale.floor) / (top - self._scale.floor)
        eighths = 0 if value is None else max(1, round(share * self._scale.height * 8)) - level * 8
        return BLOCKS[min(8, max(0, eighths))]


def compute_width(options: ConsoleOptions) -> int:
    """Return how many columns a graph has."""
    return max(16, min(GRAPH_WIDTH, options.max_width - GRAPH_MARGIN))


def split_in_slices(points: Iterable[Held], span: tuple[int, int], width: int) -> list[list[float | None]]:
    """Return the values in each of `width` slices of a span; values outside count for the nearest slice."""
    cells: list[list[float | None]] = [[] for _ in range(width)]
    start, length = span[0], max(1, span[1] - span[0])
    for since, until, value in points:
        first, last = ((at - start) * width // length for at in (since, max(since, until - 1)))
        for column in range(min(width - 1, max(0, first)), min(width - 1, max(0, last)) + 1):
            cells[column].append(value)
    return cells


def make_points(pings: Iterable[Ping]) -> list[Held]:
    """Convert pings to points of a graph."""
    return [(at, at, latency_ms) for at, latency_ms in pings]


def _select_numbers(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


class LostMarks:
    """Mark where pings were lost."""

    def __init__(self, pings: Iterable[Held], span: tuple[int, int]) -> None:
        self._pings = list(pings)
        self._span = span

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        cells = split_in_slices(self._pings, self._span, compute_width(options))
        marks = Text(f"{'lost':>{GRAPH_MARGIN - 1}} ", style="bright_black")
        yield marks.append("".join("×" if None in values else " " for values in cells).rstrip(), style="red")


class Axis:
    """Show the times at both ends of a graph."""

    def __init__(self, start: str, end: str) -> None:
        self._start, self._end = start, end

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        room = compute_width(options) - len(self._end)
        yield Text(f"{'':{GRAPH_MARGIN}}{self._start:<{room}}{self._end}", style="bright_black")
