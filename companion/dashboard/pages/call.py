"""One call, while it goes on and for a week afterwards: how it sounded, and whose fault it was."""

import time
from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, source_of
from companion.dashboard.graphs.axes import Window
from companion.dashboard.graphs.call import CallPlot, draw_call
from companion.dashboard.markup import call, call_details, call_graph, call_minutes, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.markup.happenings import marks
from companion.dashboard.part import Part
from companion.dashboard.refresh import Live
from companion.dashboard.source import Source
from companion.errors import NoSuchCallError, SeveralCallsError
from companion.text import Json
from companion.times import DAY_MS, MINUTE_MS, epoch_ms, now_ms

LOOK_SECONDS: Final = 1.0
LIVE_SECONDS: Final = 2.0
"""A call that goes on is read so often: its page reports every five seconds."""
SILENT_SECONDS: Final = 4.0
"""One that nobody tells of any more: its device may be offline, and tell later."""
OVER_SECONDS: Final = 15.0
"""One that is over: what was lost on the way may still be told again."""
MOST_OF_THE_TIME: Final = 0.1
"""Reading takes at most this part of it: a call of hours is much to read."""
MARGIN: Final = 0.04
LEAST_MARGIN_MS: Final = 10_000
AROUND_MINUTE_MS: Final = 30_000
LONGEST_MS: Final = DAY_MS
"""Of a call whose browser says that it began longer ago than that before its first media sample, so much is drawn."""


@ui.page("/calls/{name:path}")
async def page(request: Request, name: str) -> None:
    frame = Frame(request, "Call")
    with frame:
        shown = Call(source_of(request), frame, name, request.url.query)
    live = Live(frame, shown.look, LOOK_SECONDS)
    shown.on_change = live.look
    await live.begin()


class Call:
    """What one viewer sees of a call; `asked` is the address behind its ?."""

    def __init__(self, source: Source, frame: Frame, call_id: str, asked: str) -> None:
        self._source = source
        self._frame = frame
        self._call_id = call_id
        self._device = devices.fields(asked).get("device", [""])[0]
        self._minute = _minute(asked)
        self._page: Json | None = None
        self._next_at = 0.0
        self._everything = False
        self.on_change = self.look
        self._make()

    def _make(self) -> None:
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

    async def look(self) -> None:
        """See whether it is time to read it again, and if so show what there is by now."""
        if time.monotonic() < self._next_at:
            return
        began = time.monotonic()
        try:
            self._page = await self._source.ask(self._source.reader.call, self._call_id, self._device)
        except NoSuchCallError:
            self._lose(call.no_call(self._call_id))
        except SeveralCallsError as error:
            self._lose(call.choice(self._call_id, error.devices), status=300)
        else:
            self._show()
        took = time.monotonic() - began
        self._next_at = time.monotonic() + max(_pause(self._page), took / MOST_OF_THE_TIME)

    def _show(self) -> None:
        if not self._page:
            return
        told = self._page
        self._device = told["device"]
        self._section.set_visibility(True)
        self._top.show(call.title(told), call.legs(told), call.overview(told))
        self._draw(told)
        rest = call_details.columns(told, self._minute, everything=self._everything)
        self._rest.show(rest, call_minutes.minutes(told))

    def _draw(self, told: Json) -> None:
        config = self._source.config
        call = _extent(told, now_ms())
        plot = CallPlot(
            _window(call, self._minute, live=told["live"]), call, config.quality.bounds, config.pings.interval_ms
        )
        drawing = draw_call(told, plot)
        nothing = call_graph.nothing_measured() if not told["samples"] else None
        self._figures.show(call_graph.graph_head(told, self._minute), call_graph.statistics(told), nothing)
        self._graph.set_visibility(bool(told["samples"] or told["pings"]))
        self._graph.props["options"] = drawing.options
        self._graph.props["aria-label"] = call_graph.graph_words(told)
        self._graph.style(f"height: {drawing.height}px")
        self._keys.show(call_graph.graph_keys([mark.kind for _, mark in marks(told["happenings"])]))

    def _lose(self, said: Any, status: int = 404) -> None:
        self._page = None
        self._frame.answer(status)
        self._section.set_visibility(False)
        self._top.show(said)
        self._rest.show()

    async def _go(self, text: str) -> None:
        device = devices.fields(text).get("device", [self._device])[0]
        self._minute = _minute(text)
        if device == self._device:
            self._show()
            return
        self._device, self._next_at = device, 0.0
        await self.on_change()

    def _act(self, name: str, _: Any) -> None:
        if name == "everything":
            self._everything = True
            self._show()


def _pause(told: Json | None) -> float:
    """After how many seconds to read it again."""
    if told and not told["end"]:
        return LIVE_SECONDS if told["live"] else SILENT_SECONDS
    return OVER_SECONDS


def _minute(text: str) -> int:
    """The minute (epoch ms) that an address asks to see; 0 for the whole call."""
    said = devices.fields(text).get("minute", [""])[0]
    return int(said) if said.isdecimal() and len(said) <= 14 else 0


def _extent(told: Json, now: int) -> Window:
    """From and until when the call was; a browser may claim anything, so what it measured goes before."""
    began, ended = epoch_ms(told["started_at"]), epoch_ms(told["ended_at"]) if told["ended_at"] else 0
    samples = told["samples"]
    first, last = (samples[0][0] - samples[0][1], samples[-1][0]) if samples else (began, began)
    if told["live"]:
        ended = max(now, last)
    elif not last <= ended <= last + LONGEST_MS:
        ended = last
    return (began if first - LONGEST_MS <= began <= first else first), max(ended, first + 1)


def _window(call: Window, minute: int, *, live: bool) -> Window:
    """What the graph shows: a minute and what is around it, or the call with a margin."""
    if minute:
        return minute - AROUND_MINUTE_MS, minute + MINUTE_MS + AROUND_MINUTE_MS
    margin = max(LEAST_MARGIN_MS, round(MARGIN * (call[1] - call[0])))
    return call[0] - margin, call[1] if live else call[1] + margin
