"""Show the SIP messages of one device as a ladder, live while it is recorded, and let operators record it."""

import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.markup import tag, trace
from companion.dashboard.markup.frame import no_device, waiting
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.errors import CanNotRecordError, NoSuchDeviceError, SeveralDevicesError, UsageError
from companion.recording.recordings import DEFAULT_MINUTES
from companion.text import Json

REFRESH_SECONDS: Final = 1.0
REREAD_SECONDS: Final = 30.0
MAX_SHARE_OF_TIME: Final = 0.1
"""Reading takes at most this share of the time: a long trace is much to read."""
MAX_STEPS: Final = 200
"""Steps that are sent to the browser before somebody asks for all."""
MAX_OPENED: Final = 20
MAX_TEXT: Final = 1024


@ui.page("/traces/{name:path}")
async def show_trace(request: Request, name: str) -> None:
    frame = Frame(request, f"SIP trace of {name.rpartition('/')[0] or name}")
    with frame:
        page = TracePage(threads_of(request), frame, name, request.url.query)
    await keep_fresh(frame, page, REFRESH_SECONDS)


class TracePage(LivePage):
    """Show one viewer the trace of a device; `query` is the part of the address behind its ?."""

    def __init__(self, threads: ReaderThreads, frame: Frame, name: str, query: str) -> None:
        super().__init__()
        self._threads = threads
        self._frame = frame
        self._name = name
        self._method = ""
        self._call_id = devices.fields(query).get("call", [""])[0][:MAX_TEXT]
        self._minutes = DEFAULT_MINUTES
        self._refusal: tuple[str, str] | None = None
        self._opened: set[int] = set()
        self._everything = self._is_busy = False
        self._extent: tuple[int, int, int] | None = None
        self._read_at = self._next_at = 0.0
        self._top = Part(tag("h1", "SIP trace"), waiting())
        self._recording, self._choices, self._explanation, self._ladder = (Part() for _ in range(4))
        for part in (self._recording, self._choices, self._ladder):
            part.on_act(self._act)

    async def refresh(self) -> None:
        """Read the trace again when there is a new message, or its recording began or ended."""
        if time.monotonic() < self._next_at:
            return
        began = time.monotonic()
        try:
            extent = await self._threads.run(self._threads.reader.trace_extent, self._name)
            if extent == self._extent and time.monotonic() - self._read_at < REREAD_SECONDS:
                return
            page = await self._threads.run(self._threads.reader.trace, self._name, self._method, self._call_id)
            if page["device"] != self._name:  # it was called by its AOR or its instance
                self._name = page["device"]
                extent = await self._threads.run(self._threads.reader.trace_extent, self._name)
            self._extent, self._read_at = extent, time.monotonic()
            self._show(page)
            self._next_at = time.monotonic() + (time.monotonic() - began) / MAX_SHARE_OF_TIME
        except NoSuchDeviceError:
            self._show_missing()
        except SeveralDevicesError as error:
            self._show_missing(error.devices)

    def _show(self, page: Json) -> None:
        steps = page["steps"]
        hidden = 0 if self._everything else max(0, len(steps) - MAX_STEPS)
        self._top.show(trace.title(page["device"], is_recording=bool(page["recording"])))
        may_operate = self._frame.may_operate()
        self._recording.show(trace.recording(page, self._minutes, may_operate=may_operate, refusal=self._refusal))
        self._choices.show(trace.choices(page, self._method, self._call_id))
        self._explanation.show(trace.explanation(page))
        self._ladder.show(trace.ladder({**page, "steps": steps[hidden:]}, frozenset(self._opened), hidden=hidden))

    def _show_missing(self, candidates: Sequence[str] = ()) -> None:
        """Show that no device has this name, or that several have it."""
        self._frame.answer(404)
        self._top.show(no_device(self._name, candidates))
        for part in (self._recording, self._choices, self._explanation, self._ladder):
            part.show()

    async def _act(self, name: str, value: Any) -> None:
        """Handle what is pressed or chosen; a browser may send anything."""
        text = str(value)[:MAX_TEXT]
        if name in ("record", "stop"):
            await self._record(name)
        elif name == "minutes" and text.isdecimal() and int(text) in trace.MINUTES:
            self._minutes = int(text)
            return
        elif name == "method":
            self._method = text
        elif name == "call":
            self._call_id = text
        elif name == "everything":
            self._everything = True
        elif name == "step" and text.isdecimal():
            self._toggle(int(text))
        await self._reread()

    def _toggle(self, number: int) -> None:
        """Show or hide the text of a message; of too many the first is hidden."""
        if number in self._opened:
            self._opened.discard(number)
        else:
            if len(self._opened) >= MAX_OPENED:
                self._opened.remove(next(iter(self._opened)))
            self._opened.add(number)

    async def _record(self, action: str) -> None:
        """Start or stop a recording: the right to do so is checked here, not only where the button is shown."""
        if self._is_busy or not self._frame.may_operate():
            return
        self._is_busy, self._refusal = True, None
        try:
            if action == "record":
                await self._threads.recordings.start(self._name, self._minutes, self._frame.viewer)
            else:
                await self._threads.recordings.stop(self._name, self._frame.viewer)
        except CanNotRecordError as error:
            self._refusal = error.detail, error.remedy
        except UsageError as error:
            self._refusal = str(error), "load the page again"
        finally:
            self._is_busy = False

    async def _reread(self) -> None:
        self._extent, self._next_at = None, 0.0
        await self.on_change()
