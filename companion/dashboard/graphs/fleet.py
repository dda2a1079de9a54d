"""Draw the fleet: percentiles of its latency, and the share of contacts that lost their last ping below."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from companion.dashboard.graphs.axes import (
    BASE,
    Options,
    Window,
    broken,
    ceiling,
    known_part,
    line,
    time_axis,
    value_axis,
)
from companion.dashboard.markup.badges import share
from companion.times import epoch_ms

GAPS: Final = 40
"""A line breaks where nothing came for this part of the window."""
_PERCENTILES: Final = (("p50", "solid"), ("p95", "dashed"), ("p99", "dotted"))

Points = Sequence[Mapping[str, Any]]


def draw_history(points: Points, window: Window) -> Options:
    """Draw the points of Reader.history."""
    times = [epoch_ms(point["at"]) for point in points]
    gap_ms = (window[1] - window[0]) // GAPS
    measured = (at for at, point in zip(times, points, strict=True) if _is_measured(point))
    window = known_part(window, min(measured, default=None))
    top = ceiling(max((point["p99_ms"] or 0 for point in points), default=0))
    below = _loss(points, times, gap_ms)
    lost_top = max(1.0, ceiling(100 * max((point["loss_ratio"] or 0 for point in points), default=0)))
    sides = {"left": 62, "right": 52, "outerBoundsMode": "none"}
    return {
        **BASE,
        "grid": ({**sides, "top": 12, "bottom": 118}, {**sides, "height": 58, "bottom": 28}),
        "xAxis": (time_axis(0, window, label=False), time_axis(1, window)),
        "yAxis": (value_axis(0, "{value} ms", top), value_axis(1, "{value}%", lost_top, 2)),
        "series": (*(_percentile(name, style, points, times, gap_ms) for name, style in _PERCENTILES), below),
    }


def _is_measured(point: Mapping[str, Any]) -> bool:
    """Return whether there is anything to draw: the first minute of a fleet has counts, but no ping yet."""
    return point["p50_ms"] is not None or point["loss_ratio"] is not None


def _percentile(name: str, style: str, points: Points, times: Sequence[int], gap_ms: int) -> Options:
    values = [point[f"{name}_ms"] for point in points]
    rows = [(at, value, f"{value} ms") for at, value in zip(times, values, strict=True) if value is not None]
    return line(name, broken(rows, gap_ms)) | {
        "lineStyle": {"width": 1.5, "type": style},
        "endLabel": {"show": bool(rows), "formatter": name, "color": "var(--muted)", "fontSize": 12},
        "labelLayout": {"moveOverlap": "shiftY"},
    }


def _loss(points: Points, times: Sequence[int], gap_ms: int) -> Options:
    ratios = [point["loss_ratio"] for point in points]
    rows = [
        (at, round(100 * ratio, 2), share(ratio)) for at, ratio in zip(times, ratios, strict=True) if ratio is not None
    ]
    return line("Lost last ping", broken(rows, gap_ms)) | {
        "xAxisIndex": 1,
        "yAxisIndex": 1,
        "color": "var(--stale)",
        "areaStyle": {"color": "var(--stale)", "opacity": 0.16},
    }
