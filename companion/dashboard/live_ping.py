"""Ping a device for a minute when a viewer asks for it, and draw each round trip as it comes."""

import time
from typing import Any, Final

from nicegui import ui

from companion import log
from companion.dashboard.frame import Frame
from companion.dashboard.graphs.live_ping import draw_live_pings
from companion.dashboard.markup import live_ping
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.errors import CanNotPingError, UsageError
from companion.http.device_pings import PingRefusedError
from companion.pinging.pinger import PingReply
from companion.pinging.run import PingRun
from companion.store.connection import ResponseError, Unreachable
from companion.times import MINUTE_MS, SECOND_MS, now_ms
from companion.usrloc.contact import Ping

EVERY_SECONDS: Final = 1.0
RUN_SECONDS: Final = MINUTE_MS / SECOND_MS

logger = log.get(__name__)


class LivePing:
    """Show one viewer the pings of one device on request. They end with the run, the page, or the right to operate."""

    def __init__(self, threads: ReaderThreads, frame: Frame) -> None:
        self._pings = threads.pings
        self._bounds = threads.config.quality.bounds
        self._frame = frame
        self._device = ""
        self._is_running = self._is_busy = False
        self._begin()
        self._section = ui.element("section").classes("card").props("aria-labelledby=ping-now-title")
        self._section.set_visibility(False)
        with self._section:
            self._head = Part()
            self._head.on_act(self._act)
            self._graph = ui.echart({}, renderer="svg").classes("live-graph").props("role=img")
            self._graph.set_visibility(False)
            self._below = Part(live_ping.intro())
        self._timer = ui.timer(EVERY_SECONDS, self._tick, active=False, immediate=False)

    def show(self, device: str) -> None:
        """Show it for a device; pass its id."""
        self._device = device
        self._section.set_visibility(True)
        self._show_head()

    def hide(self) -> None:
        self._section.set_visibility(False)
        self._stop()

    def _begin(self) -> None:
        self._run, self._drawn = PingRun(), list[Ping]()
        self._started_at, self._ends_at = now_ms(), time.monotonic() + RUN_SECONDS

    def _show_head(self) -> None:
        self._head.show(live_ping.head(is_running=self._is_running, may_operate=self._frame.may_operate()))

    async def _act(self, name: str, _: Any) -> None:
        """Handle what is pressed; a browser may send anything, so the permission is checked here and at each ping."""
        if name == "stop":
            self._stop()
        elif name == "ping" and not self._is_running and not self._is_busy and self._frame.may_operate():
            self._begin()
            self._is_running = True
            logger.info("a device is pinged on request", by=self._frame.viewer)
            self._timer.activate()
            self._show_head()

    def _stop(self) -> None:
        self._timer.deactivate()
        self._is_running = False
        if not self._is_busy:
            self._pings.end_run(self._device)
        self._show_head()

    async def _tick(self) -> None:
        """Ping once. A reply that takes longer than a second delays the next ping."""
        if not self._is_running or self._is_busy:
            return
        if time.monotonic() >= self._ends_at or not self._frame.may_operate():
            self._stop()
            return
        self._is_busy = True
        try:
            await self._ping()
        finally:
            self._is_busy = False
        if not self._is_running:  # it was stopped meanwhile
            self._pings.end_run(self._device)

    async def _ping(self) -> None:
        sent_at = now_ms()
        try:
            _, reply = await self._pings.ping(self._device)
        except PingRefusedError:
            return  # another viewer pings it, or the node has enough to do: the next second is another chance
        except CanNotPingError as error:
            self._refuse(error.detail, error.remedy)
        except UsageError as error:
            self._refuse(str(error), "load the page again")
        except (*Unreachable, ResponseError):
            self._refuse("Redis does not answer", "try again when it does")
        else:
            self._add(sent_at, reply)

    def _refuse(self, reason: str, remedy: str) -> None:
        self._is_running = False
        self._timer.deactivate()
        self._graph.set_visibility(False)
        self._below.show(live_ping.refusal(reason, remedy))
        self._show_head()

    def _add(self, sent_at: int, reply: PingReply) -> None:
        self._run.add(reply.result, reply.duration_ms)
        if reply.result != "failed":
            answered = reply.result == "answered"
            self._drawn.append((sent_at, max(1, round(reply.duration_ms)) if answered else None))
        window = self._started_at, self._started_at + MINUTE_MS
        self._graph.props["options"] = draw_live_pings(self._drawn, window, self._bounds)
        self._graph.props["aria-label"] = live_ping.describe_graph(self._run)
        self._graph.set_visibility(True)
        self._below.show(*live_ping.figures(self._run, reply.detail, reply.node))
