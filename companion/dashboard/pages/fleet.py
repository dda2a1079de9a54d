"""The fleet in one look, kept up to date."""

from typing import Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, source_of
from companion.dashboard.graphs.fleet import draw_history
from companion.dashboard.markup import fleet, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.refresh import Live
from companion.dashboard.source import Source
from companion.query.reader import Reader
from companion.text import Json
from companion.times import WINDOWS_MS, now_ms

LOOK_SECONDS: Final = 3.0
HISTORY_LOOKS: Final = 5
"""The graph is drawn anew with every so many looks: its points are minutes apart."""
WORST: Final = 8
DECISIONS: Final = 5


@ui.page("/")
async def page(request: Request) -> None:
    frame = Frame(request, "Fleet")
    with frame:
        shown = Fleet(source_of(request), devices.window(request.url.query))
    await Live(frame, shown.look, LOOK_SECONDS).begin()


class Fleet:
    """What one viewer sees of the fleet."""

    def __init__(self, source: Source, window: str) -> None:
        self._source = source
        self._window = window
        self._looks = 0
        self._top = Part(tag("h1", "Fleet"), waiting())
        with ui.element("section").classes("card").props("aria-labelledby=history-title"):
            self._head = Part(follows=True)
            self._head.on_go(self._go)
            self._graph = ui.echart({}, renderer="svg").classes("graph tall").props("role=img")
        self._rest = Part()

    async def look(self) -> None:
        answer = await self._source.ask(_look, self._source.reader)
        self._top.show(fleet.title(answer["summary"]), fleet.statuses(answer["summary"]))
        self._head.show(fleet.history_head(answer["summary"], self._window))
        columns = (fleet.worst(answer["worst"]), fleet.remediation(answer["state"], answer["decisions"]))
        self._rest.show(tag("div", *columns, cls="columns even"), fleet.nodes(answer["nodes"]))
        if self._looks % HISTORY_LOOKS == 0:
            await self._draw()
        self._looks += 1

    async def _go(self, text: str) -> None:
        self._window = devices.window(text)
        self._looks = 0
        await self.look()

    async def _draw(self) -> None:
        window_ms = WINDOWS_MS[self._window]
        points = (await self._source.ask(self._source.reader.history, window_ms))["points"]
        now = now_ms()
        self._graph.props["options"] = draw_history(points, (now - window_ms, now))
        self._graph.props["aria-label"] = fleet.history_words(points, self._window)


def _look(reader: Reader) -> Json:
    return {
        "summary": reader.summary(),
        "worst": reader.worst(WORST),
        "nodes": reader.nodes()["nodes"],
        "state": reader.remediation(),
        "decisions": reader.remediations(count=DECISIONS)["remediations"],
    }
