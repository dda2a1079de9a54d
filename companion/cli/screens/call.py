"""Render one call."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from companion.cli.screens.call_cells import ARROWS, BANDS, render_end, render_mos
from companion.cli.screens.call_quality import render_breakdown, render_graphs
from companion.cli.screens.text import ago, text
from companion.cli.screens.timeline import describe_entry
from companion.media.changes import describe_path
from companion.text import Json
from companion.times import format_seconds

VERDICTS: Final = {
    "good": ("good", "green"),
    "signalling": ("signalling path", "red"),
    "media": ("media path", "red"),
    "device": ("the device", "magenta"),
    "network": ("a change of network", "yellow"),
    "unknown": ("not known", "bright_black"),
}


TROUBLE: Final = {"offline", "limit", "switch-over", "restart"}
"""Happenings one looks for."""


MAX_MINUTES: Final = 10


MAX_EVIDENCE: Final = 2


MAX_HAPPENINGS: Final = 20


def render_call_page(page: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    return Group(
        _render_head(page),
        _render_facts(page, now),
        "",
        *_render_verdict(page["verdict"]),
        "",
        *render_breakdown(page),
        *render_graphs(page),
        *_render_bad_minutes(page["verdict"]),
        Text("Happenings", style="bold"),
        _render_happenings(page),
    )


def _render_head(page: Json) -> Panel:
    length = format_seconds(page["seconds"])
    line = Text.assemble(ARROWS.get(page["direction"], "·"), " ", text(page["peer"]), f"   {length}   ")
    line.append_text(render_end(page)).append("   MOS ").append_text(render_mos(page))
    if page["band"]:
        line.append_text(text(f" {page['band']}", BANDS.get(page["band"], "")))
    return Panel(line, title=text(page["call_id"], "bold"), title_align="left", expand=False)


def _render_facts(page: Json, now: datetime) -> Table:
    path = page["path"] or {}
    facts = (
        ("Device", page["device"]),
        ("Also reported by", ", ".join(leg for leg in page["legs"] if leg != page["device"])),
        ("Started", f"{_format_moment(page['started_at'])} UTC, {ago(page['started_at'], now)}"),
        ("Ended", _describe_end(page)),
        ("Path", _describe_path(path) if path else ""),
        ("Codec", page["codec"]),
        ("Not there", _describe_missing(page)),
    )
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        if value:
            table.add_row(Text(f"  {name}", style="bright_black"), text(value))
    return table


def _describe_path(path: Json) -> str:
    """Describe the path of media: its candidates, the addresses at both ends, and the network of the device."""
    near, far = (path.get(name) for name in ("local_address", "remote_address"))
    ends = f"{near} → {far}" if near and far else f"from {near}" if near else f"to {far}" if far else ""
    return ", ".join(str(part) for part in (describe_path(path), ends, path.get("network")) if part)


def _format_moment(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%d %b %H:%M:%S")


def _describe_end(page: Json) -> str:
    if not page["ended_at"]:
        return "it is still running" if page["live"] else "unknown: its page stopped to report"
    return ", ".join(filter(None, (f"{_format_moment(page['ended_at'])} UTC", page["end"], page["why"])))


def _describe_missing(page: Json) -> str:
    told_of = ((page["missing"], "items never came"), (page["dropped"], "items the page had no room for"))
    return ", ".join(f"{number} {words}" for number, words in told_of if number)


def _render_verdict(verdict: Json) -> Iterator[RenderableType]:
    words, style = VERDICTS.get(verdict["what"], VERDICTS["unknown"])
    yield Text.assemble(("Verdict  ", "bold"), (words, f"bold {style}"))
    yield from _render_sentences(verdict["evidence"])


def _render_sentences(evidence: Iterable[str]) -> Iterator[Table]:
    for sentence in evidence:
        line = Table.grid()
        line.add_row("  ", _render_wrapped(sentence))
        yield line


def _render_wrapped(value: str, style: str = "") -> Text:
    """Render text that may continue in the next line."""
    paragraph = text(value, style)
    paragraph.no_wrap, paragraph.overflow = False, "fold"
    return paragraph


def _render_bad_minutes(verdict: Json) -> Iterator[RenderableType]:
    """Render the cause of each bad minute, and the evidence that the verdict does not show already."""
    minutes, sentences = verdict["bad_minutes"], verdict["evidence"]
    if not minutes:
        return
    yield Text("Bad minutes", style="bold")
    table = Table.grid(padding=(0, 2))
    for minute in minutes[:MAX_MINUTES]:
        at = datetime.fromisoformat(minute["at"]).strftime("%H:%M:%S")
        style = VERDICTS.get(minute["what"], VERDICTS["unknown"])[1]
        own = [sentence for sentence in minute["evidence"] if sentence not in sentences][:MAX_EVIDENCE]
        evidence = _render_wrapped("; ".join(own) or "as above", "bright_black")
        table.add_row(Text(f"  {at}", style="bright_black"), text(minute["what"], style), evidence)
    yield table
    yield from _render_hidden(len(minutes) - MAX_MINUTES, "more")
    yield ""


def _render_happenings(page: Json) -> RenderableType:
    """Render happenings of the call and entries of the device's timeline on one clock, the newest first."""
    lines = [
        (happening["at"], happening["what"], _describe_fields(happening), True) for happening in page["happenings"]
    ]
    lines += [(entry["at"], entry["event"], describe_entry(entry), False) for entry in page["timeline"]]
    if not lines:
        return Text("  none were reported", style="bright_black")
    table = Table.grid(padding=(0, 2))
    for at, what, words, in_call in sorted(lines, key=lambda line: line[0], reverse=True)[:MAX_HAPPENINGS]:
        style = "yellow" if what in TROUBLE else "" if in_call else "bright_black"
        when = datetime.fromisoformat(at).strftime("%H:%M:%S")
        table.add_row(
            Text(f"  {when}", style="bright_black"),
            Text("call" if in_call else "device", style="bright_black"),
            text(what, style),
            _render_wrapped(words, "bright_black") if words else "",
        )
    return Group(table, *_render_hidden(len(lines) - MAX_HAPPENINGS, "earlier"))


def _render_hidden(number: int, what: str) -> Iterator[Text]:
    if number > 0:
        yield Text(f"  and {number} {what}: --json has them all", style="bright_black")


def _describe_fields(happening: Json) -> str:
    """Describe the fields of a happening."""
    fields = happening["fields"]
    if happening["what"] == "path":
        return _describe_path(fields)
    return ", ".join(_describe_field(name, value) for name, value in fields.items())


def _describe_field(name: str, value: Any) -> str:
    """Describe one field, such as `media after 3.4 s` or `state connected`."""
    if name.endswith("_ms") and isinstance(value, int | float):
        return f"{name.removesuffix('_ms')} after {value / 1000:.1f} s"
    if name.endswith("_bps") and isinstance(value, int | float):
        return f"{name.removesuffix('_bps')} {value / 1000:.0f} kbit/s"
    return f"{name} {value}"
