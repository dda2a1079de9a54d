"""Draw a minute of pings on request, one a second."""

from collections.abc import Sequence
from typing import Final

from companion import quality
from companion.dashboard.graphs.axes import (
    BASE,
    Options,
    Window,
    broken,
    ceiling,
    lane_axis,
    line,
    time_axis,
    value_axis,
)
from companion.dashboard.graphs.device import crosses
from companion.usrloc.contact import Ping

GAP_MS: Final = 2_500
"""A longer silence breaks the line: a ping was lost, or another viewer's took its turn."""
_SIDES: Final = {"left": 62, "right": 76, "outerBoundsMode": "none"}


def draw_live_pings(pings: Sequence[Ping], window: Window, bounds: quality.Bounds) -> Options:
    """Draw each answered ping as a point of a line, and each lost one as a cross below it."""
    answered = [(ts, latency_ms) for ts, latency_ms in pings if latency_ms is not None]
    points = [(ts, ms, f"{ms} ms, {quality.label(ms, bounds)}") for ts, ms in answered]
    lost = [(ts, 0.5, "ping", GAP_MS // 2) for ts, latency_ms in pings if latency_ms is None]
    top = ceiling(max((ms for _, ms in answered), default=0), bounds.excellent)
    return {
        **BASE,
        "grid": ({**_SIDES, "top": 10, "bottom": 44}, {**_SIDES, "height": 12, "bottom": 24}),
        "xAxis": tuple(time_axis(grid, window, label=grid == 1) for grid in range(2)),
        "yAxis": (value_axis(0, "{value} ms", top), lane_axis(1, "lost")),
        "series": (line("Round trip", broken(points, GAP_MS), symbol=True), crosses(lost)),
    }
