"""Pages of calls: what is drawn of a call, what is said of it, and which calls are looked for."""

from typing import Any
from urllib.parse import unquote

import pytest

from companion import quality
from companion.dashboard.filters import devices
from companion.dashboard.filters.calls import CallFilters, find_calls
from companion.dashboard.graphs import slices, strips
from companion.dashboard.graphs.call import MOST_MARKS, CallPlot, draw_call
from companion.dashboard.markup import call_cells, call_graph, call_history, happenings
from companion.dashboard.pages.call import _extent, _minute, _window
from companion.media import e_model
from companion.media.e_model import mos_band
from tests.unit.dashboard.call_page import (
    EVIL,
    HAPPENINGS,
    START,
    call_page,
    call_row,
    calls_answer,
    happening,
    second,
    unknown_row,
)
from tests.unit.dashboard.test_graphs import series
from tests.unit.dashboard.test_markup import text, walk

WINDOW = (START - 70_000, START)
PLOT = CallPlot(WINDOW, (START - 60_000, START - 5000), quality.Bounds(), 5000)


def drawn(plot: CallPlot = PLOT, **values: Any) -> dict[str, Any]:
    return draw_call(call_page(**values), plot).options


def lanes(options: dict[str, Any]) -> list[str]:
    return [axis["name"] for axis in options["yAxis"] if axis.get("name")]


# Slices


def test_short_calls_are_drawn_second_by_second() -> None:
    """A call of few minutes is shown as it was measured, as far as it touches the window."""
    rows = [second(START + 1000 * n) for n in range(60)]
    pieces = slices.in_slices(rows, (START + 9_500, START + 29_500))
    assert [START + 1000 * n for n in range(10, 31)] == [piece.at for piece in pieces]


def test_long_calls_are_drawn_in_slices() -> None:
    """Of a long call means are drawn, each second as long as it was; the worst second and all flags are not lost."""
    rows = [second(START + 1000 * n, mos=1.5 if n == 4 else 4.5, flags=("muted",) if n == 5 else ()) for n in range(30)]
    pieces = slices.in_slices(rows, (0, START * 2), points=10)
    assert sum(piece.ms for piece in pieces) == 30_000
    assert len(pieces) <= 11
    (bad,) = (piece for piece in pieces if piece.mos_min == 1.5)
    assert bad.mos == pytest.approx(3.5)
    assert bad.flags == {"muted"}


def test_a_sleep_stays_alone() -> None:
    """What is known of the seconds beside it says nothing of a time in which no timer ran."""
    rows = [second(START + 1000 * n) for n in range(20)]
    rows += [[START + 60_000, 41_000, *[None] * 7, ["gap"]], *(second(START + 61_000 + 1000 * n) for n in range(20))]
    (asleep,) = (piece for piece in slices.in_slices(rows, (0, START * 2), points=10) if piece.ms >= 41_000)
    assert asleep.mos is None


def test_flags_next_to_each_other_are_one_span() -> None:
    """A minute of seconds that were muted is one stretch; another mute is another."""
    flags = {1: ("muted",), 2: ("muted", "hidden"), 5: ("muted",)}
    pieces = slices.in_slices([second(START + 1000 * n, flags=flags.get(n, ())) for n in range(8)], (0, START * 2))
    assert slices.spans(pieces, "muted") == [(START, START + 2000), (START + 4000, START + 5000)]
    assert slices.spans(pieces, "held") == []


# The graph


def test_graph_shows_what_was_measured() -> None:
    """Each sample is a point with its value and unit; pings and lost ones are on the same clock."""
    rows = [second(START - 30_000), second(START - 29_000, mos=3.0)]
    options = drawn(samples=rows)
    assert series(options, "MOS")[1:] == ((START - 30_000, 4.3, "4.30, high"), (START - 29_000, 3.0, "3.00, poor"))
    assert series(options, "Round trip")[-1] == (START - 29_000, 46.0, "46 ms")
    assert series(options, "Bitrate out")[-1] == (START - 29_000, 23.5, "23.5 kbit/s")
    assert [point[:2] for point in series(options, "OPTIONS")] == [(START - 30_000, 48), (START - 20_000, 51)]
    assert [point[0] for point in series(options, "Lost")] == [START - 25_000]


def test_all_panels_have_one_clock() -> None:
    """Every panel and strip shows the same time, and their pointers go together."""
    options = drawn()
    assert {(axis["min"], axis["max"]) for axis in options["xAxis"]} == {WINDOW}
    assert options["axisPointer"]["link"] == ({"xAxisIndex": "all"},)
    assert len(options["grid"]) == len(options["xAxis"]) == len(options["yAxis"])


def test_line_is_level_over_a_long_sample_and_broken_where_there_is_none() -> None:
    """A mean over ten seconds is no slope up to their end; a silence is no line."""
    rows = [second(START - 40_000), second(START - 30_000, ms=10_000, mos=2.0), second(START - 10_000)]
    points = [point[:2] for point in series(drawn(samples=rows), "MOS")]
    assert points[2:5] == [(START - 39_999, 2.0), (START - 30_000, 2.0), (START - 29_999, None)]


def test_strips_are_only_of_what_happened() -> None:
    """A call that was never muted has no strip for it; one that was has its name and its time on it."""
    assert lanes(drawn(verdict={"what": "good", "bad_minutes": []})) == ["lost"]
    rows = [second(START - 20_000, flags=("muted",)), second(START - 19_000, flags=("offline", "gap"))]
    options = drawn(samples=rows)
    assert lanes(options) == ["bad", "lost", "muted", "gap", "offline"]
    area = options["series"][-1]["markArea"]["data"][0]
    assert [end["xAxis"] for end in area] == [START - 20_000, START - 19_000]


def test_a_call_without_media_shows_what_opensips_saw() -> None:
    """Where nothing was measured in the browser there are no empty panels, but the pings are there."""
    options = drawn(samples=[], happenings=[])
    assert [title["text"] for title in options["title"]] == ["OPTIONS latency of the device, ms"]
    assert series(options, "OPTIONS")


def test_bad_minutes_with_one_culprit_are_one_block() -> None:
    """Bad minutes next to each other are one block, cut off at the call's end; what is not known here is unknown."""
    plot = PLOT._replace(window=(START - 70_000, START + 200_000), call=(START - 50_000, START + 90_000))
    (strip,) = (entry for entry in drawn(plot)["series"] if entry["name"] == "Bad minute:" and entry["data"])
    areas = [(first["xAxis"], last["xAxis"], first["label"]["formatter"]) for first, last in strip["markArea"]["data"]]
    assert areas == [(START - 50_000, START + 60_000, "media"), (START + 60_000, START + 90_000, "unknown")]


def test_graph_repeats_nothing_that_a_browser_said() -> None:
    """However a browser calls what happened, only our words get onto the graph."""
    assert "onerror" in str(call_page())
    assert "onerror" not in str(drawn())


def test_marks_go_into_rows_that_do_not_overlap() -> None:
    """Marks at one time stand below each other; far from each other they share a row; there are not too many rows."""
    near = [strips.Marked(START + n, "restart", "ICE restart") for n in range(3)]
    far = strips.Marked(START + 50_000, "limit", "limit 16 kbit/s")
    window = (START - 10_000, START + 90_000)
    assert strips.in_rows([*near, far], window) == [[near[0], far], [near[1]], [near[2]]]
    assert len(strips.in_rows(near * 10, window)) == strips.ROWS


def test_marks_behind_count_are_left_out() -> None:
    """A browser that tells of a thousand restarts does not drown the graph."""
    options = drawn(happenings=[happening(-30, "restart")] * 1000)
    assert sum(len(entry["data"]) for entry in options["series"] if entry["name"] == "Here:") == MOST_MARKS


def test_graph_of_a_call_in_words() -> None:
    """Who does not see the graph is told its figures."""
    words = call_graph.graph_words(call_page())
    assert "MOS 3.96 in the mean, 1.31 at worst, medium; 1.6% of packets lost, round trip 91 ms" in words
    assert "3 bad minutes; 3 OPTIONS pings of the device, 1 lost" in words
    assert "could not" not in words
    assert "Nothing of this call could be scored" in call_graph.graph_words(call_page(**unknown_row()))


# When it was


def test_when_a_call_was() -> None:
    """A call was from its start to its end; one that goes on, until now; without an end, until its last sample."""
    page = call_page()
    assert _extent(page, START + 9) == (START - 60_000, START - 5000)
    assert _extent(page | {"live": True, "ended_at": None}, START + 9) == (START - 60_000, START + 9)
    assert _extent(page | {"ended_at": None}, START + 9) == (START - 60_000, START - 5000)
    assert _extent(call_page(samples=[]), START + 9) == (START - 60_000, START - 5000)


def test_browsers_may_not_stretch_a_call() -> None:
    """A call that claims to have begun decades ago, or to end in some, is drawn as it was measured."""
    page = call_page(started_at="1970-01-01T00:00:01Z", ended_at="2200-01-01T00:00:00Z")
    assert _extent(page, START) == (START - 60_000, START - 5000)


def test_a_minute_is_shown_with_what_is_around_it() -> None:
    """The window is the minute that an address asks for, or the call with some room around it."""
    assert _window((START, START + 600_000), 0, live=False) == (START - 24_000, START + 624_000)
    assert _window((START, START + 600_000), 0, live=True) == (START - 24_000, START + 600_000)
    assert _window((START, START + 600_000), START, live=False) == (START - 30_000, START + 90_000)
    assert _minute(f"device=x&minute={START}") == START
    assert _minute("minute=-1") == _minute("minute=" + "9" * 99) == _minute("minute=x") == _minute("") == 0


# Words


@pytest.mark.parametrize(
    ("happening", "words"),
    [
        (HAPPENINGS[0], "Media goes directly"),
        (HAPPENINGS[3], "Media goes through a relay"),
        (HAPPENINGS[5], "Switched over in 1.2 s"),
        (HAPPENINGS[7], "Limited to 16 kbit/s and video to 360 lines"),
        (HAPPENINGS[8], "What the limit did: 24 kbit/s before, 16 kbit/s after"),
        (happening(0, "switch-over", result="failed", media_ms="soon"), "Switch-over failed"),
        (happening(0, "limit", max_bps="much"), "Limited"),
        (happening(0, "limited"), "What the limit did: – before, – after"),
        (happening(0, "ice", state="failed"), "ICE"),
        (happening(0, "muted"), "Muted"),
        (HAPPENINGS[10], "something-new"),
    ],
)
def test_happenings_in_words(happening: dict[str, Any], words: str) -> None:
    """What happened in a call is told in words; what is not known here by its name, and no field is believed."""
    assert words == happenings.describe_happening(happening).words


@pytest.mark.parametrize(
    ("state", "tone"), [("connected", "good"), ("failed", "bad"), ("disconnected", "warn"), (EVIL, "plain")]
)
def test_states_have_tones(state: str, tone: str) -> None:
    """A state that is bad stands out, one that nobody knows does not."""
    assert tone == happenings.describe_happening(happening(0, "ice", state=state)).tone


def test_marks_are_what_changes_the_sound() -> None:
    """The first path is how the call began, the next one is a change; ICE states are none."""
    marks = [(mark.kind, mark.words) for _, mark in happenings.select_marks(HAPPENINGS)]
    assert marks == [
        ("path", "path: relay"),
        ("restart", "ICE restart"),
        ("switch-over", "switch-over 1.2 s"),
        ("network", "network"),
        ("limit", "limit 16 kbit/s"),
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (call_row(), "hung up"),
        (call_row(end="failed"), "failed"),
        (call_row(live=True, end=""), "live"),
        (call_row(end=""), "no more heard"),
        (call_row(end="new"), "no more heard"),
    ],
)
def test_how_a_call_ended(row: dict[str, Any], words: str) -> None:
    """A call is live, or it is said how it ended."""
    assert text(call_cells.ended(row)) == words


def test_unknown_figures_are_dashes() -> None:
    """What nobody measured is no zero."""
    words = text(call_history.history(calls_answer([unknown_row()]), everything=False))
    assert "0%" not in words
    assert "0 ms" not in words


def test_the_history_is_short_until_asked() -> None:
    """The newest calls are shown, and how many more there are; then all."""
    rows = [call_row(call_id=str(n)) for n in range(20)]
    assert "Show 12 earlier" in text(call_history.history(calls_answer(rows), everything=False))
    assert sum(name == "tr" for name, *_ in walk(call_history.history(calls_answer(rows), everything=True))) == 21


def test_refused_reports_are_told() -> None:
    """The device's page says that reports were refused, by which option, also where no call was taken."""
    words = text(call_history.history(calls_answer([], refused=3)))
    assert "3 reports of the last hour refused: more than [media] calls_per_hour allows" in words


def test_call_address_is_one_segment() -> None:
    """A Call-ID in an address is encoded whole, and so is the device, which has a slash."""
    where = call_cells.call_address("a/b%2Fc?d#e", "alice/urn:uuid:1", 5)
    path, _, rest = where.partition("?")
    assert unquote(path.removeprefix("/calls/")) == "a/b%2Fc?d#e"
    assert path.count("/") == 2
    fields = devices.fields(rest.partition("#")[0])
    assert (fields["device"], fields["minute"]) == (["alice/urn:uuid:1"], ["5"])


# Looking for calls


@pytest.mark.parametrize("filters", [CallFilters(), CallFilters("a & b", ("best", "unknown"), "7d", "17-ab")])
def test_filters_go_into_the_address_and_back(filters: CallFilters) -> None:
    """What is looked for is in the address, and an address shared finds the same."""
    assert filters == CallFilters.read(filters.address().partition("?")[2])


def test_filters_take_only_choices() -> None:
    """What is no band or window changes nothing."""
    assert CallFilters() == CallFilters.read("worst=evil&window=9y")
    assert CallFilters(worst=("high", "bad")) == CallFilters(worst=("bad",), since="1-a").toggled("high")
    assert CallFilters() == CallFilters(worst=("bad",)).toggled("bad")


@pytest.mark.parametrize(
    ("filters", "fits"),
    [
        (CallFilters(), True),
        (CallFilters(worst=("bad",)), True),
        (CallFilters(worst=("medium",)), False),
        (CallFilters(text="ALICE"), True),
        (CallFilters(text="busy"), True),
        (CallFilters(text="nobody"), False),
    ],
)
def test_filters_fit(filters: CallFilters, fits: bool) -> None:  # noqa: FBT001 - a value
    """The band is that of the worst second; the text is in peer, device, Call-ID or why."""
    assert filters.fit(call_row(peer="sip:alice@x", why="486 Busy here")) is fits


def test_calls_without_a_score_can_be_found() -> None:
    """A call of which nothing could be scored is in no band, but not beyond finding."""
    assert CallFilters(worst=("unknown",)).fit(unknown_row())
    assert not CallFilters(worst=("bad",)).fit(unknown_row())


class ManyCalls:
    """A reader of many calls, every hundredth of them bad."""

    def __init__(self, count: int) -> None:
        self._rows = [call_row(mos_min=1.2 if n % 100 == 0 else 4.3, call_id=str(n)) for n in range(count)]
        self.reads = 0

    def fleet_calls(self, window_ms: int, cursor: str, limit: int) -> dict[str, Any]:
        self.reads += 1
        first = int(cursor or 0)
        page = self._rows[first : first + limit]
        return {"calls": page, "next": str(first + limit) if first + limit < len(self._rows) else None}


def test_bad_calls_are_found_far_behind() -> None:
    """A filter finds the few calls that fit among many, and ends where there are no more."""
    reader = ManyCalls(1050)
    rows, following = find_calls(reader, CallFilters(worst=("bad",)))  # type: ignore[arg-type]
    assert len(rows) == 11
    assert following is None


def test_looking_for_calls_is_bounded() -> None:
    """A filter that nothing fits goes through so many calls at once, and offers to go on behind them."""
    reader = ManyCalls(20_000)
    rows, following = find_calls(reader, CallFilters(text="nothing has that"))  # type: ignore[arg-type]
    assert not rows
    assert following == "4000"
    assert reader.reads == 20


@pytest.mark.parametrize("r", range(7, 94))
def test_bands_of_mos_are_those_of_r(r: int) -> None:
    """The word beside a MOS is the band that the call's R is in, though the MOS is rounded."""
    assert e_model.band(r) == mos_band(round(e_model.mos(r), 2))
