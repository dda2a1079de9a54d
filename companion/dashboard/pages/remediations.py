"""Show what remediation decided and why, and the switch that pauses it for viewers who may operate."""

from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion import log
from companion.dashboard.filter_bar import FilterBar, FilterCodec
from companion.dashboard.filters.remediations import DecisionFilters, find_decisions
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.markup import remediations, tag
from companion.dashboard.markup.frame import waiting
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.errors import NotReplicatedError
from companion.query.reader import Reader
from companion.text import Json

REFRESH_SECONDS: Final = 3.0
PAUSE_SECONDS: Final = frozenset(seconds for seconds, _ in remediations.PAUSES)
CODEC: Final = FilterCodec(DecisionFilters.read, DecisionFilters.address, DecisionFilters.changed)

logger = log.get(__name__)


@ui.page("/remediations")
async def show_remediations(request: Request) -> None:
    frame = Frame(request, "Remediations")
    with frame:
        page = RemediationsPage(threads_of(request), frame, DecisionFilters.read(request.url.query))
    await keep_fresh(frame, page, REFRESH_SECONDS)


class RemediationsPage(LivePage):
    """Show one viewer the state of remediation, the decisions that fit the filters, and a dialog when one is open."""

    def __init__(self, threads: ReaderThreads, frame: Frame, filters: DecisionFilters) -> None:
        super().__init__()
        self._threads = threads
        self._frame = frame
        title = Part(tag("div", tag("h1", "Remediations"), cls="title"), follows=True)
        self._state = Part(waiting())
        self._bar = FilterBar(self, CODEC, filters, Part(remediations.filter_fields(filters)))
        self._list = Part(tag("div", waiting(8), cls="card"))
        self._dialog = Part()
        self._bar.take_links(title, self._list)
        for part in (self._state, self._dialog):
            part.on_act(self._act)

    async def refresh(self) -> None:
        filters = self._bar.filters
        answer = await self._threads.run(_read, self._threads.reader, filters)
        self._state.show(remediations.state(answer["state"], may_operate=self._frame.may_operate()))
        if filters is self._bar.filters:  # else the viewer has chosen others meanwhile
            rows, following = answer["page"]
            self._bar.part.show(remediations.filter_fields(filters))
            decisions = remediations.decisions(rows, filtered=filters.any)
            self._list.show(decisions, remediations.list_pager(following, filters))

    async def _act(self, name: str, value: Any) -> None:
        """Handle what is pressed; a browser may send anything, so the permission is checked here."""
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
            await self._threads.run(self._threads.reader.resume)
            logger.info("remediation was resumed", by=self._frame.viewer)
            await self.on_change()

    async def _pause(self, fields: Any) -> None:
        seconds = str(fields.get("seconds", "")) if isinstance(fields, dict) else ""
        if not seconds.isdecimal() or int(seconds) not in PAUSE_SECONDS:
            return
        try:
            await self._threads.run(self._threads.reader.pause, int(seconds))
        except NotReplicatedError as error:
            self._dialog.show(remediations.doubt_dialog(error))
        logger.info("remediation was paused", seconds=int(seconds), by=self._frame.viewer)
        await self.on_change()


def _read(reader: Reader, filters: DecisionFilters) -> Json:
    return {"state": reader.remediation(), "page": find_decisions(reader, filters)}
