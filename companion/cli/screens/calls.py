"""Calls as a terminal shows them: a line each, and one in full. What came from the network is text, never obeyed."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from companion.cli.screens.devices import told
from companion.cli.screens.graph import Axis, Graph, Held, LostMarks, Scale
from companion.cli.screens.text import ago, text
from companion.media import e_model
from companion.media.minutes import path_words
from companion.sip import INSTANCE_END, short_id
from companion.text import Json
from companion.times import epoch_ms, format_seconds

BANDS: Final = {
    "best": "green",
    "high": "green",
    "medium": "yellow",
    "low": "dark_orange",
    "poor": "red",
    "bad": "bold red",
}
VERDICTS: Final = {
    "good": ("good", "green"),
    "signalling": ("the signalling path: the device's line", "red"),
    "media": ("the media's path", "red"),
    "device": ("the device", "magenta"),
    "network": ("a change of network", "yellow"),
    "unknown": ("not known", "bright_black"),
}
ENDS: Final = {"failed": "red", "lost": "red", "live": "cyan", "gone": "bright_black"}
ARROWS: Final = {"in": "←", "out": "→", "": "·"}
TROUBLE: Final = {"offline", "limit", "switch-over", "restart"}
"""Happenings one looks for."""
WIDE: Final = 110
"""Columns from which on a list of calls has room for all there is to say of them."""
MINUTES_TOLD: Final = 10
EVIDENCE_TOLD: Final = 2
CONCEALED_TOLD: Final = 5.0
"""Percent, beyond what was lost; less is made up all the time, and nobody hears it."""
HAPPENINGS_TOLD: Final = 20
BAR: Final = 40
"""Columns for the whole scale of R."""


class CallsTable:
    """A line for each call, as much of it as the width at hand has room for; `of_many`: of many devices."""

    def __init__(self, calls: Sequence[Json], *, of_many: bool, now: datetime | None = None) -> None:
        self._calls = calls
        self._of_many = of_many
        self._now = now or datetime.now(UTC)

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(self._columns(wide=options.max_width >= WIDE))
        rows = [[column.cell(call) for column in columns] for call in self._calls]
        rooms = self._rooms(options.max_width, columns, rows)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
        for column in columns:
            table.add_column(column.name, no_wrap=True, justify=column.justify, overflow="ellipsis")
        for call, row in zip(self._calls, rows, strict=True):
            elastic = {
                "DEVICE": text(short_id(call["device"], rooms[0])),
                "WITH": _cut(peer(call), rooms[1]),
                "CALL-ID": _cut(call["call_id"], rooms[2]),
            }
            table.add_row(*(elastic.get(column.name, cell) for column, cell in zip(columns, row, strict=True)))
        yield table

    def _columns(self, *, wide: bool) -> Iterator["_Column"]:
        """What there is room for; the cells of what is as wide as there is room come later."""
        yield _Column("STARTED UTC", lambda call: text(_when(call["started_at"])))
        if self._of_many:
            yield _Column("DEVICE")
        yield _Column("", lambda call: text(ARROWS.get(call["direction"], "·")))
        yield _Column("WITH")
        yield _Column("LENGTH", lambda call: text(format_seconds(call["seconds"])), "right")
        yield _Column("ENDED", ended)
        yield _Column("MOS", mos, "right")
        yield _Column("LOSS", lambda call: text(_percent(call["loss_percent"])), "right")
        if wide or not self._of_many:
            yield _Column("RTT", lambda call: text(_ms(call["rtt_ms"])), "right")
            yield _Column("PATH", _way)
        if wide:
            yield _Column(
                "BAD", lambda call: text(f"{call['bad_seconds']} s" if call["bad_seconds"] else None), "right"
            )
        yield _Column("CALL-ID")

    def _rooms(self, width: int, columns: Sequence["_Column"], rows: Sequence[Sequence[Text]]) -> list[int]:
        """How many columns device, peer and Call-ID get of what the rest leaves: what they need, then all they want."""
        fixed = [max(len(column.name), *map(len, cells)) for column, *cells in zip(columns, *rows, strict=True)]
        rest = width - sum(n for n, column in zip(fixed, columns, strict=True) if column.cell is not _later)
        rest -= len(columns) - 1
        devices = [call["device"] for call in self._calls] if self._of_many else []
        peers, ids = [*map(peer, self._calls)], [call["call_id"] for call in self._calls]
        short = max((len(device.rpartition("/")[0]) + INSTANCE_END + 2 for device in devices), default=0)
        longest = [max(map(len, told), default=0) for told in (devices, peers, ids)]
        rooms = [0, 0, 0]
        for step in ((15, 9, 9), (short, 24, 20), longest):
            for n in (2, 1, 0):  # a Call-ID is to be typed, a peer to be recognised
                rooms[n] += max(0, min(step[n], longest[n], rooms[n] + rest - sum(rooms)) - rooms[n])
        return rooms


def _later(_: Json) -> Text:
    return Text()


class _Column(NamedTuple):
    name: str
    cell: Callable[[Json], Text] = _later
    justify: JustifyMethod = "left"


def _when(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%d %b %H:%M")


def peer(call: Json) -> str:
    """With whom, without what goes without saying.

    >>> peer({"peer": "sip:bob@example.com"}), peer({"peer": "tel:+4930"})
    ('bob@example.com', 'tel:+4930')
    """
    said: str = call["peer"]
    return said.removeprefix("sip:").removeprefix("sips:")


def _cut(value: str, room: int) -> Text:
    """In so many columns, cut where there are more."""
    shown = text(value)
    shown.truncate(max(1, room), overflow="ellipsis")
    return shown


def ended(call: Json) -> Text:
    """How a call ended: live while it goes on, gone when its page told no more."""
    word = call["end"] or ("live" if call["live"] else "ended" if call["ended_at"] else "gone")
    return text(word, ENDS.get(word, ""))


def mos(call: Json) -> Text:
    return text(None if call["mos"] is None else f"{call['mos']:.2f}", BANDS.get(call["band"] or "", ""))


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f} %"


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f} ms"


def _way(call: Json) -> Text:
    return text(None) if call["relay"] is None else text("relay", "yellow") if call["relay"] else text("direct")


# One call


def call_page(page: Json, now: datetime | None = None) -> Group:
    now = now or datetime.now(UTC)
    return Group(
        _head(page),
        _facts(page, now),
        "",
        *_verdict(page["verdict"]),
        "",
        *_breakdown(page),
        *_graphs(page),
        *_bad_minutes(page["verdict"]),
        Text("Happenings", style="bold"),
        _happenings(page),
    )


def _head(page: Json) -> Panel:
    length = format_seconds(page["seconds"])
    line = Text.assemble(ARROWS.get(page["direction"], "·"), " ", text(page["peer"]), f"   {length}   ")
    line.append_text(ended(page)).append("   MOS ").append_text(mos(page))
    if page["band"]:
        line.append_text(text(f" {page['band']}", BANDS.get(page["band"], "")))
    return Panel(line, title=text(page["call_id"], "bold"), title_align="left", expand=False)


def _facts(page: Json, now: datetime) -> Table:
    path = page["path"] or {}
    facts = (
        ("Device", page["device"]),
        ("Also told of by", ", ".join(leg for leg in page["legs"] if leg != page["device"])),
        ("Started", f"{_moment(page['started_at'])} UTC, {ago(page['started_at'], now)}"),
        ("Ended", _end_words(page)),
        ("Path", _path_words(path) if path else ""),
        ("Codec", page["codec"]),
        ("Not there", _missing_words(page)),
    )
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        if value:
            table.add_row(Text(f"  {name}", style="bright_black"), text(value))
    return table


def _path_words(path: Json) -> str:
    """Which way media goes: its candidates, networks at both ends, and what the device is connected by."""
    near, far = (path.get(name) for name in ("local_address", "remote_address"))
    ends = f"{near} → {far}" if near and far else f"from {near}" if near else f"to {far}" if far else ""
    return ", ".join(str(part) for part in (path_words(path), ends, path.get("network")) if part)


def _moment(at: str) -> str:
    return datetime.fromisoformat(at).strftime("%d %b %H:%M:%S")


def _end_words(page: Json) -> str:
    if not page["ended_at"]:
        return "it goes on" if page["live"] else "not told: the page tells no more"
    return ", ".join(filter(None, (f"{_moment(page['ended_at'])} UTC", page["end"], page["why"])))


def _missing_words(page: Json) -> str:
    told_of = ((page["missing"], "items never came"), (page["dropped"], "items the page had no room for"))
    return ", ".join(f"{number} {words}" for number, words in told_of if number)


def _verdict(verdict: Json) -> Iterator[RenderableType]:
    words, style = VERDICTS.get(verdict["what"], VERDICTS["unknown"])
    yield Text.assemble(("Verdict  ", "bold"), (words, f"bold {style}"))
    yield from _sentences(verdict["evidence"])


def _sentences(evidence: Iterable[str]) -> Iterator[Table]:
    for sentence in evidence:
        line = Table.grid()
        line.add_row("  ", _wrapped(sentence))
        yield line


def _wrapped(value: str, style: str = "") -> Text:
    """Text that may go on in the next line."""
    shown = text(value, style)
    shown.no_wrap, shown.overflow = False, "fold"
    return shown


def _breakdown(page: Json) -> Iterator[RenderableType]:
    """Of the best R what is left, and what delay, loss and codec have cost, as one bar."""
    lost = page["breakdown"]
    if lost is None:
        return
    r = e_model.R_BEST - sum(lost.values())
    parts = (("R", r, BANDS[e_model.band(r)]), ("delay", lost["delay"], "blue"), ("loss", lost["loss"], "magenta"))
    bar, words = Text("  "), Text("  ")
    for name, points, style in (*parts, ("codec", lost["codec"], "cyan")):
        bar.append("█" * round(max(0.0, points) / e_model.R_BEST * BAR), style=style)
        words.append_text(Text.assemble("■ ", (f"{name} {points:.0f}   ", ""), style=style))
    yield Text("Points of R", style="bold")
    yield bar
    yield words
    yield ""


def _graphs(page: Json) -> Iterator[RenderableType]:
    """MOS, round trip and loss of the call, and the device's pings, one below the other on one clock."""
    span = _span(page)
    pings = [(at, at, latency) for at, latency in page["pings"] if span[0] <= at <= span[1]]
    if not page["samples"] and not pings:
        return
    trips, losses = _held(page, 2), _held(page, 4)
    least = Scale(unit="", height=4, floor=1, top=e_model.MOS_BEST, worst=min, style=_mos_style)
    most = Scale(unit="%", height=3, top=min(100, max(2, _top(losses))), style=lambda _: "magenta")
    yield from _graph("MOS", _held(page, 7), span, least)
    yield from _graph("Round trip", trips, span, Scale(height=3, top=_top(trips)))
    yield from _graph("Packets lost", losses, span, most)
    made_up = [(since, until, None if share is None else 100 * share) for since, until, share in _held(page, 8)]
    if any(
        (share or 0) - (lost or 0) >= CONCEALED_TOLD for (*_, share), (*_, lost) in zip(made_up, losses, strict=True)
    ):
        yield from _graph("Made up, of what was played", made_up, span, replace(most, top=min(100, _top(made_up))))
    yield from _graph("OPTIONS latency", pings, span, Scale(height=3, top=_top(pings)))
    if pings:
        yield LostMarks(pings, span)
    edges = [datetime.fromtimestamp(at / 1000, UTC).strftime("%H:%M:%S") for at in span]
    yield Axis(edges[0], f"{edges[1]} UTC")
    yield ""


def _held(page: Json, place: int) -> list[Held]:
    """A figure of each media sample, for as long as that was."""
    return [(point[0] - point[1], point[0], point[place]) for point in page["samples"]]


def _graph(title: str, points: Sequence[Held], span: tuple[int, int], scale: Scale) -> Iterator[RenderableType]:
    yield Text(title, style="bold")
    if all(value is None for *_, value in points):
        yield Text("  not known in this time" if not points else "  none", style="bright_black")
    else:
        yield Graph(points, span, scale)


def _span(page: Json) -> tuple[int, int]:
    """The time of the call, and of what the device did before and after as much as is no longer than half of that."""
    start = epoch_ms(page["started_at"])
    end = max(start + page["seconds"] * 1000, start + 1000)
    known = [at for at, _ in page["pings"]]
    around = (end - start) // 2
    since, until = max(start - around, min(known, default=start)), min(end + around, max(known, default=end))
    return min(start, since), max(end, until)


def _top(points: Iterable[Held]) -> float:
    return math.ceil(max((value for *_, value in points if value is not None), default=0)) or 1


def _mos_style(value: float) -> str:
    """The colour of the band that a MOS is in: those of R at the bounds of the bands."""
    return next((BANDS[name] for least, name in e_model.BANDS if value >= e_model.mos(least) - 0.005), BANDS["bad"])


def _bad_minutes(verdict: Json) -> Iterator[RenderableType]:
    """What each bad minute is blamed on, with what has not been said of the call already."""
    minutes, said = verdict["bad_minutes"], verdict["evidence"]
    if not minutes:
        return
    yield Text("Bad minutes", style="bold")
    table = Table.grid(padding=(0, 2))
    for minute in minutes[:MINUTES_TOLD]:
        at = datetime.fromisoformat(minute["at"]).strftime("%H:%M:%S")
        style = VERDICTS.get(minute["what"], VERDICTS["unknown"])[1]
        own = [sentence for sentence in minute["evidence"] if sentence not in said][:EVIDENCE_TOLD]
        evidence = _wrapped("; ".join(own) or "as above", "bright_black")
        table.add_row(Text(f"  {at}", style="bright_black"), text(minute["what"], style), evidence)
    yield table
    yield from _hidden(len(minutes) - MINUTES_TOLD, "more")
    yield ""


def _happenings(page: Json) -> RenderableType:
    """What happened in the call, and what happened to its device meanwhile, on one clock, the newest first."""
    lines = [(each["at"], each["what"], _fields(each), True) for each in page["happenings"]]
    lines += [(each["at"], each["event"], told(each), False) for each in page["timeline"]]
    if not lines:
        return Text("  none were told of", style="bright_black")
    table = Table.grid(padding=(0, 2))
    for at, what, words, in_call in sorted(lines, key=lambda line: line[0], reverse=True)[:HAPPENINGS_TOLD]:
        style = "yellow" if what in TROUBLE else "" if in_call else "bright_black"
        when = datetime.fromisoformat(at).strftime("%H:%M:%S")
        table.add_row(
            Text(f"  {when}", style="bright_black"),
            Text("call" if in_call else "device", style="bright_black"),
            text(what, style),
            _wrapped(words, "bright_black") if words else "",
        )
    return Group(table, *_hidden(len(lines) - HAPPENINGS_TOLD, "earlier"))


def _hidden(number: int, what: str) -> Iterator[Text]:
    if number > 0:
        yield Text(f"  and {number} {what}: --json has them all", style="bright_black")


def _fields(happening: Json) -> str:
    """What a happening tells besides its time and name, in words."""
    said = happening["fields"]
    if happening["what"] == "path":
        return _path_words(said)
    return ", ".join(_field(name, value) for name, value in said.items())


def _field(name: str, value: Any) -> str:
    """A field as a person says it: `media after 3.4 s`, `state connected`."""
    if name.endswith("_ms") and isinstance(value, int | float):
        return f"{name.removesuffix('_ms')} after {value / 1000:.1f} s"
    if name.endswith("_bps") and isinstance(value, int | float):
        return f"{name.removesuffix('_bps')} {value / 1000:.0f} kbit/s"
    return f"{name} {value}"
