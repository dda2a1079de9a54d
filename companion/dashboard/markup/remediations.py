"""Show the state of remediation, and its decisions."""

from collections.abc import Mapping, Sequence
from typing import Final

from companion.dashboard.filters.remediations import CHOICES, DecisionFilters
from companion.dashboard.markup import Markup, card, facts, fields, joined, network_text, note, tag
from companion.dashboard.markup.badges import needs_operate, plural
from companion.dashboard.markup.devices import who
from companion.dashboard.markup.icons import icon
from companion.dashboard.markup.navigation import pager
from companion.dashboard.markup.tables import Column, cell, table
from companion.dashboard.markup.timeline import describe_reason, describe_result
from companion.dashboard.markup.times import time
from companion.errors import NotReplicatedError
from companion.recording.audit import ACTION
from companion.text import Json, printable
from companion.times import format_duration, format_seconds

MODES: Final = {
    "observe": "It only writes down what it would do.",
    "enforce": "It acts: wakes by push who can be woken, removes the others.",
}
PAUSES: Final = ((900, "15 min"), (1800, "30 min"), (3600, "1 hour"), (14_400, "4 hours"), (86_400, "1 day"))
_DECISIONS: Final[Sequence[Column]] = (
    ("When", "w-l"),
    ("Device", "w-xl"),
    ("Decision", "w-xl"),
    ("Why", ""),
    ("Evidence", ""),
    ("Mode", "w-s"),
)
_TONES: Final = {
    "removed": "accent",
    "pushed": "accent",
    "woken": "online",
    "came-back": "online",
    "observed": "plain",
    "kept": "plain",
    "already-gone": "plain",
    "started": "accent",
    "stopped": "plain",
    "ended": "plain",
}


_DONE: Final = {"remove": "removed", "push": "pushed", "keep": "kept"}


def state_words(state: Json) -> Markup:
    """Show mode, pause and breakers in a line of marks."""
    marks = [mode_mark(state["mode"])]
    if state["paused_seconds"]:
        marks.append(
            tag(
                "span",
                icon("pause"),
                f"paused, {format_seconds(state['paused_seconds'])} left",
                cls="mark losing",
            )
        )
    for node, since in state["open_breakers"].items():
        marks.append(
            tag(
                "span",
                icon("losing"),
                "breaker open at ",
                network_text(node),
                " ",
                time(since, "brief"),
                cls="mark losing",
            )
        )
    if not state["open_breakers"]:
        marks.append(tag("span", icon("online"), "breakers closed", cls="mark online"))
    return tag("p", *marks, cls="marks")


def mode_mark(mode: str) -> Markup:
    return tag(
        "span", icon("resume" if mode == "enforce" else "search"), mode, cls="mark accent", title=MODES.get(mode)
    )


def state(now: Json, *, may_operate: bool) -> Markup:
    """Show the whole state, with the switch that pauses remediation."""
    rows = facts(
        ("Mode", tag("span", mode_mark(now["mode"]), " ", MODES.get(now["mode"], ""))),
        ("Last sweep", time(now["last_sweep_at"], "moment", "none yet: is the scheduler running?")),
        ("Candidates", f"{plural(now['candidates'], 'contact')}, {now['acted']} decided on"),
        ("Waiting", network_text(now["waiting"]) if now["waiting"] else "none"),
        ("Held back by", network_text(now["troubles"]) if now["troubles"] else "nothing"),
        ("Breakers", _breakers(now["open_breakers"])),
        cls="facts two",
    )
    return card("State", rows, aside=_switch(now, may_operate=may_operate))


def _breakers(breakers: Mapping[str, str]) -> Markup:
    if not breakers:
        return tag("span", icon("online"), "closed", cls="mark online")
    marks = (
        tag("span", icon("losing"), network_text(node), " open since ", time(at, "clock"), cls="mark losing")
        for node, at in breakers.items()
    )
    return tag("span", *marks)


def _switch(now: Json, *, may_operate: bool) -> Markup:
    left = now["paused_seconds"]
    paused = tag("span", icon("pause"), f"paused, {format_seconds(left)} left", cls="mark losing") if left else None
    if not may_operate:
        why = tag("span", needs_operate("pause remediation"), cls="hint")
        return tag("div", paused, why, cls="line")
    more = tag(
        "button", icon("pause"), "Pause longer…" if left else "Pause…", type="button", act="ask-pause", cls="button"
    )
    resume = (
        tag("button", icon("resume"), "Resume", type="button", act="ask-resume", cls="button main") if left else None
    )
    return tag("div", paused, more, resume, cls="line")


def pause_dialog() -> Markup:
    options = (
        tag(
            "label",
            tag("input", type="radio", name="seconds", value=str(seconds), checked=seconds == PAUSES[1][0]),
            name,
        )
        for seconds, name in PAUSES
    )
    return _dialog(
        "Pause remediation",
        "Nothing is woken or removed meanwhile, by no companion of this Redis. It goes on by itself afterwards.",
        "pause",
        "Pause it",
        tag("fieldset", tag("legend", "For how long?"), *options, cls="options"),
    )


def resume_dialog() -> Markup:
    consequence = "From the next sweep on it does again what its mode says."
    return _dialog("Resume remediation", consequence, "resume", "Resume it")


def doubt_dialog(error: NotReplicatedError) -> Markup:
    """Tell that what was decided is in force, and may not stay so."""
    foot = tag("div", tag("button", "Close", type="submit", cls="button main"), cls="foot")
    words = f"{error.detail[0].upper()}{error.detail[1:]}. {error.remedy.capitalize()}."
    form = tag("form", tag("h2", "A failover may undo it", id="dialog-title"), tag("p", words), foot, act="cancel")
    return tag("dialog", form, modal=True, act="cancel", aria_labelledby="dialog-title", key="doubt")


def _dialog(title: str, consequence: str, act: str, yes: str, *fields: Markup) -> Markup:
    cancel = tag("button", "Cancel", type="button", act="cancel", cls="button")
    foot = tag("div", cancel, tag("button", yes, type="submit", cls="button main"), cls="foot")
    form = tag("form", tag("h2", title, id="dialog-title"), tag("p", consequence), *fields, foot, act=act)
    return tag("dialog", form, modal=True, act="cancel", aria_labelledby="dialog-title", key=act)


def filter_fields(filters: DecisionFilters) -> Markup:
    """Show the fields and choices to select decisions by."""
    search = fields.search("text", filters.text, "Device, node, result or answer")
    choices = (
        fields.select(name, getattr(filters, name), [("", f"Any {name}"), *((word, word) for word in words)], name)
        for name, words in CHOICES.items()
    )
    clear = tag("a", "Clear", href="/remediations", go=True, cls="muted") if filters.any else None
    line = tag("div", search, *choices, clear, cls="line")
    return tag("form", line, role="search", aria_label="Decisions", act="search-now", cls="filters")


def list_pager(following: str | None, filters: DecisionFilters) -> Markup:
    first = ("Newest", filters.at("").address()) if filters.since else None
    return pager(first, ("Older", filters.at(following).address()) if following else None)


def decisions(entries: Sequence[Json], *, filtered: bool) -> Markup:
    if not entries:
        return tag("div", _none(filtered=filtered), cls="card")
    return tag("div", table(_DECISIONS, map(_decision, entries), "edge"), cls="card table-card")


def _none(*, filtered: bool) -> Markup:
    if filtered:
        more = tag("p", tag("a", "Show all decisions", href="/remediations", go=True))
        return note("No decision fits these filters", more)
    first = tag("p", "A contact that loses its pings, or whose connection dies, is decided on in the next sweep.")
    return note("Nothing was decided yet", first, tag("p", "Without trouble in the fleet that is as it should be."))


def _decision(entry: Json) -> Markup:
    return tag(
        "tr",
        cell(time(entry["at"], "date"), "span"),
        cell(who(entry["device"], row=True)),
        cell(outcome(entry), "right"),
        cell(_why(entry), "wrap span"),
        cell(_evidence(entry), "wrap span"),
        cell(tag("span", entry["mode"], cls="zero"), "away"),
        key=f"{entry['at']} {entry.get('contact') or entry['device']} {entry['result']}",
    )


def outcome(entry: Json) -> Markup:
    """Show a decision and its outcome; the outcome alone where it is what was decided."""
    tone = _TONES.get(entry["result"], "losing")
    action = "" if _DONE.get(entry["action"]) == entry["result"] else f"{entry['action']}: "
    return tag(
        "span",
        action or None,
        printable(entry["result"]),
        title=describe_result(entry["result"]),
        cls=f"mark {tone}",
    )


def _why(entry: Json) -> Markup:
    reason, why = describe_reason(entry["reason"]), entry["why"]
    return tag("span", _capital(reason), *(() if why == reason else ("; ", network_text(why))))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _evidence(entry: Json) -> Markup:
    if entry["action"] == ACTION:
        return tag("span", network_text(entry["answer"]), cls="muted") if entry["answer"] else None
    parts: list[Markup] = [tag("span", "since ", time(entry["since"], "clock"))]
    if entry["lost"]:
        parts.append(tag("span", plural(entry["lost"], "ping"), " lost"))
    if entry.get("attempt"):
        parts.append(f"attempt {entry['attempt']}")
    if entry.get("after_ms"):
        parts.append(f"came back after {format_duration(entry['after_ms'])}")
    if entry.get("answer"):
        parts.append(tag("span", "OpenSIPS: ", network_text(entry["answer"])))
    if entry.get("duration_ms"):
        parts.append(f"in {format_duration(entry['duration_ms'])}")
    return tag("span", *joined(parts, ", "), " · ", network_text(entry["node"]), cls="muted")


def brief(entry: Json) -> Markup:
    """Show one decision in a line or two."""
    head = tag("p", who(entry["device"]), tag("span", time(entry["at"], "ago"), cls="push-right muted"), cls="move")
    return tag(
        "li",
        head,
        tag("p", outcome(entry), " ", tag("span", describe_reason(entry["reason"]), cls="muted")),
        key=entry["at"],
    )
