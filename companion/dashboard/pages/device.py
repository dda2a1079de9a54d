"""Show one device, as support needs it while its owner is on the phone: a new ping appears within two seconds."""

import json
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, threads_of
from companion.dashboard.graphs.axes import Options, Window, known_part
from companion.dashboard.graphs.device import DevicePlot, draw_buckets, draw_pings
from companion.dashboard.live_ping import LivePing
from companion.dashboard.markup import device, tag
from companion.dashboard.markup.call_history import history
from companion.dashboard.markup.frame import no_device, waiting
from companion.dashboard.part import Part
from companion.dashboard.presence import compute_presence
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.refresh import LivePage, keep_fresh
from companion.dashboard.rhythm import Rhythm
from companion.errors import NoSuchDeviceError, SeveralDevicesError
from companion.query.pings import Bucket, put_in_buckets
from companion.query.reader import Reader
from companion.text import Json
from companion.times import MINUTE_MS, WINDOWS_MS, now_ms
from companion.usrloc.contact import SILENT_INTERVALS

REFRESH_SECONDS: Final = 1.0
CALLS_EVERY: Final = 5
"""The calls are read with each fifth refresh: browsers report every five seconds."""
REREAD_SECONDS: Final = 30.0
"""After this time all is read again although there is no news: the window moves on."""
OVERLAP_MS: Final = MINUTE_MS
"""Events become visible in another order than they happened, late by this much at most."""
POINTS: Final = 720
"""A window with more pings than this is drawn in this many buckets."""

Digest = str
Buckets = Sequence[Bucket] | None
"""Of a window with many pings."""


@ui.page("/devices/{name:path}")
async def show_device(request: Request, name: str) -> None:
    frame = Frame(request, name.rpartition("/")[0] or name)
    with frame:
        page = DevicePage(threads_of(request), frame, name, devices.window(request.url.query))
    await keep_fresh(frame, page, REFRESH_SECONDS)


class DevicePage(LivePage):
    """Show one viewer a device; `name` is its id, its AOR or its SIP instance."""

    def __init__(self, threads: ReaderThreads, frame: Frame, name: str, window: str) -> None:
        super().__init__()
        self._threads = threads
        self._frame = frame
        self._name = name
        self._window = window
        self._digest: Digest | None = None
        self._news_since = 0
        self._read_at = 0.0
        self._whole_timeline = False
        self._all_calls = False
        self._refreshes = 0
        self._make_parts()

    def _make_parts(self) -> None:
        self._top = Part(tag("h1", "Device"), waiting(), follows=True)
        self._top.on_go(self._go)
        self._section = ui.element("section").classes("card").props("aria-labelledby=latency-title")
        self._section.set_visibility(False)
        with self._section:
            self._figures = Part()
            self._figures.on_go(self._go)
            self._graph = ui.echart({}, renderer="svg").classes("graph").props("role=img")
            self._keys = Part()
        self._live_ping = LivePing(self._threads, self._frame)
        self._history = Part()
        self._rest = Part()
        for part in (self._history, self._rest):
            part.on_act(self._act)

    async def refresh(self) -> None:
        """Read all of the device again when there is news of it: a loss may turn out to be a ghost's."""
        try:
            if await self._has_news() or time.monotonic() - self._read_at > REREAD_SECONDS:
                await self._refresh_device()
            if self._refreshes % CALLS_EVERY == 0:
                await self._refresh_calls()
            self._refreshes += 1
        except NoSuchDeviceError:
            self._show_missing()
        except SeveralDevicesError as error:
            self._show_missing(error.devices)

    async def _has_news(self) -> bool:
        if not self._digest:
            return True
        news = await self._threads.run(self._threads.reader.news, self._name, self._news_since)
        return self._digest != _digest(news)

    async def _refresh_device(self) -> None:
        window_ms = WINDOWS_MS[self._window]
        answer = await self._threads.run(_read, self._threads.reader, self._name, window_ms)
        page, now = answer["page"], answer["now"]
        self._name = page["device"]
        self._read_at = time.monotonic()
        self._digest, self._news_since = answer["digest"], answer["news_since"]
        self._show(page, answer["buckets"], (now - window_ms, now))

    async def _refresh_calls(self) -> None:
        answer = await self._threads.run(self._threads.reader.calls, self._name, WINDOWS_MS[self._window])
        self._history.show(history(answer, everything=self._all_calls))

    def _show(self, page: Json, buckets: Buckets, window: Window) -> None:
        self._top.show(device.title(page), device.overview(page))
        self._section.set_visibility(True)
        self._show_latency(page, buckets, window)
        self._live_ping.show(page["device"])
        timeline = device.timeline(page, everything=self._whole_timeline)
        columns = tag("div", timeline, device.switch_overs(page["timeline"]), cls="columns")
        self._rest.show(device.contacts(page), columns)

    def _show_latency(self, page: Json, buckets: Buckets, window: Window) -> None:
        config, latency = self._threads.config, page["latency"]
        bands = compute_presence(page, *window, config.pings)
        first = bands[0].since if bands else window[0]
        rhythm = Rhythm((at for at, _ in page["samples"]), config.pings.interval_ms)
        gap_ms = partial(_gap_ms, rhythm, window[1] - window[0])
        plot = DevicePlot(known_part(window, first), config.quality.bounds, gap_ms, bands)
        self._figures.show(device.analysis_head(page["device"], self._window), device.statistics(latency))
        self._graph.props["options"] = _draw(page, buckets, plot)
        self._graph.props["aria-label"] = device.graph_words(latency, bands, self._window)
        self._keys.show(device.graph_keys(page, bands, first if first > window[0] else 0))

    def _show_missing(self, candidates: Sequence[str] = ()) -> None:
        """Show that no device has this name, or that several have it."""
        self._frame.answer(404)
        self._section.set_visibility(False)
        self._live_ping.hide()
        self._top.show(no_device(self._name, candidates))
        self._history.show()
        self._rest.show()

    async def _go(self, query: str) -> None:
        self._window = devices.window(query)
        await self._reread()

    async def _act(self, name: str, _: Any) -> None:
        if name == "everything":
            self._whole_timeline = True
            await self._reread()
        elif name == "every-call":
            self._all_calls = True
            await self._reread()

    async def _reread(self) -> None:
        self._read_at, self._refreshes = 0.0, 0
        await self.on_change()


def _read(reader: Reader, name: str, window_ms: int) -> Json:
    now = now_ms()
    news_since = now - OVERLAP_MS
    digest = _digest(reader.news(name, news_since))  # first, so that what comes meanwhile is news the next time
    page = reader.device(name, window_ms)
    samples = page["samples"]
    buckets = put_in_buckets(samples, window_ms // POINTS) if len(samples) > POINTS else None
    return {"now": now, "digest": digest, "news_since": news_since, "page": page, "buckets": buckets}


def _digest(news: Json) -> Digest:
    """Return a text that changes when the page has to change."""
    return json.dumps(news, sort_keys=True)


def _draw(page: Json, buckets: Buckets, plot: DevicePlot) -> Options:
    return draw_pings(page["samples"], plot) if buckets is None else draw_buckets(buckets, plot)


def _gap_ms(rhythm: Rhythm, window_ms: int, at: int) -> int:
    """Return how long a silence breaks the line: longer than two ping intervals of its time, and than a bucket."""
    return round((SILENT_INTERVALS + 0.5) * rhythm.interval_ms(at)) + window_ms // POINTS
