"""A ladder in a terminal: arrows between the right lines, failures and repetitions marked, nothing that acts on it."""

from io import StringIO
from typing import Any

from rich.console import Console, RenderableType

from companion.cli.screens.trace import render_recordings, render_trace

PARTICIPANTS = [
    {"role": "phone", "name": "Phone", "addresses": ["192.0.2.7:40000"]},
    {"role": "opensips", "name": "edge", "addresses": ["198.51.100.1:443"]},
    {"role": "other", "name": "Other end", "addresses": []},
]


def step(number: int, start: int, end: int, label: str, **signs: Any) -> dict[str, Any]:
    fields = {"repeat": False, "failed": False, "shared": False, "method": "INVITE", "text": f"text of {label}"}
    return (
        {"number": number, "at": "2026-11-28T10:00:00.123Z", "from": start, "to": end, "label": label} | fields | signs
    )


def trace(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    empty = {"recording": None, "cut": False, "explanation": None, "shared": False, "participants": PARTICIPANTS}
    return {**empty, "steps": list(steps), **fields}


def drawn(page: RenderableType, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(page)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_ladder() -> None:
    """Each message is an arrow from its sender to its target, with its time, whatever is in between."""
    page = trace(step(0, 0, 1, "INVITE"), step(1, 2, 1, "486 Busy"), step(2, 0, 2, "BYE", method="BYE"))
    lines = drawn(render_trace(page)).splitlines()
    assert lines[1].split() == ["Phone", "edge", "Other", "end"]
    first, second, third = lines[3:6]
    assert first.startswith("10:00:00.123")
    assert (first.index("INVITE") < first.index("▶") < first.rindex("│"), first.count("│")) == (True, 3)
    assert second.index("◀") < second.index("486 Busy (INVITE)")
    assert second.count("│") == 3
    assert third.count("│") == 2  # it passes the line in the middle
    assert max(map(len, lines)) <= 100


def test_words() -> None:
    """A failure is explained above the ladder, and repetitions and doubtful messages say so in words."""
    page = trace(
        step(0, 0, 1, "INVITE", repeat=True, shared=True),
        explanation={"text": "No answer", "step": 0},
        shared=True,
        cut=True,
        recording={"by": "sup\x1bport", "ends_at": "2099-01-01T00:00:00.000Z"},
    )
    text = drawn(render_trace(page, texts=True))
    assert "No answer" in text
    assert "INVITE repeated ?" in text
    assert "text of INVITE" in text
    assert "Only the last 1 messages are shown" in text
    assert "\x1b" not in text


def test_nothing_acts_on_the_terminal() -> None:
    """Escape sequences in any text of a message, of its explanation or of an address are replaced."""
    escape = "\x1b]0;owned\x07\x9b2J"
    page = trace(
        step(0, 0, 1, f"486 {escape}", method=f"IN{escape}", text=escape),
        explanation={"text": f"Call failed ({escape})", "step": 0},
        participants=[{"role": "phone", "name": escape, "addresses": [escape]}, *PARTICIPANTS[1:]],
        recording={"by": escape, "ends_at": "2099-01-01T00:00:00.000Z"},
    )
    text = drawn(render_trace(page, texts=True))
    assert "owned" in text
    assert not set(text) & set("\x1b\x07\x9b")


def test_narrow_terminal() -> None:
    """A long status line is cut, so that the lines stay where they are."""
    page = trace(step(0, 0, 1, "500 " + "x" * 200))
    assert max(map(len, drawn(render_trace(page), 80).splitlines())) <= 80


def test_nothing() -> None:
    """An empty trace and no recording say so."""
    assert "no messages" in drawn(render_trace(trace()))
    assert "nothing is recorded" in drawn(render_recordings([]))
