"""Draw the thin strips of a call: marks for happenings, and blocks for stretches of time."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from companion.dashboard.graphs.axes import Options, Window, line
from companion.times import MINUTE_MS

LETTER: Final = 0.027
"""The part of the graph's width that a letter takes on a phone: words stand where there is room for them there, too."""
ROWS: Final = 5
NEAR: Final = 0.01
"""The tooltip shows a mark when the pointer is within this part of the window from it."""
LATE: Final = 0.6
"""Behind this part of the window the words of a mark stand before it."""
STEP_MS: Final = MINUTE_MS
SHAPES: Final = {
    "path": "diamond",
    "restart": "triangle",
    "network": "path://M4 0h4v4h4v4H8v4H4V8H0V4h4z",
    "limit": "rect",
    "switch-over": "circle",
}


class Marked(NamedTuple):
    """Represent a mark at a time (epoch ms): its kind, and our words for it."""

    at: int
    kind: str
    words: str


class Block(NamedTuple):
    """Represent a stretch of a strip: since, until, colour, and a word that is shown where there is room."""

    since: int
    until: int
    colour: str
    word: str = ""


def in_rows(marks: Sequence[Marked], window: Window) -> list[list[Marked]]:
    """Spread marks over rows so that their words do not overlap, except in the last of ROWS."""
    rows: list[list[Marked]] = []
    ends: list[float] = []
    for mark in marks:
        first, last = _extent(mark, window)
        row = next((n for n, end in enumerate(ends) if end <= first), len(rows))
        if row == len(rows) < ROWS:
            rows.append([])
            ends.append(last)
        row = min(row, ROWS - 1)
        rows[row].append(mark)
        ends[row] = last
    return rows


def _extent(mark: Marked, window: Window) -> tuple[float, float]:
    """Return which part of the window a mark covers with its words."""
    place, room = _place(mark.at, window), LETTER * (len(mark.words) + 3)
    return (place - room, place) if place > LATE else (place, place + room)


def _place(at: int, window: Window) -> float:
    return (at - window[0]) / (window[1] - window[0])


def marked(row: Sequence[Marked], window: Window) -> Options:
    """Draw a row of marks, each with its words beside it."""
    reach = round(NEAR * (window[1] - window[0]))
    data = tuple(
        {
            "value": (mark.at, 0.5, mark.words, reach),
            "symbol": SHAPES[mark.kind],
            "label": {"formatter": mark.words, "position": "left" if _place(mark.at, window) > LATE else "right"},
        }
        for mark in row
    )
    return {
        "name": "Here:",
        "type": "scatter",
        "symbolSize": 9,
        "itemStyle": {"color": "var(--accent)"},
        "label": {"show": True, "color": "var(--ink)", "fontSize": 12},
        "labelLayout": {"hideOverlap": True},
        "emphasis": {"disabled": True},
        "data": data,
    }


def blocks(stretches: Sequence[Block], window: Window) -> Options:
    """Draw a strip of blocks; the tooltip shows the word of the block under the pointer."""
    since, until = window
    visible = [
        block._replace(since=max(block.since, since), until=min(block.until, until))
        for block in stretches
        if block.until > since and block.since < until
    ]
    words = tuple((at, 0.5, block.word, STEP_MS // 2) for block in visible if block.word for at in _steps(block))
    areas = {"silent": True, "data": tuple(_area(block, window) for block in visible)}
    return line("Bad minute:", words, symbol=False) | {"lineStyle": {"opacity": 0}, "markArea": areas}


def _steps(block: Block) -> range:
    """Return times within a block, so close to each other that a pointer on the block is near one."""
    return range(min(block.since + STEP_MS // 2, block.until), block.until + 1, STEP_MS)


def _area(block: Block, window: Window) -> tuple[Options, Options]:
    colour = f"var({block.colour})"
    room = (block.until - block.since) / (window[1] - window[0])
    label = {"show": room > LETTER * len(block.word), "position": "inside", "formatter": block.word, "color": colour}
    style = {"color": colour, "opacity": 0.25 if block.word else 0.8}
    return (
        {"xAxis": block.since, "yAxis": 0, "itemStyle": style, "label": label | {"fontSize": 12}},
        {"xAxis": block.until, "yAxis": 1},
    )
