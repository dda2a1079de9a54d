"""What ECharts is told to draw: real numbers, round axes, and no code but our own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from companion import quality
from companion.dashboard.graphs import axes
from companion.dashboard.graphs.call import CallPlot, draw_call
from companion.dashboard.graphs.device import DevicePlot, draw_buckets, draw_pings
from companion.dashboard.graphs.fleet import draw_history
from companion.dashboard.graphs.live_ping import draw_live_pings
from companion.dashboard.markup import device, fleet
from companion.dashboard.presence import Band
from companion.query.pings import compute_statistics
from tests.unit.dashboard.call_page import call_page

NOW: Final = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
START: Final = round(NOW.timestamp() * 1000)
BANDS: Final = [Band(START - 9000, START - 2000, "online"), Band(START - 2000, START, "offline")]
PINGS: Final = [(START - 3000, 40), (START - 2000, None), (START - 1000, 90)]


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def leaves(options: Any) -> Iterator[tuple[str, Any]]:
    """Each key and value, however deep."""
    if isinstance(options, dict):
        for key, value in options.items():
            yield key, value
            yield from leaves(value)
    elif isinstance(options, list | tuple):
        for value in options:
            yield from leaves(value)


PLOT: Final = DevicePlot((START - 10_000, START), quality.Bounds(), lambda _: 3000, BANDS)
BUCKETS: Final = [(START - 9000, 40, 65.5, 217, 3, 1), (START - 5000, None, None, None, 0, 2)]
POINTS: Final[list[dict[str, Any]]] = [
    {"at": at(-60), "p50_ms": 60, "p95_ms": 200, "p99_ms": 400, "loss_ratio": 0.02},
    {"at": at(-30), "p50_ms": None, "p95_ms": None, "p99_ms": None, "loss_ratio": None},
    {"at": at(0), "p50_ms": 70, "p95_ms": 190, "p99_ms": 390, "loss_ratio": 0.01},
]
CALL_PLOT: Final = CallPlot((START - 70_000, START), (START - 60_000, START - 5000), quality.Bounds(), 5000)
GRAPHS: Final = {
    "pings": draw_pings(PINGS, PLOT),
    "no pings": draw_pings([], PLOT._replace(bands=[])),
    "live pings": draw_live_pings(PINGS, (START - 10_000, START), quality.Bounds()),
    "no live pings": draw_live_pings([], (START - 10_000, START), quality.Bounds()),
    "buckets": draw_buckets(BUCKETS, PLOT),
    "history": draw_history(POINTS, (START - 60_000, START)),
    "no history": draw_history([], (START - 60_000, START)),
    "call": draw_call(call_page(), CALL_PLOT).options,
    "long call": draw_call(call_page(seconds=1500), CALL_PLOT._replace(window=(0, START))).options,
    "call of nothing": draw_call(call_page(samples=[], happenings=[], pings=[]), CALL_PLOT).options,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_hold_one_piece_of_code(name: str) -> None:
    """NiceGUI runs what stands behind a key with a colon: in a graph that is the tooltip's function alone."""
    code = [value for key, value in leaves(GRAPHS[name]) if key.startswith(":")]
    assert code == ["companionTooltip"]
    assert not any(callable(value) for _, value in leaves(GRAPHS[name]))


def series(options: dict[str, Any], name: str) -> Any:
    return next(drawn["data"] for drawn in options["series"] if drawn["name"] == name)


def test_draw_pings() -> None:
    """Answered pings are the line, with their quality in words; lost ones are crosses and in no line."""
    drawn = GRAPHS["pings"]
    assert series(drawn, "Latency") == ((START - 3000, 40, "40 ms, excellent"), (START - 1000, 90, "90 ms, excellent"))
    assert series(drawn, "Lost") == ((START - 2000, 0.5, "ping", 1500),)


def test_draw_live_pings() -> None:
    """Answered pings are points of a line, lost ones crosses below it, over a window that stays."""
    drawn = GRAPHS["live pings"]
    trips = series(drawn, "Round trip")
    assert trips == ((START - 3000, 40, "40 ms, excellent"), (START - 1000, 90, "90 ms, excellent"))
    assert series(drawn, "Lost") == ((START - 2000, 0.5, "ping", 1250),)
    assert all((axis["min"], axis["max"]) == (START - 10_000, START) for axis in drawn["xAxis"])


def test_line_breaks_at_silence() -> None:
    """Where nothing came for too long there is no line."""
    pings = [(START, 50), (START + 1000, 51), (START + 9000, 52)]
    line = series(draw_pings(pings, PLOT), "Latency")
    assert [point["value"][1] if isinstance(point, dict) else point[1] for point in line] == [50, 51, None, 52]


def test_points_between_silences() -> None:
    """A point that stands alone is drawn as a dot, as a line shows nothing of it; those of a line are not."""
    pings = [(START, 50), (START + 1000, 51), (START + 9000, 52), (START + 19_000, 53), (START + 20_000, 54)]
    line = series(draw_pings(pings, PLOT), "Latency")
    assert [point["value"][1] for point in line if isinstance(point, dict) and point["symbol"] == "circle"] == [52]


@pytest.mark.parametrize("pings", [[(START, 50)], [(START, 50), (START + 1000, 51)]])
def test_few_points(pings: list[tuple[int, int]]) -> None:
    """One point alone, or two, are drawn as dots: a fresh device does not have an empty graph."""
    (line,) = (one for one in draw_pings(pings, PLOT)["series"] if one["name"] == "Latency")
    assert (line["showSymbol"], line["symbol"]) == (True, "circle")


def test_draw_buckets() -> None:
    """Of a long window the average is drawn, from the least to the most, and how many of how many were lost."""
    drawn = GRAPHS["buckets"]
    assert series(drawn, "Average") == ((START - 9000, 65.5, "65.5 ms, excellent"),)
    assert series(drawn, "Maximum")[0][1:] == (177, "217 ms")
    assert [words for _, _, words, _ in series(drawn, "Lost")] == ["1 of 4", "2 of 2"]


def test_presence_is_drawn_by_height_too() -> None:
    """Online and offline differ in height, not only in colour."""
    areas = next(drawn for drawn in GRAPHS["pings"]["series"] if drawn["name"] == "Presence")["markArea"]["data"]
    assert [end["yAxis"] for _, end in areas] == [1, 0.4]


def test_quality_stripes_reach_the_top() -> None:
    """The graph shows the qualities it reaches, from 0 to its top without a gap."""
    drawn = draw_pings([(START, 180)], PLOT)
    stripes = drawn["series"][0]["markArea"]["data"]
    assert [start["label"]["formatter"] for start, _ in stripes] == ["excellent", "good", "fair", "poor"]
    assert [start["yAxis"] for start, _ in stripes] == [0, 100, 150, 200]
    assert drawn["yAxis"][0]["max"] == stripes[-1][1]["yAxis"] == 250


@pytest.mark.parametrize("highest", [0, 0.3, 1, 3, 20, 97, 108, 510, 890, 950, 999, 1500, 30_000, 600_000])
def test_axis_ends_at_a_round_number(highest: float) -> None:
    """An axis has room above what is highest, not too much of it, and its lines are at round numbers."""
    top = axes.ceiling(highest)
    assert highest < top <= max(2.3 * highest, 1)
    step = axes.value_axis(0, "", top)["interval"]
    assert len(f"{step:g}".replace("0.", "").strip("0").replace(".", "")) <= 2


def test_graph_begins_with_what_is_known() -> None:
    """A device that is known for a shorter time than the window is drawn from then on, a minute at least."""
    assert axes.known_part((START - 100, START), None) == (START - 100, START)
    assert axes.known_part((START - 900_000, START), START - 950_000) == (START - 900_000, START)
    assert axes.known_part((START - 900_000, START), START - 300_000) == (START - 300_000, START)
    assert axes.known_part((START - 900_000, START), START - 1000) == (START - axes.SHORTEST_MS, START)


def test_a_single_point_is_visible() -> None:
    """A line through one point has no length, so the point is marked. Lines that only bound an area stay unmarked."""
    drawn = [
        draw_history(POINTS[2:], (START - 60_000, START)),
        draw_buckets(BUCKETS[:1], PLOT),
        draw_history([], (0, 1)),
    ]
    marked = {
        line["name"]: line["showSymbol"] for options in drawn for line in options["series"] if "showSymbol" in line
    }
    assert marked == dict.fromkeys(("p50", "p95", "p99", "Lost last ping", "Average"), True) | {
        "Minimum": False,
        "Maximum": False,
    }
    many = [POINTS[0] | {"at": at(second)} for second in range(-50, 0, 10)]
    assert {"none"} == {line["symbol"] for line in draw_history(many, (START - 60_000, START))["series"]}


def test_history_begins_with_the_first_ping() -> None:
    """A minute before the first ping has nothing to draw, so the axis begins behind it."""
    unmeasured = POINTS[1] | {"at": at(-300)}
    drawn = draw_history([unmeasured, POINTS[0] | {"at": at(-120)}, POINTS[2]], (START - 900_000, START))
    assert {axis["min"] for axis in drawn["xAxis"]} == {START - 120_000}


def test_a_day_on_the_axis_has_its_month() -> None:
    """Between the times of a clock a lone 28 does not look like a date."""
    labels = axes.time_axis(0, (START - 60_000, START))["axisLabel"]["formatter"]
    assert (labels["day"], labels["hour"]) == ("{d} {MMM}", "{HH}:{mm}")


def test_graph_in_words() -> None:
    """Who does not see a graph is told its figures."""
    words = device.graph_words(compute_statistics(PINGS), BANDS, "24h")
    assert "3 pings, 1 lost; average 65.0 ms, maximum 90 ms, minimum 40 ms. Online 77.8% of the time" in words
    assert device.NO_WORD in device.graph_words({"total": 0}, [], "3h")
    assert "Now p50 70 ms, p95 190 ms, p99 390 ms, 1% lost their last ping" in fleet.history_words(POINTS, "24h")
    assert "no data yet" in fleet.history_words([], "24h")
