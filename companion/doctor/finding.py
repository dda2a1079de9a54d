"""Hold what a check found. No I/O."""

from typing import Literal, NamedTuple

Level = Literal["ok", "note", "warning", "failure"]


class Finding(NamedTuple):
    """Hold one line of the report: what was checked, what came of it, and what to do about it.

    A note needs nothing to be done, a warning should be looked at, with a failure the companion can not do its work.
    """

    level: Level
    name: str
    text: str
    remedy: str = ""


class Section(NamedTuple):
    """Hold the findings about one part: an OpenSIPS, the feeds, the contacts, Redis."""

    title: str
    findings: list[Finding]


def ok(name: str, text: str) -> Finding:
    return Finding("ok", name, text)


def note(name: str, text: str, remedy: str = "") -> Finding:
    return Finding("note", name, text, remedy)


def warning(name: str, text: str, remedy: str) -> Finding:
    return Finding("warning", name, text, remedy)


def failure(name: str, text: str, remedy: str) -> Finding:
    return Finding("failure", name, text, remedy)


def some(names: list[str], most: int = 5) -> str:
    """Join the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
