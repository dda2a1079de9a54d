"""The list of devices: what is looked for is in the address, and the list keeps itself up to date."""

from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices as query
from companion.dashboard.frame import Frame, source_of
from companion.dashboard.markup import devices, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.refresh import Live
from companion.dashboard.source import Source
from companion.errors import UsageError
from companion.query.reader import Reader
from companion.text import Json

LOOK_SECONDS: Final = 5.0


@ui.page("/devices")
async def page(request: Request) -> None:
    frame = Frame(request, "Devices")
    with frame:
        shown = Devices(source_of(request), query.read(request.url.query))
    live = Live(frame, shown.look, LOOK_SECONDS)
    shown.on_change = live.look
    await live.begin()


class Devices:
    """What one viewer looks for, and finds."""

    def __init__(self, source: Source, wanted: query.Query) -> None:
        self._source = source
        self._wanted = wanted
        self.on_change = self.look
        self._title = Part(tag("div", tag("h1", "Devices"), cls="title"), follows=True)
        self._title.on_go(self._go)
        self._filters = Part()
        self._list = Part(tag("div", waiting(8), cls="card"))
        for part in (self._filters, self._list):
            part.on_go(self._go)
        self._filters.on_act(self._change)

    async def look(self) -> None:
        wanted = self._wanted
        try:
            answer = await self._source.ask(_look, self._source.reader, wanted)
        except UsageError:  # a cursor of another list, in an address somebody made up
            self._wanted = query.first_page(wanted)
            return
        if wanted is not self._wanted:
            return  # the viewer looks for something else by now
        found = answer["found"]
        self._filters.show(devices.filters(wanted, answer["nodes"], answer["counts"]))
        self._list.show(devices.table(found["devices"], wanted), devices.pager(found, wanted))

    async def _go(self, text: str) -> None:
        self._wanted = query.read(text)
        self._filters.move_to(query.address(self._wanted))
        await self.on_change()

    async def _change(self, name: str, value: Any) -> None:
        changed = query.changed(self._wanted, name, str(value))
        if changed and changed != self._wanted:
            self._wanted = changed
            self._filters.move_to(query.address(changed))
            await self.on_change()


def _look(reader: Reader, wanted: query.Query) -> Json:
    return {
        "found": reader.devices(wanted),
        "nodes": [node["node"] for node in reader.nodes()["nodes"]],
        "counts": reader.summary()["devices"],
    }
