"""Draw one call on one clock: MOS, round trip, loss, bitrates, and the OPTIONS latency of its device.

Only numbers and words of ours are drawn: no text of a browser gets into a graph.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
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
from companion.dashboard.graphs.device import crosses
from companion.dashboard.graphs.slices import Slice, in_slices, spans, usual_ms
from companion.dashboard.graphs.strips import Block, Marked, blocks, in_rows, marked
from companion.dashboard.markup.badges import BAND_COLOURS, number
from companion.dashboard.markup.happenings import format_bitrate, select_marks
from companion.media import e_model
from companion.media.e_model import mos_band
from companion.text import Json
from companion.times import MINUTE_MS, epoch_ms

GAP_MS: Final = 2500
"""A line breaks where nothing was measured for longer, and is level across a sample that is longer."""
MOST_MARKS: Final = 100
LANES: Final = {"muted": "--muted", "held": "--muted", "hidden": "--unknown", "gap": "--losing", "offline": "--stale"}
"""What a media sample may say of its second, and the colour of its strip."""
CULPRITS: Final = {
    "signalling": "--losing",
    "media": "--stale",
    "device": "--unknown",
    "network": "--poor",
    "unknown": "--offline",
}
_SIDES: Final = {"left": 48, "right": 58, "outerBoundsMode": "none"}
_TITLE: Final = 24
_LANE: Final = 12
_SPACE: Final = 6
_LABELS: Final = 30
"""Heights in px: of a panel's title, of a strip, between any two, and of the words of the time axis."""
_SECOND: Final = {"color": "var(--graph-second)", "lineStyle": {"width": 1.5, "type": "dashed"}}
_KEYS: Final = {"a": {"color": "var(--graph)"}, "b": {"color": "var(--graph-second)"}}


class CallPlot(NamedTuple):
    """Represent what a call is drawn on: window, extent of the call, bounds of latency, interval of pings."""

    window: Window
    call: Window
    latency_bounds: quality.Bounds
    ping_ms: int


class Drawing(NamedTuple):
    """Hold options of ECharts, and the height in px that they need."""

    options: Options
    height: int


def draw_call(page: Json, plot: CallPlot) -> Drawing:
    """Draw a page of Reader.call; a panel or strip without data is left out."""
    sheet = _Sheet(page, plot)
    slices = in_slices(page["samples"], plot.window)
    for row in in_rows(sheet.marked, plot.window):
        sheet.strip("", marked(row, plot.window))
    if page["samples"]:
        _media(sheet, page, slices)
    _signalling(sheet, page["pings"], plot)
    for flag, colour in LANES.items():
        stretches = [Block(since, until, colour) for since, until in spans(slices, flag)]
        if stretches:
            sheet.strip(flag, blocks(stretches, plot.window))
    return sheet.drawing()


class _Sheet:
    """Collect panels and strips from the top down, each with its grid and axes."""

    def __init__(self, page: Json, plot: CallPlot) -> None:
        self.plot = plot
        timed_marks = ((epoch_ms(happening["at"]), mark) for happening, mark in select_marks(page["happenings"]))
        visible = (Marked(at, *mark) for at, mark in timed_marks if plot.window[0] <= at <= plot.window[1])
        self.marked = list(islice(visible, MOST_MARKS))
        self._top = _SPACE
        self._titles: list[Options] = []
        self._grids: list[Options] = []
        self._times: list[Options] = []
        self._values: list[Options] = []
        self._series: list[Options] = []

    def panel(self, title: str, height: int, axis: Callable[[int], Options], *lines: Options) -> None:
        """Add a titled graph, with a line at each mark, and shaded outside of the call."""
        lines[0]["markLine"] = self._mark_lines()
        areas = lines[0].get("markArea", {"silent": True, "data": ()})
        lines[0]["markArea"] = areas | {"data": (*areas["data"], *_outside(self.plot))}
        style = {"color": "var(--ink)", "fontSize": 12, "fontWeight": 500, "rich": _KEYS}
        self._top += _SPACE if self._grids else 0
        self._titles.append({"text": title, "left": 0, "top": self._top, "padding": 0, "textStyle": style})
        self._top += _TITLE
        self._add(height, axis, lines)
        self._top += _SPACE

    def strip(self, name: str, series: Options) -> None:
        """Add a thin strip with its name beside it."""
        self._add(_LANE, lambda grid: lane_axis(grid, name), (series,))

    def _add(self, height: int, axis: Callable[[int], Options], lines: Sequence[Options]) -> None:
        grid = len(self._grids)
        self._grids.append({**_SIDES, "top": self._top, "height": height})
        self._times.append(_upright(time_axis(grid, self.plot.window, label=False)))
        self._values.append(axis(grid))
        self._series += [drawn | {"xAxisIndex": grid, "yAxisIndex": grid} for drawn in lines]
        self._top += height + _SPACE

    def _mark_lines(self) -> Options:
        style = {"color": "var(--line-strong)", "type": "dotted", "width": 1}
        data = tuple({"xAxis": mark.at} for mark in self.marked)
        return {"silent": True, "symbol": "none", "label": {"show": False}, "lineStyle": style, "data": data}

    def drawing(self) -> Drawing:
        self._times[-1] = _upright(time_axis(len(self._times) - 1, self.plot.window))
        options = {
            **BASE,
            "title": tuple(self._titles),
            "grid": tuple(self._grids),
            "xAxis": tuple(self._times),
            "yAxis": tuple(self._values),
            "series": tuple(self._series),
        }
        return Drawing(options, self._top + _LABELS)


def _upright(axis: Options) -> Options:
    """Add the lines of the clock to an axis; its pointer stops anywhere, because pings are far between."""
    lines = {"show": True, "lineStyle": {"color": "var(--line)", "opacity": 0.6}}
    return axis | {"splitLine": lines, "axisPointer": {"snap": False}}


def _media(sheet: _Sheet, page: Json, slices: Sequence[Slice]) -> None:
    """Add the measurements of the browser."""
    sheet.panel("MOS", 168, _mos_axis, *_mos(slices))
    bad = _bad_minutes(page, sheet.plot.call)
    if bad:
        sheet.strip("bad", blocks(bad, sheet.plot.window))
    rtt, jitter = (
        _measured(name, slices, key, lambda ms: f"{number(round(ms, 1))} ms")
        for name, key in (("Round trip", "rtt_ms"), ("Jitter", "jitter_ms"))
    )
    sheet.panel("Round trip {a|━━}  jitter {b|┅┅}  in ms", 92, _axis(80, rtt, jitter), rtt, jitter | _SECOND)
    loss = _measured("Lost packets", slices, "loss_percent", lambda percent: f"{number(round(percent, 1))}%")
    red = {"color": "var(--stale)", "areaStyle": {"color": "var(--stale)", "opacity": 0.16}}
    sheet.panel("Lost packets, %", 64, _axis(1.7, loss), loss | red)
    ins, outs = (
        _measured(name, slices, key, lambda kilobits: format_bitrate(1000 * kilobits), 1000)
        for name, key in (("Bitrate in", "in_bps"), ("Bitrate out", "out_bps"))
    )
    sheet.panel("Bitrate in {a|━━}  out {b|┅┅}  in kbit/s", 72, _axis(17, ins, outs), ins, outs | _SECOND)


def _signalling(sheet: _Sheet, pings: Sequence[Sequence[Any]], plot: CallPlot) -> None:
    """Add the pings of OpenSIPS."""
    since, until = plot.window
    near = [(ts, ms) for ts, ms in pings if since - plot.ping_ms <= ts <= until + plot.ping_ms]
    answered = [
        (ts, ms, f"{number(ms)} ms, {quality.label(ms, plot.latency_bounds)}", plot.ping_ms)
        for ts, ms in near
        if ms is not None
    ]
    options = line("OPTIONS", broken(answered, 3 * plot.ping_ms), symbol=len(answered) <= 120)
    sheet.panel("OPTIONS latency of the device, ms", 72, _axis(80, options), options)
    lost = [(ts, 0.5, "ping", plot.ping_ms // 2) for ts, ms in near if ms is None]
    sheet.strip("lost", crosses(lost))


def _mos_axis(grid: int) -> Options:
    return value_axis(grid, "{value}", 5) | {"min": 1, "interval": 1}


def _axis(at_least: float, *lines: Options) -> Callable[[int], Options]:
    """Return an axis from 0 to above the highest of these lines, in two parts."""
    highest = max((point[1] for drawn in lines for point in drawn["data"] if point[1]), default=0)
    top = 2 * ceiling(highest / 2, at_least / 2)
    return lambda grid: value_axis(grid, "{value}", top, 2)


def _mos(slices: Sequence[Slice]) -> list[Options]:
    """Draw the MOS over its bands; where seconds are combined, also down to the worst of them."""
    mean = _measured("MOS", slices, "mos", lambda mos: f"{mos:.2f}, {mos_band(mos)}")
    mean["markArea"] = {"silent": True, "data": tuple(_bands())}
    scored = [piece for piece in slices if piece.mos is not None and piece.mos_min is not None]
    if all(piece.mos == piece.mos_min for piece in scored):
        return [mean]
    worst = [
        (piece.at, piece.mos_min, f"{piece.mos_min:.2f}" if piece.mos_min != piece.mos else "") for piece in scored
    ]
    spread = [(piece.at, (piece.mos or 0) - (piece.mos_min or 0), "") for piece in scored]
    unseen = {"stack": "worst", "lineStyle": {"opacity": 0}}
    shade = line("Spread", broken(spread, _gap_ms(slices)), symbol=False) | unseen
    shade["areaStyle"] = {"color": "var(--graph)", "opacity": 0.18}
    return [mean, line("Worst", broken(worst, _gap_ms(slices)), symbol=False) | unseen, shade]


def _gap_ms(slices: Sequence[Slice]) -> int:
    return max(GAP_MS, 2 * usual_ms(slices))


def _bands() -> Iterator[tuple[Options, Options]]:
    """Draw a faint stripe for each band, with its word beside it."""
    edges = [5.0, *(e_model.mos(least) for least, _ in e_model.BANDS), 1.0]
    names = [*(name for _, name in e_model.BANDS), "bad"]
    for name, high, low in zip(names, edges, edges[1:], strict=False):
        colour = f"var({BAND_COLOURS[name]})"
        label = {"show": True, "position": "right", "distance": 8, "formatter": name, "color": colour, "fontSize": 12}
        yield {"yAxis": low, "itemStyle": {"color": colour, "opacity": 0.07}, "label": label}, {"yAxis": high}


def _measured(name: str, slices: Sequence[Slice], key: str, words: Callable[[float], str], unit: float = 1) -> Options:
    """Draw a line through the measurements, level over each long sample, broken where there are none."""
    points: list[Point] = []
    end, gap_ms = 0, _gap_ms(slices)
    for piece in slices:
        value = getattr(piece, key)
        if value is None:
            continue
        figure = round(value / unit, 2)
        point = (figure, words(figure))
        if points and piece.since - end > gap_ms:
            points.append((end + 1, None, ""))
        if not points or piece.since - end > gap_ms or piece.ms > gap_ms:
            points.append((max(piece.since, end + 1), *point))
        points.append((piece.at, *point))
        end = piece.at
    return line(name, tuple(points))


def _bad_minutes(page: Json, call: Window) -> list[Block]:
    """Return the bad minutes as blocks; adjacent minutes with one cause are one block."""
    blocks: list[Block] = []
    for minute in page["verdict"]["bad_minutes"]:
        at = epoch_ms(minute["at"])
        word = minute["what"] if minute["what"] in CULPRITS else "unknown"
        block = Block(max(at, call[0]), min(at + MINUTE_MS, call[1]), CULPRITS[word], word)
        if blocks and blocks[-1].word == word and block.since <= blocks[-1].until:
            block = block._replace(since=blocks.pop().since)
        blocks.append(block)
    return blocks


def _outside(plot: CallPlot) -> Iterator[tuple[Options, Options]]:
    (since, until), (began, ended) = plot.window, plot.call
    for first, last in ((since, began), (ended, until)):
        if last > first:
            yield {"xAxis": first, "itemStyle": {"color": "var(--muted)", "opacity": 0.09}}, {"xAxis": last}
