"""Show one call while it lasts and for a week afterwards: how it sounded, and what made it sound bad."""

import time
from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.graphs.axes import Window
from companion.dashboard.graphs.call import CallPlot, draw_call
from companion.dashboard.markup import Markup, call, call_details, call_graph, call_minutes, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.markup.happenings import select_marks
from companion.dashboard.markup.trace import call_trace
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.errors import NoSuchCallError, SeveralCallsError
from companion.text import Json
from companion.times import DAY_MS, MINUTE_MS, epoch_ms, now_ms

REFRESH_SECONDS: Final = 1.0
LIVE_SECONDS: Final = 2.0
"""How often a live call is read: its browser reports every five seconds."""
SILENT_SECONDS: Final = 4.0
"""How often a call is read that has no end and no new reports: its device may be offline, and report later."""
OVER_SECONDS: Final = 15.0
"""How often a call is read that has ended: a browser may repeat a report that was lost."""
MAX_SHARE_OF_TIME: Final = 0.1
"""Reading takes at most this share of the time: a call of hours is much to read."""
MARGIN: Final = 0.04
LEAST_MARGIN_MS: Final = 10_000
AROUND_MINUTE_MS: Final = 30_000
LONGEST_MS: Final = DAY_MS
"""Of a call that began, as its browser says, longer before its first sample than this, only this much is drawn."""


@ui.page("/calls/{name:path}")
async def show_call(request: Request, name: str) -> None:
    frame = Frame(request, "Call")
    with frame:
        page = CallPage(threads_of(request), frame, name, request.url.query)
    await keep_fresh(frame, page, REFRESH_SECONDS)


class CallPage(LivePage):
    """Show one viewer a call; `query` is the part of the address behind its ?."""

    def __init__(self, threads: ReaderThreads, frame: Frame, call_id: str, query: str) -> None:
        super().__init__()
        self._threads = threads
        self._frame = frame
        self._call_id = call_id
        self._device = devices.fields(query).get("device", [""])[0]
        self._minute = _minute(query)
        self._page: Json | None = None
        self._trace: Json = {"steps": []}
        self._next_at = 0.0
        self._everything = False
        self._make_parts()

    def _make_parts(self) -> None:
        self._top = Part(tag("h1", "Call"), waiting(), follows=True)
        self._section = ui.element("section").classes("card").props("aria-labelledby=clock-title id=clock")
        self._section.set_visibility(False)
        with self._section:
            self._figures = Part()
            self._graph = ui.echart({}, renderer="svg").classes("graph clock").props("role=img")
            self._keys = Part()
        self._rest = Part()
        for part in (self._top, self._figures, self._rest):
            part.on_go(self._go)
        self._rest.on_act(self._act)

    async def refresh(self) -> None:
        """Read the call again, and show it, if it is time to."""
        if time.monotonic() < self._next_at:
            return
        began = time.monotonic()
        try:
            self._page = await self._threads.run(self._threads.reader.call, self._call_id, self._device)
        except NoSuchCallError:
            self._show_instead(call.no_call(self._call_id), status=404)
        except SeveralCallsError as error:
            self._show_instead(call.choice(self._call_id, error.devices), status=300)
        else:
            self._trace = await self._threads.run(self._threads.reader.call_trace, self._call_id)
            self._show()
        took = time.monotonic() - began
        self._next_at = time.monotonic() + max(_pause(self._page), took / MAX_SHARE_OF_TIME)

    def _show(self) -> None:
        page = self._page
        if not page:
            return
        self._device = page["device"]
        self._section.set_visibility(True)
        self._top.show(call.title(page), call.legs(page), call.overview(page))
        self._draw(page)
        details = call_details.columns(page, self._minute, everything=self._everything)
        trace = call_trace(self._trace, page["device"], self._call_id)
        self._rest.show(details, call_minutes.minutes(page), *([trace] if trace else []))

    def _draw(self, page: Json) -> None:
        config = self._threads.config
        extent = _extent(page, now_ms())
        window = _window(extent, self._minute, live=page["live"])
        drawing = draw_call(page, CallPlot(window, extent, config.quality.bounds, config.pings.interval_ms))
        nothing = call_graph.nothing_measured() if not page["samples"] else None
        self._figures.show(call_graph.graph_head(page, self._minute), call_graph.statistics(page), nothing)
        self._graph.set_visibility(bool(page["samples"] or page["pings"]))
        self._graph.props["options"] = drawing.options
        self._graph.props["aria-label"] = call_graph.graph_words(page)
        self._graph.style(f"height: {drawing.height}px")
        self._keys.show(call_graph.graph_keys([mark.kind for _, mark in select_marks(page["happenings"])]))

    def _show_instead(self, content: Markup, status: int) -> None:
        """Show something else where there is not one such call."""
        self._page = None
        self._frame.answer(status)
        self._section.set_visibility(False)
        self._top.show(content)
        self._rest.show()

    async def _go(self, query: str) -> None:
        device = devices.fields(query).get("device", [self._device])[0]
        self._minute = _minute(query)
        if device == self._device:
            self._show()
            return
        self._device, self._next_at = device, 0.0
        await self.on_change()

    def _act(self, name: str, _: Any) -> None:
        if name == "everything":
            self._everything = True
            self._show()


def _pause(page: Json | None) -> float:
    """Return after how many seconds to read the call again."""
    if page and not page["end"]:
        return LIVE_SECONDS if page["live"] else SILENT_SECONDS
    return OVER_SECONDS


def _minute(query: str) -> int:
    """Read which minute (epoch ms) an address shows; 0 for the whole call."""
    text = devices.fields(query).get("minute", [""])[0]
    return int(text) if text.isdecimal() and len(text) <= 14 else 0


def _extent(page: Json, now: int) -> Window:
    """Return when the call began and ended; measurements decide, for a browser may claim any time."""
    began, ended = epoch_ms(page["started_at"]), epoch_ms(page["ended_at"]) if page["ended_at"] else 0
    samples = page["samples"]
    first, last = (samples[0][0] - samples[0][1], samples[-1][0]) if samples else (began, began)
    if page["live"]:
        ended = max(now, last)
    elif not last <= ended <= last + LONGEST_MS:
        ended = last
    return (began if first - LONGEST_MS <= began <= first else first), max(ended, first + 1)


def _window(extent: Window, minute: int, *, live: bool) -> Window:
    """Return the window of the graph: a minute and its surroundings, or the call with a margin."""
    if minute:
        return minute - AROUND_MINUTE_MS, minute + MINUTE_MS + AROUND_MINUTE_MS
    margin = max(LEAST_MARGIN_MS, round(MARGIN * (extent[1] - extent[0])))
    return extent[0] - margin, extent[1] if live else extent[1] + margin
