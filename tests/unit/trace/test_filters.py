"""OpenSIPS is asked for what the device sends and gets, and for as little else as its filters allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.trace.filters import MAX_FILTERS, choose_filters, make_id, parse_id, parse_traces
from tests.unit.trace.phones import phone


@pytest.mark.parametrize(
    ("aor", "uri", "expected"),
    [
        ("dave", "sip:dave@192.0.2.7:1", ["caller=dave", "callee=dave"]),
        ("dave", "sip:k3@x.invalid", ["caller=dave", "callee=dave", "callee=k3"]),
        ("dave@h", "sip:k3@x.invalid", ["caller=dave@h", "callee=dave@h", "callee=k3"]),
        (
            "dave@h",
            "sip:dave@10.0.0.1",
            ["caller=dave@h", "callee=dave@h", "callee=dave@10.0.0.1", "callee=dave@192.0.2.7"],
        ),
        ("i x@h", "sip:192.0.2.7", ["caller=i x@h", "callee=i x@h", "caller=i%20x@h", "callee=i%20x@h"]),
    ],
)
def test_filters(aor: str, uri: str, expected: list[str]) -> None:
    """From and R-URI are compared with the AOR, and the R-URI with each contact; no filter catches all domains."""
    assert expected == choose_filters(phone(aor, "1", uri, "192.0.2.7:40000"))


def test_spellings() -> None:
    """OpenSIPS compares letter by letter: the AOR is also looked for as the device's own messages write it."""
    filters = choose_filters(phone("dave@h", "1", "sip:k3@x", "192.0.2.7:1"), ["Dave@H"])
    assert filters[:2] == ["caller=Dave@H", "callee=Dave@H"]
    assert "caller=dave@h" in filters


def test_many_contacts() -> None:
    """A device with ever new contacts has a bounded number of traces, the newest first; ended ones have none."""
    device = phone("dave", "1", "sip:old@x", "192.0.2.7:1", ended_at=1)
    device.contacts += [phone("dave", "1", f"sip:k{n}@x", f"192.0.2.7:{n}").contacts[0] for n in range(1, 40)]
    filters = choose_filters(device)
    assert len(filters) == MAX_FILTERS
    assert filters[2] == "callee=k39"
    assert "callee=old" not in filters


@given(st.integers(0, 9_999_999_999_000), st.text(), st.text())
def test_ids(ends_at: int, device: str, trace_filter: str) -> None:
    """The id of a trace tells when it ends and whose it is, also to a companion that did not start it."""
    trace_id = make_id(ends_at, device, trace_filter)
    assert trace_id == parse_id(str(trace_id))
    assert trace_id.ends_at * 1000 >= ends_at


def test_answer_of_mi() -> None:
    """Of the traces that OpenSIPS lists only ours are taken, whatever else is in the answer."""
    ours = str(make_id(1_800_000_000_000, "dave/1", "caller=dave"))
    rows = [{"name": ours, "filters": [{"caller": "dave"}]}, {"name": "operator"}, {"name": 5}, "x"]
    assert [ours] == [str(one) for one in parse_traces({"global": "on", "trace destinations": rows})]
    odds: list[object] = [None, [], {}, {"trace destinations": 7}]
    for odd in odds:
        assert parse_traces(odd) == []
