"""The ladder as markup: text stays text, and what a step is can be read without seeing it."""

import json
from typing import Any

from companion.dashboard.markup import trace
from companion.dashboard.markup.timeline import describe_entry
from tests.unit.cli.test_trace_screen import PARTICIPANTS
from tests.unit.cli.test_trace_screen import step as plain_step

HOSTILE = "<img src=x onerror=pwned>\u202e"


def step(number: int, label: str, **signs: Any) -> dict[str, Any]:
    more = {"protocol": "ws", "source": "192.0.2.7:1", "target": "198.51.100.1:2", "node": "edge", "homer_url": None}
    return {**plain_step(number, 0, 1, label), "call_id": "c1", **more, **signs}


def page(*steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "participants": PARTICIPANTS,
        "steps": list(steps),
        "total": len(steps),
        "cut": False,
        "shared": False,
        "recording": None,
    }


def find(markup: Any, name: str) -> list[Any]:
    """Return all elements of a name."""
    if not isinstance(markup, list):
        return []
    own = [markup] if markup and markup[0] == name else []
    return own + [element for child in markup for element in find(child, name)]


def test_steps() -> None:
    """Each step is a button that says in words what the arrow shows; an opened one has its text below."""
    markup = trace.ladder(page(step(0, "INVITE"), step(1, "486 Busy", failed=True, repeat=True)), frozenset({1}))
    first, second = find(markup, "button")
    assert first[1]["aria-label"] == "10:00:00.123 UTC, INVITE from Phone to edge"
    assert second[1]["aria-label"] == "10:00:00.123 UTC, 486 Busy to INVITE from Phone to edge, failed, repeated"
    assert (first[1]["aria-expanded"], second[1]["aria-expanded"]) == ("false", "true")
    assert [code[2] for code in find(markup, "code")] == ["text of 486 Busy"]


def test_hostile_text() -> None:
    """What a phone writes is text in the markup, and can not change the direction of what is around it."""
    markup = trace.ladder(page(step(0, HOSTILE, text=HOSTILE)), frozenset({0}))
    assert not find(markup, "img")
    labels = [element[2] for element in find(markup, "bdi")]
    assert any("<img src=x onerror=pwned>" in label for label in labels)
    assert "\\u202e" not in json.dumps(labels)


def test_homer() -> None:
    """A message leads to Homer by an address of our own: markup can not link to other hosts."""
    markup = trace.ladder(page(step(0, "BYE", homer_url="https://homer.example/c1")), frozenset({0}))
    assert [link[1]["href"] for link in find(markup, "a")] == ["/api/v1/calls/c1/homer"]


def test_recording() -> None:
    """Who may operate has a button, and who may not learns what it takes; a refusal says what to do."""
    may = trace.recording(page(), 15, may_operate=True, refusal=("no tracer", "load it"))
    may_not = trace.recording(page(), 15, may_operate=False)
    assert [button[1]["act"] for button in find(may, "button")] == ["record"]
    assert "load it" in json.dumps(may)
    assert find(may_not, "button") == []
    assert "scope operate" in json.dumps(may_not)


def test_timeline() -> None:
    """Start and end of a recording are on the timeline, with who asked."""
    line = describe_entry({"event": "recording-started", "by": "support", "minutes": "15"})
    assert line.words == "Its SIP messages are recorded"
    assert "support" in json.dumps(line.more)
    assert "15 minutes" in json.dumps(line.more)


def test_cut() -> None:
    """A page with the newest messages alone says so."""
    words = "Older messages are left out"
    assert words not in json.dumps(trace.ladder(page(step(0, "BYE")), frozenset()))
    assert words in json.dumps(trace.ladder({**page(step(0, "BYE")), "cut": True}, frozenset()))


def test_on_the_page_of_a_call() -> None:
    """The page of a call has its ladder with a link to the trace, and nothing of it where nothing was recorded."""
    assert trace.call_trace(page(), "alice/1", "c 1") is None
    markup = trace.call_trace({**page(step(0, "BYE")), "explanation": None}, "alice/1", "c 1")
    assert len(find(markup, "button")) == 1
    assert [link[1]["href"] for link in find(markup, "a")] == ["/traces/alice%2F1?call=c+1"]
