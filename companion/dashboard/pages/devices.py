"""Show the list of devices; the filters are in the address."""

from typing import Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filter_bar import FilterBar, FilterCodec
from companion.dashboard.filters import devices as device_filters
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.markup import devices, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.errors import UsageError
from companion.query.listing import Query
from companion.query.reader import Reader
from companion.text import Json

REFRESH_SECONDS: Final = 5.0
CODEC: Final = FilterCodec(device_filters.read, device_filters.address, device_filters.changed)


@ui.page("/devices")
async def show_devices(request: Request) -> None:
    frame = Frame(request, "Devices")
    with frame:
        page = DevicesPage(threads_of(request), device_filters.read(request.url.query))
    await keep_fresh(frame, page, REFRESH_SECONDS)


class DevicesPage(LivePage):
    """Show one viewer the devices that fit the filters."""

    def __init__(self, threads: ReaderThreads, query: Query) -> None:
        super().__init__()
        self._threads = threads
        title = Part(tag("div", tag("h1", "Devices"), cls="title"), follows=True)
        self._bar = FilterBar(self, CODEC, query, Part())
        self._list = Part(tag("div", waiting(8), cls="card"))
        self._bar.take_links(title, self._list)

    async def refresh(self) -> None:
        query = self._bar.filters
        try:
            answer = await self._threads.run(_read, self._threads.reader, query)
        except UsageError:  # the address holds a cursor that we never gave, or of another query
            self._bar.filters = device_filters.first_page(query)
            return
        if query is self._bar.filters:  # else the viewer has chosen others meanwhile
            page = answer["page"]
            self._bar.part.show(devices.filter_fields(query, answer["nodes"], answer["counts"]))
            self._list.show(devices.device_table(page["devices"], query), devices.list_pager(page, query))


def _read(reader: Reader, query: Query) -> Json:
    return {
        "page": reader.devices(query),
        "nodes": [node["node"] for node in reader.nodes()["nodes"]],
        "counts": reader.summary()["devices"],
    }
