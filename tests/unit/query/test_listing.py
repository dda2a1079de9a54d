"""Test the search for devices in a listing of the whole fleet."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion import quality
from companion.errors import UsageError
from companion.query.listing import SORTS, WORST_FIRST, Listing, Query, Sort
from companion.query.row import Glance
from companion.usrloc.contact import STATUSES

AGENTS = ("", "Yealink SIP-T54W", "Browser Phone (SIPJS)", "ÄNDERS <b>")
ids = st.tuples(st.sampled_from(["a", "ab", "Ä"]), st.text("abÄ", max_size=2))
glances = st.builds(
    lambda name, **fields: Glance(f"{name[0]}/{name[1]}", name[0], **fields),
    ids,
    node=st.sampled_from(["one", "two"]),
    status=st.sampled_from(STATUSES),
    user_agent=st.sampled_from(AGENTS),
    push=st.booleans(),
    last_latency_ms=st.none() | st.integers(0, 3),
    quality=st.none() | st.sampled_from(quality.LABELS),
    last_latency_at=st.integers(0, 3),
    last_register_at=st.integers(0, 3),
    consecutive_lost=st.integers(0, 3),
    contacts=st.integers(0, 2),
)
fleets = st.lists(glances, max_size=12, unique_by=lambda glance: glance.device).map(
    lambda fleet: sorted(fleet, key=lambda glance: glance.device)
)
queries = st.builds(
    Query,
    status=st.lists(st.sampled_from(STATUSES), max_size=2).map(tuple),
    quality=st.lists(st.sampled_from(quality.LABELS), max_size=2).map(tuple),
    node=st.sampled_from(["", "one"]),
    aor=st.sampled_from(["", "a"]),
    user_agent=st.sampled_from(["", "yea", "änd"]),
    push=st.none() | st.booleans(),
    search=st.sampled_from(["", "a", "Ä", "SIPJS"]),
    sort=st.sampled_from(SORTS),
    descending=st.booleans(),
    limit=st.integers(1, 5),
)
VALUES: dict[Sort, Callable[[Glance], str | int | None]] = {
    "status": lambda glance: WORST_FIRST.index(glance.status),
    "device": lambda glance: glance.device,
    "latency": lambda glance: glance.last_latency_ms,
    "last_latency_at": lambda glance: glance.last_latency_at or None,
    "last_register_at": lambda glance: glance.last_register_at or None,
    "lost": lambda glance: glance.consecutive_lost,
}


def meets(glance: Glance, query: Query) -> bool:
    text = f"{glance.device} {glance.aor} {glance.user_agent}".lower()
    return (
        glance.status in (query.status or STATUSES)
        and (not query.quality or glance.quality in query.quality)
        and glance.node in (query.node or glance.node)
        and glance.aor.startswith(query.aor)
        and query.user_agent.lower() in glance.user_agent.lower()
        and query.push in (None, glance.push)
        and query.search.lower() in text
    )


def expected(fleet: list[Glance], query: Query) -> list[str]:
    """What a query means, said the plain way."""
    value = VALUES[query.sort]
    pairs = [(value(glance), glance.device) for glance in fleet if meets(glance, query)]
    valued = sorted((pair for pair in pairs if pair[0] is not None), reverse=query.descending)
    return [device for _, device in valued] + sorted(device for value, device in pairs if value is None)


@given(fleets, queries)
def test_pages(fleet: list[Glance], query: Query) -> None:
    """Page after page tells each device that fits once, in the order asked for, and how many there are."""
    listing, devices, cursor = Listing(7, fleet), [], ""
    while True:
        page = listing.page(replace(query, cursor=cursor))
        devices += page.devices
        assert len(page.devices) <= query.limit
        assert page.as_of == 7
        if page.next is None:
            break
        cursor = page.next
    assert expected(fleet, query) == devices
    assert page.total == len(devices)


@given(fleets, fleets, queries)
def test_a_page_of_a_later_listing(before: list[Glance], after: list[Glance], query: Query) -> None:
    """A cursor goes on behind its place in a fleet that has changed since, its own device or not."""
    page = Listing(1, before).page(query)
    if page.next is None:
        return
    later = Listing(2, after).page(replace(query, cursor=page.next, limit=500))
    last = next(glance for glance in before if glance.device == page.devices[-1])
    both = [glance for glance in after if glance.device != last.device]
    ordered = expected([*both, last], query)
    behind = ordered[ordered.index(last.device) + 1 :]
    assert behind == [device for device in later.devices if device != last.device]


@given(fleets, queries, st.integers(0, 13))
def test_an_offset(fleet: list[Glance], query: Query, offset: int) -> None:
    """An offset leaves out so many devices of the order, and changes nothing else."""
    page = Listing(1, fleet).page(replace(query, offset=offset))
    ordered = expected(fleet, query)
    assert (ordered[offset : offset + query.limit], len(ordered)) == (page.devices, page.total)


@pytest.mark.parametrize("cursor", ["x", "WyJzdGF0dXMiXQ", "Ä"])
def test_a_cursor_of_nothing(cursor: str) -> None:
    """What is no cursor of this list is refused with the way out."""
    with pytest.raises(UsageError, match="begin with the first page"):
        Listing(1, []).page(Query(cursor=cursor))


def test_the_same_query_is_not_looked_for_twice() -> None:
    """Many different queries are kept only up to a bound, and stay right."""
    fleet = [Glance(f"d{n:02}", f"a{n}", "one", "online", "", False, n, None, 1, 1, 0, 1) for n in range(100)]
    listing = Listing(1, fleet)
    for _ in range(2):
        assert [listing.page(Query(aor=f"a{n}")).total for n in range(100)] == [
            11 if 0 < n < 10 else 1 for n in range(100)
        ]
