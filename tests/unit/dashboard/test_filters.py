"""What somebody looks for: in the address and back, and whatever else an address may hold."""

from typing import Any

import pytest

from companion.dashboard.filters import devices
from companion.dashboard.filters.remediations import DecisionFilters, find_decisions
from companion.query.listing import Query


@pytest.mark.parametrize(
    "query",
    [
        Query(),
        Query(status=("losing", "stale"), quality=("bad",), node="a&b", search="dave #1", push=False, sort="lost"),
        Query(user_agent="é/<b>", descending=True, cursor="abc_-"),
    ],
)
def test_query_goes_into_the_address_and_back(query: Query) -> None:
    """What is looked for is in the address, and an address shared finds the same."""
    assert query == devices.read(devices.address(query).partition("?")[2])


@pytest.mark.parametrize("text", ["status=evil&sort=rm&push=maybe", "a=" * 200, "x" * 100_000, "%", "&&=;", "\udcff"])
def test_odd_addresses_are_no_error(text: str) -> None:
    """An address that makes no sense shows all devices."""
    assert Query() == devices.read(text)
    assert devices.window(text) == devices.DEFAULT_WINDOW


def test_filters_begin_with_the_first_page() -> None:
    """Whatever is changed, the list begins anew."""
    query = Query(cursor="abc", status=("stale",))
    assert Query(status=("losing", "stale")) == devices.toggled(query, "status", "losing")
    assert Query() == devices.toggled(query, "status", "stale")
    assert Query(status=("stale",), push=True) == devices.changed(query, "push", "yes")
    assert Query(status=("stale",), sort="lost", descending=True) == devices.sorted_by(query, "lost", descending=True)
    assert query == devices.changed(query, "limit", "500")


@pytest.mark.parametrize("filters", [DecisionFilters(), DecisionFilters("a & b", "push", "ghost", "enforce", "1-0")])
def test_decision_filters_go_into_the_address_and_back(filters: DecisionFilters) -> None:
    """What is looked for among decisions is in the address, too."""
    assert filters == DecisionFilters.read(filters.address().partition("?")[2])


def test_decision_filters_take_only_choices() -> None:
    """What is no choice changes nothing."""
    assert DecisionFilters() == DecisionFilters.read("action=rm&mode=evil")
    assert DecisionFilters() == DecisionFilters().changed("action", "rm") == DecisionFilters().changed("since", "x")
    assert DecisionFilters(action="push") == DecisionFilters(since="1-0").changed("action", "push")


class ManyDecisions:
    """A reader of many decisions: their numbers from the newest to the oldest."""

    def __init__(self, count: int) -> None:
        actions = ("push" if n % 100 == 0 else "remove" for n in range(count))
        self._entries = [{"reason": "ghost", "mode": "observe", "action": action} for action in actions]
        self.reads = 0

    def remediations(self, since: str, count: int) -> dict[str, Any]:
        self.reads += 1
        first = int(since or 0)
        page = self._entries[first : first + count]
        return {"remediations": page, "next": str(first + count) if len(page) == count else None}


def test_decisions_are_found_far_behind() -> None:
    """A filter finds the few decisions that fit among many, and ends where there are no more."""
    reader = ManyDecisions(1050)
    rows, following = find_decisions(reader, DecisionFilters(action="push"))  # type: ignore[arg-type]
    assert len(rows) == 11
    assert following is None


def test_looking_for_decisions_is_bounded() -> None:
    """A filter that nothing fits goes through so many decisions at once, and offers to go on behind them."""
    reader = ManyDecisions(20_000)
    rows, following = find_decisions(reader, DecisionFilters(text="nothing has that"))  # type: ignore[arg-type]
    assert not rows
    assert following == "10000"
    assert reader.reads == 50
