"""Render how one call sounded: what its R lost, and graphs on one clock."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from companion.cli.screens.call_cells import BANDS
from companion.cli.screens.graph import Axis, Graph, Held, LostMarks, Scale
from companion.media import e_model
from companion.text import Json
from companion.times import epoch_ms

CONCEALED_PERCENT: Final = 5.0
"""Percent of concealed audio beyond the loss, from which on it is shown; less is normal and inaudible."""


BAR: Final = 40
"""Columns for the whole scale of R."""


def render_breakdown(page: Json) -> Iterator[RenderableType]:
    """Render R as one bar: what is left of the best R, and what delay, loss and codec cost."""
    lost = page["breakdown"]
    if lost is None:
        return
    r = e_model.R_BEST - sum(lost.values())
    parts = (("R", r, BANDS[e_model.band(r)]), ("delay", lost["delay"], "blue"), ("loss", lost["loss"], "magenta"))
    bar, words = Text("  "), Text("  ")
    for name, points, style in (*parts, ("codec", lost["codec"], "cyan")):
        bar.append("█" * round(max(0.0, points) / e_model.R_BEST * BAR), style=style)
        words.append_text(Text.assemble("■ ", (f"{name} {points:.0f}   ", ""), style=style))
    yield Text("Points of R", style="bold")
    yield bar
    yield words
    yield ""


def render_graphs(page: Json) -> Iterator[RenderableType]:
    """Render MOS, round trip and loss of the call and the device's pings, one below the other on one clock."""
    span = _find_span(page)
    pings = [(at, at, latency) for at, latency in page["pings"] if span[0] <= at <= span[1]]
    if not page["samples"] and not pings:
        return
    trips, losses = _collect_figures(page, 2), _collect_figures(page, 4)
    least = Scale(unit="", height=4, floor=1, top=e_model.MOS_BEST, worst=min, style=_choose_mos_style)
    most = Scale(unit="%", height=3, top=min(100, max(2, _find_top(losses))), style=lambda _: "magenta")
    yield from _render_graph("MOS", _collect_figures(page, 7), span, least)
    yield from _render_graph("Round trip", trips, span, Scale(height=3, top=_find_top(trips)))
    yield from _render_graph("Packets lost", losses, span, most)
    made_up = [
        (since, until, None if share is None else 100 * share) for since, until, share in _collect_figures(page, 8)
    ]
    if any(
        (share or 0) - (lost or 0) >= CONCEALED_PERCENT for (*_, share), (*_, lost) in zip(made_up, losses, strict=True)
    ):
        yield from _render_graph(
            "Made up, of what was played", made_up, span, replace(most, top=min(100, _find_top(made_up)))
        )
    yield from _render_graph("OPTIONS latency", pings, span, Scale(height=3, top=_find_top(pings)))
    if pings:
        yield LostMarks(pings, span)
    edges = [datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S") for at in span]
    yield Axis(edges[0], f"{edges[1]} UTC")
    yield ""


def _collect_figures(page: Json, place: int) -> list[Held]:
    """Return a figure of each media sample with the time that it covers; `place` is its index in the sample."""
    return [(point[0] - point[1], point[0], point[place]) for point in page["samples"]]


def _render_graph(title: str, points: Sequence[Held], span: tuple[int, int], scale: Scale) -> Iterator[RenderableType]:
    yield Text(title, style="bold")
    if all(value is None for *_, value in points):
        yield Text("  not known in this time" if not points else "  none", style="bright_black")
    else:
        yield Graph(points, span, scale)


def _find_span(page: Json) -> tuple[int, int]:
    """Return the time of the call and of the pings around it, up to half a call before and after."""
    start = epoch_ms(page["started_at"])
    end = max(start + page["seconds"] * 1000, start + 1000)
    ping_times = [at for at, _ in page["pings"]]
    around = (end - start) // 2
    since, until = max(start - around, min(ping_times, default=start)), min(end + around, max(ping_times, default=end))
    return min(start, since), max(end, until)


def _find_top(points: Iterable[Held]) -> float:
    return math.ceil(max((value for *_, value in points if value is not None), default=0)) or 1


def _choose_mos_style(mos: float) -> str:
    return BANDS[e_model.mos_band(mos)]
