"""Draw a trace as a ladder for a terminal."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from companion.cli.screens.text import ago, text
from companion.text import Json, printable

TIME_WIDTH: Final = 14
MIN_GAP: Final = 20
MAX_GAP: Final = 34


def render_recordings(recordings: Sequence[Json], now: datetime | None = None) -> RenderableType:
    """Render a line for each recording."""
    now = now or datetime.now(UTC)
    if not recordings:
        return Text("nothing is recorded", style="bright_black")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("DEVICE", "BY", "STARTED", "ENDS", "MESSAGES"):
        table.add_column(name, justify="right" if name == "MESSAGES" else "left")
    for one in recordings:
        started, ends = ago(one["started_at"], now), ago(one["ends_at"], now)
        table.add_row(text(one["device"]), text(one["by"]), text(started), text(ends), text(one["messages"]))
    return table


def render_trace(trace: Json, *, texts: bool = False, now: datetime | None = None) -> RenderableType:
    """Render the ladder of a trace, with each message in full below its step where `texts` is set."""
    return Group(*_render_head(trace, now or datetime.now(UTC)), LadderDrawing(trace, texts=texts))


def _render_head(trace: Json, now: datetime) -> Iterator[Text]:
    recording = trace["recording"]
    if recording:
        line = f"Recording, ends {ago(recording['ends_at'], now)}, started by {printable(recording['by'])}"
        yield Text(line, style="green")
    else:
        yield Text("Not recorded now: `companion trace start ID` starts a recording", style="bright_black")
    if trace["cut"]:
        yield Text(f"Only the last {len(trace['steps'])} messages are shown: the trace is too large", style="yellow")
    if trace["explanation"]:
        yield Text(printable(trace["explanation"]["text"]), style="bold red")
    if trace["shared"]:
        yield Text("? may be a message of another device of the same AOR", style="yellow")


class LadderDrawing:
    """Draw the participants as lines from top to bottom, and each step as an arrow between two of them."""

    def __init__(self, trace: Json, *, texts: bool) -> None:
        self._trace = trace
        self._texts = texts

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        participants = self._trace["participants"]
        if not self._trace["steps"]:
            yield Text("no messages", style="bright_black")
            return
        gaps = max(1, len(participants) - 1)
        gap = max(MIN_GAP, min(MAX_GAP, (options.max_width - TIME_WIDTH - 24) // gaps))
        yield Text(" " * TIME_WIDTH + "".join(_cut(one["name"], gap) for one in participants), style="bold")
        addresses = [", ".join(one["addresses"]) or "–" for one in participants]
        yield Text(" " * TIME_WIDTH + "".join(_cut(one, gap) for one in addresses), style="bright_black")
        for step in self._trace["steps"]:
            yield _draw_step(step, len(participants), gap)
            if self._texts:
                yield Text("\n".join(f"    {printable(line)}" for line in step["text"].splitlines()) + "\n")


def _cut(words: str, width: int) -> str:
    """Return a text of exactly this width."""
    words = printable(words)
    return (words if len(words) < width else f"{words[: width - 2]}…").ljust(width)


def _draw_step(step: Json, columns: int, gap: int) -> Text:
    """Return the line of one step: the time, then an arrow between two lines."""
    row = list("│".ljust(gap) * (columns - 1) + "│")
    first, last = sorted((step["from"] * gap, step["to"] * gap))
    row[first + 1 : last] = _arrow(_label(step), last - first - 1, rightwards=step["to"] > step["from"])
    style = "bold red" if step["failed"] else "bright_black" if step["repeat"] else ""
    return Text.assemble((f"{step['at'][11:23]}".ljust(TIME_WIDTH), "bright_black"), ("".join(row), style))


def _label(step: Json) -> str:
    of_method = "" if step["label"] == step["method"] else f" ({step['method']})"
    words = f"{step['label']}{of_method}{' repeated' if step['repeat'] else ''}{' ?' if step['shared'] else ''}"
    return printable(words)


def _arrow(label: str, width: int, *, rightwards: bool) -> str:
    room = max(0, width - 4)
    words = label if len(label) <= room else f"{label[: max(0, room - 1)]}…"
    shaft = f" {words} ".center(width - 1, "─")
    return f"{shaft}▶" if rightwards else f"◀{shaft}"
