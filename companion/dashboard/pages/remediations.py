"""What remediation decided and why; and the switch that holds it, for who may operate."""

from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion import log
from companion.dashboard.filters.remediations import Filters, find
from companion.dashboard.frame import Frame, source_of
from companion.dashboard.markup import remediations, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.refresh import Live
from companion.dashboard.source import Source
from companion.query.reader import Reader
from companion.text import Json

LOOK_SECONDS: Final = 3.0
SECONDS: Final = frozenset(seconds for seconds, _ in remediations.PAUSES)

logger = log.get(__name__)


@ui.page("/remediations")
async def page(request: Request) -> None:
    frame = Frame(request, "Remediations")
    with frame:
        shown = Remediations(source_of(request), frame, Filters.read(request.url.query))
    live = Live(frame, shown.look, LOOK_SECONDS)
    shown.on_change = live.look
    await live.begin()


class Remediations:
    """What one viewer looks for among the decisions, and the dialog that is open."""

    def __init__(self, source: Source, frame: Frame, wanted: Filters) -> None:
        self._source = source
        self._frame = frame
        self._wanted = wanted
        self.on_change = self.look
        self._title = Part(tag("div", tag("h1", "Remediations"), cls="title"), follows=True)
        self._state = Part(waiting())
        self._filters = Part(remediations.filters(wanted))
        self._list = Part(tag("div", waiting(8), cls="card"))
        self._dialog = Part()
        for part in (self._title, self._filters, self._list):
            part.on_go(self._go)
        self._filters.on_act(self._change)
        for part in (self._state, self._dialog):
            part.on_act(self._act)

    async def look(self) -> None:
        wanted = self._wanted
        answer = await self._source.ask(_look, self._source.reader, wanted)
        self._state.show(remediations.state(answer["state"], may_operate=self._frame.may_operate()))
        if wanted is self._wanted:
            self._filters.show(remediations.filters(wanted))
            found, following = answer["found"]
            self._list.show(remediations.decisions(found, filtered=wanted.any), remediations.pager(following, wanted))

    async def _go(self, text: str) -> None:
        self._wanted = Filters.read(text)
        self._filters.move_to(self._wanted.address())
        await self.on_change()

    async def _change(self, name: str, value: Any) -> None:
        changed = self._wanted.changed(name, str(value))
        if changed != self._wanted:
            self._wanted = changed
            self._filters.move_to(changed.address())
            await self.on_change()

    async def _act(self, name: str, value: Any) -> None:
        """What is pressed; the browser may say anything, so who may do it is asked here and now."""
        self._dialog.show()
        if not self._frame.may_operate():
            return
        if name == "ask-pause":
            self._dialog.show(remediations.pause_dialog())
        elif name == "ask-resume":
            self._dialog.show(remediations.resume_dialog())
        elif name == "pause":
            await self._pause(value)
        elif name == "resume":
            await self._source.ask(self._source.reader.resume)
            logger.info("remediation was resumed", by=self._frame.viewer)
            await self.on_change()

    async def _pause(self, value: Any) -> None:
        said = str(value.get("seconds", "")) if isinstance(value, dict) else ""
        if said.isdecimal() and int(said) in SECONDS:
            await self._source.ask(self._source.reader.pause, int(said))
            logger.info("remediation was paused", seconds=int(said), by=self._frame.viewer)
            await self.on_change()


def _look(reader: Reader, wanted: Filters) -> Json:
    return {"state": reader.remediation(), "found": find(reader, wanted)}
