"""Draw axes, lines and tooltips as options of ECharts.

Colours are variables of the style sheet, so that graphs follow light and dark by themselves. Points are tuples, which
NiceGUI passes on without watching each of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from companion.times import MINUTE_MS

Options = dict[str, Any]
Point = tuple[Any, ...]
"""(epoch ms, value or None, what a tooltip says, and within how many ms of the pointer it does; left out: always)"""
Gap = int | Callable[[int], int]
"""How long a silence breaks a line, in ms: always so long, or by when (epoch ms) it begins."""
Window = tuple[int, int]
"""From and until, epoch ms."""

HEADROOM: Final = 1.12
SHORTEST_MS: Final = MINUTE_MS
_STEPS: Final = {1: 5, 1.25: 5, 1.5: 3, 2: 4, 2.5: 5, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4, 10: 5}
"""Where an axis may end, and into how many parts it is divided then."""

BASE: Final[Options] = {
    "animation": False,
    "textStyle": {"fontFamily": "Roboto, system-ui, sans-serif"},
    "axisPointer": {
        "link": ({"xAxisIndex": "all"},),
        "lineStyle": {"color": "var(--line-strong)", "type": "solid", "width": 1},
        "label": {"show": False},
    },
    "tooltip": {
        "trigger": "axis",
        ":formatter": "companionTooltip",
        "backgroundColor": "transparent",
        "borderWidth": 0,
        "padding": 0,
        "extraCssText": "box-shadow: none",
        "confine": True,
        "transitionDuration": 0,
    },
}


FEW: Final = 3
"""With fewer points than this, a line would hardly be visible: the points are drawn, too."""
_DOT: Final = 3
"""The size of a point that stands alone between two breaks: as wide as a line of it would be high."""
_TIME_LABELS: Final = {
    "year": "{d} {MMM} {yyyy}",
    "month": "{d} {MMM}",
    "day": "{d} {MMM}",
    "hour": "{HH}:{mm}",
    "minute": "{HH}:{mm}",
    "second": "{HH}:{mm}:{ss}",
}
"""What an axis says where a year, month, day … begins: a day without its month looks like a number."""
_HIDDEN: Final = ("axisLine", "axisTick", "axisLabel", "splitLine")


def line(name: str, points: tuple[Point, ...], *, symbol: bool | None = None) -> Options:
    """Draw points as a line; `symbol` says whether the points are marked, None that they are where there are few."""
    few = sum(point[1] is not None for point in points) < FEW
    return {
        "name": name,
        "type": "line",
        "showSymbol": symbol is not False,
        "symbol": "circle" if symbol or few else "none",
        "symbolSize": 5,
        "color": "var(--graph)",
        "lineStyle": {"width": 1.5},
        "emphasis": {"disabled": True},
        "data": points if few or symbol is not None else tuple(_mark_alone(points)),
    }


def _mark_alone(points: Sequence[Point]) -> Iterator[Point | Options]:
    """Draw the points between two breaks, of which a line shows nothing."""
    is_drawn = [False, *(point[1] is not None for point in points), False]
    for number, point in enumerate(points, 1):
        is_alone = is_drawn[number] and not is_drawn[number - 1] and not is_drawn[number + 1]
        yield {"value": point, "symbol": "circle", "symbolSize": _DOT} if is_alone else point


def broken(points: Sequence[Point], gap_ms: Gap) -> tuple[Point, ...]:
    """Break a line at each silence longer than `gap_ms`."""
    drawn: list[Point] = []
    for point in points:
        if drawn and point[0] - drawn[-1][0] > (gap_ms if isinstance(gap_ms, int) else gap_ms(drawn[-1][0])):
            drawn.append((drawn[-1][0] + 1, None, ""))
        drawn.append(point)
    return tuple(drawn)


def ceiling(highest: float, at_least: float = 0) -> float:
    """Return a round number with some room above the highest value.

    >>> ceiling(97), ceiling(510), ceiling(20, at_least=100)
    (125.0, 600, 125.0)
    """
    least = max(highest, at_least) * HEADROOM
    if least <= 0:
        return 1
    size: float = 10 ** (len(str(int(least))) - 1) if least >= 1 else 0.1
    return next(step * size for step in (*_STEPS, 12.5) if step * size >= least)


def known_part(window: Window, first: int | None) -> Window:
    """Cut a window to start at its first data: a minute of data in a week would be a line at the edge."""
    since, until = window
    if first is None or first <= since:
        return window
    return min(first, until - SHORTEST_MS), until


def time_axis(grid: int, window: Window, *, label: bool = True) -> Options:
    return {
        "type": "time",
        "gridIndex": grid,
        "min": window[0],
        "max": window[1],
        "axisLine": {"show": label, "lineStyle": {"color": "var(--line)"}},
        "axisTick": {"show": False},
        "splitLine": {"show": grid == 0, "lineStyle": {"color": "var(--line)", "opacity": 0.6}},
        "axisLabel": {
            "show": label,
            "color": "var(--muted)",
            "fontSize": 12,
            "hideOverlap": True,
            "formatter": _TIME_LABELS,
        },
    }


def value_axis(grid: int, label: str, top: float, parts: int = 0) -> Options:
    """Draw an axis from 0 to `top`, a result of `ceiling`; each line of the grid is at a round number."""
    return {
        "type": "value",
        "gridIndex": grid,
        "min": 0,
        "max": top,
        "interval": top / (parts or _parts(top)),
        "axisLabel": {"color": "var(--muted)", "fontSize": 12, "formatter": label},
        "splitLine": {"lineStyle": {"color": "var(--line)"}},
    }


def lane_axis(grid: int, name: str) -> Options:
    """Draw the axis of a thin strip from 0 to 1, with its name beside it."""
    return {
        "type": "value",
        "gridIndex": grid,
        "min": 0,
        "max": 1,
        "name": name,
        "nameLocation": "middle",
        "nameRotate": 0,
        "nameGap": 10,
        "nameTextStyle": {"color": "var(--muted)", "fontSize": 12, "align": "right", "verticalAlign": "middle"},
        **{part: {"show": False} for part in _HIDDEN},
    }


def _parts(top: float) -> int:
    digits = f"{top:e}".partition("e")[0]
    return _STEPS.get(float(digits), 4)
