"""Show the fleet on one page, kept up to date."""

from typing import Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.graphs.fleet import draw_history
from companion.dashboard.markup import fleet, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.query.reader import Reader
from companion.text import Json
from companion.times import WINDOWS_MS, now_ms

REFRESH_SECONDS: Final = 3.0
HISTORY_EVERY: Final = 5
"""The graph is drawn again with each fifth refresh: its points are minutes apart."""
WORST: Final = 8
DECISIONS: Final = 5


@ui.page("/")
async def show_fleet(request: Request) -> None:
    frame = Frame(request, "Fleet")
    with frame:
        page = FleetPage(threads_of(request), devices.window(request.url.query))
    await keep_fresh(frame, page, REFRESH_SECONDS)


class FleetPage(LivePage):
    """Show one viewer the fleet, with the history of a window."""

    def __init__(self, threads: ReaderThreads, window: str) -> None:
        super().__init__()
        self._threads = threads
        self._window = window
        self._refreshes = 0
        self._top = Part(tag("h1", "Fleet"), waiting())
        with ui.element("section").classes("card").props("aria-labelledby=history-title"):
            self._head = Part(follows=True)
            self._head.on_go(self._go)
            self._graph = ui.echart({}, renderer="svg").classes("graph tall").props("role=img")
        self._rest = Part()

    async def refresh(self) -> None:
        answer = await self._threads.run(_read, self._threads.reader)
        self._top.show(fleet.title(answer["summary"]), fleet.statuses(answer["summary"]))
        self._head.show(fleet.history_head(answer["summary"], self._window))
        columns = (fleet.worst(answer["worst"]), fleet.remediation(answer["state"], answer["decisions"]))
        self._rest.show(tag("div", *columns, cls="columns even"), fleet.nodes(answer["nodes"]))
        if self._refreshes % HISTORY_EVERY == 0:
            await self._draw()
        self._refreshes += 1

    async def _go(self, query: str) -> None:
        self._window = devices.window(query)
        self._refreshes = 0
        await self.on_change()

    async def _draw(self) -> None:
        window_ms = WINDOWS_MS[self._window]
        points = (await self._threads.run(self._threads.reader.history, window_ms))["points"]
        now = now_ms()
        self._graph.props["options"] = draw_history(points, (now - window_ms, now))
        self._graph.props["aria-label"] = fleet.history_words(points, self._window)


def _read(reader: Reader) -> Json:
    return {
        "summary": reader.summary(),
        "worst": reader.worst(WORST),
        "nodes": reader.nodes()["nodes"],
        "state": reader.remediation(),
        "decisions": reader.remediations(count=DECISIONS)["remediations"],
    }
