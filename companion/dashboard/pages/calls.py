"""Show the fleet's recent calls and how they sound; the filters are in the address."""

from typing import Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filter_bar import FilterBar, FilterCodec
from companion.dashboard.filters.calls import CallFilters, find_calls
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.markup import call_quality, calls, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.errors import UsageError
from companion.query.reader import Reader
from companion.text import Json

REFRESH_SECONDS: Final = 5.0
CODEC: Final = FilterCodec(CallFilters.read, CallFilters.address, CallFilters.changed)


@ui.page("/calls")
async def show_calls(request: Request) -> None:
    frame = Frame(request, "Calls")
    with frame:
        page = CallsPage(threads_of(request), CallFilters.read(request.url.query))
    await keep_fresh(frame, page, REFRESH_SECONDS)


class CallsPage(LivePage):
    """Show one viewer the calls that fit the filters."""

    def __init__(self, threads: ReaderThreads, filters: CallFilters) -> None:
        super().__init__()
        self._threads = threads
        self._top = Part(calls.title(None), waiting(), follows=True)
        self._bar = FilterBar(self, CODEC, filters, Part(calls.filter_fields(filters)))
        self._list = Part(tag("div", waiting(8), cls="card"))
        self._bar.take_links(self._top, self._list)

    async def refresh(self) -> None:
        filters = self._bar.filters
        try:
            answer = await self._threads.run(_read, self._threads.reader, filters)
        except UsageError:  # the address holds a cursor that we never gave
            self._bar.filters = filters.at("")
            return
        self._top.show(calls.title(answer["quality"]), call_quality.overview(answer["quality"]))
        if filters is self._bar.filters:  # else the viewer has chosen others meanwhile
            rows, following = answer["page"]
            self._bar.part.show(calls.filter_fields(filters))
            self._list.show(calls.recent(rows, filtered=filters.any), calls.list_pager(following, filters))


def _read(reader: Reader, filters: CallFilters) -> Json:
    return {"quality": reader.media(), "page": find_calls(reader, filters)}
