"""The fleet's recent calls, and how they sound; what is looked for is in the address."""

from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters.calls import Filters, find
from companion.dashboard.frame import Frame, source_of
from companion.dashboard.markup import call_quality, calls, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.refresh import Live
from companion.dashboard.source import Source
from companion.errors import UsageError
from companion.query.reader import Reader
from companion.text import Json

LOOK_SECONDS: Final = 5.0


@ui.page("/calls")
async def page(request: Request) -> None:
    frame = Frame(request, "Calls")
    with frame:
        shown = Calls(source_of(request), Filters.read(request.url.query))
    live = Live(frame, shown.look, LOOK_SECONDS)
    shown.on_change = live.look
    await live.begin()


class Calls:
    """What one viewer looks for among the calls."""

    def __init__(self, source: Source, wanted: Filters) -> None:
        self._source = source
        self._wanted = wanted
        self.on_change = self.look
        self._top = Part(calls.title(None), waiting(), follows=True)
        self._filters = Part(calls.filters(wanted))
        self._list = Part(tag("div", waiting(8), cls="card"))
        for part in (self._top, self._filters, self._list):
            part.on_go(self._go)
        self._filters.on_act(self._change)

    async def look(self) -> None:
        wanted = self._wanted
        try:
            answer = await self._source.ask(_look, self._source.reader, wanted)
        except UsageError:  # a cursor that is none, in an address somebody made up
            self._wanted = wanted.at("")
            return
        self._top.show(calls.title(answer["quality"]), call_quality.overview(answer["quality"]))
        if wanted is self._wanted:
            found, following = answer["found"]
            self._filters.show(calls.filters(wanted))
            self._list.show(calls.recent(found, filtered=wanted.any), calls.pager(following, wanted))

    async def _go(self, text: str) -> None:
        await self._want(Filters.read(text))

    async def _change(self, name: str, value: Any) -> None:
        if name == "text":
            await self._want(self._wanted.saying(str(value)))

    async def _want(self, wanted: Filters) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._filters.move_to(wanted.address())
            await self.on_change()


def _look(reader: Reader, wanted: Filters) -> Json:
    return {"quality": reader.media(), "found": find(reader, wanted)}
