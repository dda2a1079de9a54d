"""Draw one device: latencies, lost pings, and when it was online.

Only numbers and words of ours are drawn: no text of a phone gets into a graph.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from companion import quality
from companion.dashboard.graphs.axes import (
    BASE,
    Options,
    Point,
    Window,
    broken,
    ceiling,
    lane_axis,
    line,
    time_axis,
    value_axis,
)
from companion.dashboard.markup.badges import number
from companion.dashboard.presence import Band
from companion.usrloc.contact import Ping

_SIDES: Final = {"left": 62, "right": 76, "outerBoundsMode": "none"}
_LOWEST_STRIPE: Final = 0.055
"""A stripe lower than this part of the graph has no room for its word."""
_CROSS: Final = "path://M1 0L0 1L4 5L0 9L1 10L5 6L9 10L10 9L6 5L10 1L9 0L5 4Z"
_HEIGHTS: Final[dict[str, tuple[float, float]]] = {"online": (0, 1), "offline": (0, 0.4), "unknown": (0.4, 0.6)}
"""From and to which share of the lane a state is drawn: the eye tells them apart without their colours."""
_COLOURS: Final = {"online": "var(--online)", "offline": "var(--stale)", "unknown": "var(--unknown)"}


class DevicePlot(NamedTuple):
    """Represent what a device is drawn on; a silence longer than `gap_ms` of its begin (epoch ms) breaks the line."""

    window: Window
    latency_bounds: quality.Bounds
    gap_ms: Callable[[int], int]
    bands: Sequence[Band]


def draw_pings(pings: Sequence[Ping], plot: DevicePlot) -> Options:
    """Draw each ping of the window."""
    answered = [(ts, latency_ms) for ts, latency_ms in pings if latency_ms is not None]
    points = [(ts, ms, f"{ms} ms, {quality.label(ms, plot.latency_bounds)}") for ts, ms in answered]
    lost = [(ts, 0.5, "ping", plot.gap_ms(ts) // 2) for ts, latency_ms in pings if latency_ms is None]
    drawn = line("Latency", broken(points, plot.gap_ms))
    return _graph([drawn], lost, max((ms for _, ms in answered), default=0), plot)


def draw_buckets(buckets: Sequence[Sequence[Any]], plot: DevicePlot) -> Options:
    """Draw buckets `[ts, min, avg, max, answered, lost]` of a long window: the average, and the range around it."""
    answered = [bucket for bucket in buckets if bucket[4]]
    average = [
        (ts, mean, f"{number(mean)} ms, {quality.label(mean, plot.latency_bounds)}") for ts, _, mean, *_ in answered
    ]
    least = [(ts, low, f"{low} ms") for ts, low, *_ in answered]
    spread = [(ts, high - low, f"{high} ms") for ts, low, _, high, *_ in answered]
    lost = [
        (bucket[0], 0.5, f"{bucket[5]} of {bucket[4] + bucket[5]}", plot.gap_ms(bucket[0]) // 2)
        for bucket in buckets
        if bucket[5]
    ]
    lines = [
        line("Average", broken(average, plot.gap_ms)),
        line("Minimum", broken(least, plot.gap_ms), symbol=False) | {"stack": "range", "lineStyle": {"opacity": 0}},
        line("Maximum", broken(spread, plot.gap_ms), symbol=False) | {"stack": "range", "lineStyle": {"opacity": 0}},
    ]
    lines[2]["areaStyle"] = {"color": "var(--graph)", "opacity": 0.18}
    return _graph(lines, lost, max((bucket[3] for bucket in answered), default=0), plot)


def _graph(lines: list[Options], lost: Sequence[Point], highest: float, plot: DevicePlot) -> Options:
    top = ceiling(highest, plot.latency_bounds.excellent)
    lines[0]["markArea"] = {"silent": True, "data": tuple(_qualities(plot.latency_bounds, top))}
    lanes = [_lane("lost", 1, bottom=52), _lane("", 2, bottom=34)]
    return {
        **BASE,
        "grid": ({**_SIDES, "top": 12, "bottom": 74}, *(grid for grid, _ in lanes)),
        "xAxis": tuple(time_axis(grid, plot.window, label=grid == 2) for grid in range(3)),
        "yAxis": (value_axis(0, "{value} ms", top), *(axis for _, axis in lanes)),
        "series": (*lines, crosses(lost), _presence(plot.bands)),
    }


def _qualities(bounds: quality.Bounds, top: float) -> Iterator[tuple[Options, Options]]:
    """Draw a faint stripe for each quality that the graph reaches, with its word beside it."""
    for name, low, high in zip(quality.LABELS, (0, *bounds), (*bounds, top), strict=True):
        if low < top:
            colour = f"var(--{name})"
            room = (min(high, top) - low) / top >= _LOWEST_STRIPE
            label = {"show": room, "position": "right", "distance": 8, "formatter": name, "color": colour}
            style = {"itemStyle": {"color": colour, "opacity": 0.055}, "label": label | {"fontSize": 12}}
            yield {"yAxis": low, **style}, {"yAxis": min(high, top)}


def crosses(lost: Sequence[Point]) -> Options:
    """Draw each lost ping as a cross in the strip below."""
    return {
        "name": "Lost",
        "type": "scatter",
        "xAxisIndex": 1,
        "yAxisIndex": 1,
        "symbol": _CROSS,
        "symbolSize": 8,
        "itemStyle": {"color": "var(--stale)"},
        "emphasis": {"disabled": True},
        "data": tuple(lost),
    }


def _presence(bands: Sequence[Band]) -> Options:
    areas = {"silent": True, "data": tuple(map(_band, bands))}
    return {"name": "Presence", "type": "line", "xAxisIndex": 2, "yAxisIndex": 2, "data": (), "markArea": areas}


def _band(band: Band) -> tuple[Options, Options]:
    low, high = _HEIGHTS[band.state]
    style = {"color": _COLOURS[band.state], "opacity": 0.85}
    return {"xAxis": band.since, "yAxis": low, "itemStyle": style}, {"xAxis": band.until, "yAxis": high}


def _lane(name: str, grid: int, bottom: int) -> tuple[Options, Options]:
    """Return grid and axis of a thin strip below the graph."""
    return {**_SIDES, "height": 12, "bottom": bottom}, lane_axis(grid, name)
