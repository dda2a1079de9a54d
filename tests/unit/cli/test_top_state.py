"""Keys change what `companion top` shows, and never lead out of the list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.cli.top_state import ORDERS, TopState
from companion.query.listing import SORTS, WORST_FIRST

NAMES = ("up", "down", "page-up", "page-down", "home", "end", "enter", "right", "left", "escape", "backspace")
KEYS = st.sampled_from([*NAMES, *"jkgGsrfhq/ x"])


def refresh(state: TopState, total: int) -> None:
    """What a refresh brings of a fleet of so many devices."""
    query = state.query
    devices = [f"d{number}" for number in range(query.offset, min(query.offset + query.limit, total))]
    state.show(query, devices, total)


def pressed(*keys: str, total: int = 100, room: int = 10) -> TopState:
    """The state after these keys, with a refresh after each."""
    state = TopState(room=room)
    refresh(state, total)
    for key in keys:
        state.press(key)
        refresh(state, total)
    return state


@given(st.lists(st.tuples(KEYS, st.integers(0, 30), st.integers(1, 12))))
def test_never_out_of_the_list(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is pressed, while the fleet and the screen change their sizes, what is selected is on the screen."""
    state = TopState()
    for key, total, room in steps:
        state.press(key)
        state.room = room
        for _ in range(2):
            refresh(state, total)
        assert 0 <= state.offset < max(total, 1)
        assert 0 <= state.selected < max(len(state.devices), 1)
        assert bool(state.devices) == (total > 0)


@pytest.mark.parametrize(
    ("keys", "device"),
    [
        ((), "d0"),
        (("down", "j", "up"), "d1"),
        (("up",), "d0"),
        (("down",) * 12, "d12"),
        (("page-down",), "d10"),
        (("page-down", "down", "page-up"), "d1"),
        (("end",), "d99"),
        (("G", "up", "page-down"), "d99"),
        (("end", "home"), "d0"),
        ((" ",) * 30, "d99"),
    ],
)
def test_moves(keys: tuple[str, ...], device: str) -> None:
    """Arrows, pages and ends select the device they should."""
    assert device == pressed(*keys).find_selected()


def test_fewer_devices_than_room() -> None:
    """In a short list the ends are its own."""
    assert pressed("end", total=3).find_selected() == "d2"
    assert pressed("page-down", "home", total=3).find_selected() == "d0"


def test_a_device_stays_selected() -> None:
    """A refresh in which the order changed takes the selection with its device."""
    state = pressed("down")
    state.show(state.query, ["x", "y", "z", "d1"], 4)
    assert state.find_selected() == "d1"
    state.show(state.query, ["x", "y"], 2)
    assert state.find_selected() == "y"


def test_sorts() -> None:
    """The key s goes through all orders, each with what matters first, and r reverses it."""
    state = TopState()
    orders = []
    for _ in SORTS:
        orders.append((state.query.sort, state.query.descending))
        state.press("s")
    assert orders == [(sort, ORDERS[sort].is_descending) for sort in SORTS]
    assert state.order == "by status, worst first"
    state.press("r")
    assert (state.query.descending, state.order) == (True, "by status, worst last")


def test_filter() -> None:
    """The key f goes through the statuses, the worst first, and back to all; the list begins anew."""
    state, statuses = pressed("down", "page-down"), []
    for _ in range(len(WORST_FIRST) + 1):
        state.press("f")
        statuses.append(state.query.status)
        assert (state.offset, state.selected) == (0, 0)
    assert statuses == [*((status,) for status in WORST_FIRST), ()]


def test_search() -> None:
    """Each character searches at once; Enter keeps the text, and Escape ends it then or later."""
    state = pressed("/", "a", "q", "x", "backspace")
    assert (state.query.search, state.is_searching) == ("aq", True)
    state.press("enter")
    assert (state.query.search, state.is_searching, state.device) == ("aq", False, "")
    state.press("escape")
    assert state.query.search == ""
    assert pressed("/", "a", "escape").query.search == ""


def test_search_of_any_length() -> None:
    """A text that somebody pastes is bounded."""
    assert len(pressed("/", *"a" * 1000).query.search) == 200


def test_opens_and_leaves() -> None:
    """Enter opens what is selected; q goes back first, and leaves from the list."""
    state = pressed("down", "enter", "down", "page-down", "up")
    assert (state.device, state.scrolled) == ("d1", 10)
    state.press("q")
    assert (state.device, state.is_leaving) == ("", False)
    state.press("q")
    assert state.is_leaving


def test_nothing_to_open() -> None:
    """Without devices Enter opens none."""
    assert pressed("enter", total=0).device == ""


def test_help() -> None:
    """The key h explains the keys, and the next key of any kind only ends that."""
    state = pressed("h")
    assert state.is_helping
    state.press("q")
    assert (state.is_helping, state.is_leaving) == (False, False)
