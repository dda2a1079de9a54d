"""What a check found. No I/O."""

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "warning", "failure"]


class Finding(NamedTuple):
    """One line of the report: what was looked at, what was seen, and what to do when it is not as it should be.

    A note needs nothing to be done, a warning should be looked at, with a failure the companion can not do its work.
    """

    level: Level
    name: str
    seen: str
    remedy: str = ""


class Section(NamedTuple):
    """The findings about one part: an OpenSIPS, the feeds, the contacts, Redis."""

    title: str
    findings: list[Finding]


def ok(name: str, seen: str) -> Finding:
    return Finding("ok", name, seen)


def note(name: str, seen: str, remedy: str = "") -> Finding:
    return Finding("note", name, seen, remedy)


def warning(name: str, seen: str, remedy: str) -> Finding:
    return Finding("warning", name, seen, remedy)


def failure(name: str, seen: str, remedy: str) -> Finding:
    return Finding("failure", name, seen, remedy)


def some(names: list[str], most: int = 5) -> str:
    """The first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def times(number: int, word: str) -> str:
    """A number with its word: `1 contact`, `2 contacts`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
