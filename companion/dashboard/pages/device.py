"""One device, as support looks at it while its owner is on the phone: a new ping shows within two seconds."""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request
from nicegui import ui

from companion.config import Config
from companion.dashboard.filters import devices
from companion.dashboard.frame import Frame, source_of
from companion.dashboard.graphs.axes import Options, Window, known_part
from companion.dashboard.graphs.device import DevicePlot, draw_buckets, draw_pings
from companion.dashboard.markup import device, tag
from companion.dashboard.markup.call_history import history
from companion.dashboard.markup.frame import no_device, waiting
from companion.dashboard.part import Part
from companion.dashboard.presence import bands
from companion.dashboard.refresh import Live
from companion.dashboard.source import Source
from companion.errors import NoSuchDeviceError, SeveralDevicesError
from companion.query.pings import Bucket, put_in_buckets
from companion.query.reader import Reader
from companion.text import Json
from companion.times import MINUTE_MS, WINDOWS_MS, now_ms
from companion.usrloc.contact import SILENT_INTERVALS

LOOK_SECONDS: Final = 1.0
CALLS_LOOKS: Final = 5
"""Its calls are read with every so many looks: their pages report every five seconds."""
ANEW_SECONDS: Final = 30.0
"""After so long all is read again though nothing is new: the window moves on."""
OVERLAP_MS: Final = MINUTE_MS
"""What happened becomes visible in another order than it happened: by so much at most."""
POINTS: Final = 720
"""A window with more pings than this is drawn in as many slices."""

Gist = str
Buckets = Sequence[Bucket] | None
"""Of a window with many pings."""


@ui.page("/devices/{name:path}")
async def page(request: Request, name: str) -> None:
    frame = Frame(request, name.rpartition("/")[0] or name)
    with frame:
        shown = Device(source_of(request), frame, name, devices.window(request.url.query))
    live = Live(frame, shown.look, LOOK_SECONDS)
    shown.on_change = live.look
    await live.begin()


class Device:
    """What one viewer sees of a device; `name` is its id, its AOR or its SIP instance."""

    def __init__(self, source: Source, frame: Frame, name: str, window: str) -> None:
        self._source = source
        self._frame = frame
        self._name = name
        self._window = window
        self._told: Gist | None = None
        self._told_since = 0
        self._read_at = 0.0
        self._everything = False
        self._every_call = False
        self._looks = 0
        self.on_change = self.look
        self._make()

    def _make(self) -> None:
        self._top = Part(tag("h1", "Device"), waiting(), follows=True)
        self._top.on_go(self._go)
        self._section = ui.element("section").classes("card").props("aria-labelledby=latency-title")
        self._section.set_visibility(False)
        with self._section:
            self._figures = Part()
            self._figures.on_go(self._go)
            self._graph = ui.echart({}, renderer="svg").classes("graph").props("role=img")
            self._keys = Part()
        self._history = Part()
        self._rest = Part()
        for part in (self._history, self._rest):
            part.on_act(self._act)

    async def look(self) -> None:
        """See whether there is news, and if so read all of it again: a loss may turn out to be a ghost's."""
        try:
            if await self._is_news() or time.monotonic() - self._read_at > ANEW_SECONDS:
                await self._look_anew()
            if self._looks % CALLS_LOOKS == 0:
                await self._look_at_calls()
            self._looks += 1
        except NoSuchDeviceError:
            self._lose()
        except SeveralDevicesError as error:
            self._lose(error.devices)

    async def _is_news(self) -> bool:
        if not self._told:
            return True
        return self._told != _gist(await self._source.ask(self._source.reader.news, self._name, self._told_since))

    async def _look_anew(self) -> None:
        read = await self._source.ask(_read, self._source.reader, self._name, WINDOWS_MS[self._window])
        page = read["page"]
        self._name = page["device"]
        self._read_at = time.monotonic()
        self._told, self._told_since = read["told"], read["told_since"]
        self._show(page, read["buckets"], (read["now"] - WINDOWS_MS[self._window], read["now"]))

    async def _look_at_calls(self) -> None:
        told = await self._source.ask(self._source.reader.calls, self._name, WINDOWS_MS[self._window])
        self._history.show(history(told["calls"], cut=told["cut"], everything=self._every_call))

    def _show(self, page: Json, buckets: Buckets, window: Window) -> None:
        self._top.show(device.title(page), device.overview(page))
        self._section.set_visibility(True)
        self._show_latency(page, buckets, window)
        happened = device.timeline(page, everything=self._everything)
        columns = tag("div", happened, device.switch_overs(page["timeline"]), cls="columns")
        self._rest.show(device.contacts(page), columns)

    def _show_latency(self, page: Json, buckets: Buckets, window: Window) -> None:
        config, latency = self._source.config, page["latency"]
        found = bands(page, *window, config.pings)
        first = found[0].since if found else window[0]
        plot = DevicePlot(
            known_part(window, first), config.quality.bounds, _gap_ms(config, window[1] - window[0]), found
        )
        self._figures.show(device.analysis_head(page["device"], self._window), device.statistics(latency))
        self._graph.props["options"] = _graph(page, buckets, plot)
        self._graph.props["aria-label"] = device.graph_words(latency, found, self._window)
        self._keys.show(device.graph_keys(found, first if first > window[0] else 0))

    def _lose(self, several: Sequence[str] = ()) -> None:
        self._frame.not_found()
        self._section.set_visibility(False)
        self._top.show(no_device(self._name, several))
        self._history.show()
        self._rest.show()

    async def _go(self, text: str) -> None:
        self._window = devices.window(text)
        await self._anew()

    async def _act(self, name: str, _: Any) -> None:
        if name == "everything":
            self._everything = True
            await self._anew()
        elif name == "every-call":
            self._every_call = True
            await self._anew()

    async def _anew(self) -> None:
        self._read_at, self._looks = 0.0, 0
        await self.on_change()


def _read(reader: Reader, name: str, window_ms: int) -> Json:
    now = now_ms()
    told = _gist(reader.news(name, now - OVERLAP_MS))  # first, so that what comes meanwhile is news the next time
    page = reader.device(name, window_ms)
    samples = page["samples"]
    buckets = put_in_buckets(samples, window_ms // POINTS) if len(samples) > POINTS else None
    return {"now": now, "told": told, "told_since": now - OVERLAP_MS, "page": page, "buckets": buckets}


def _gist(news: Json) -> Gist:
    """What of it makes the page another one."""
    return json.dumps(news, sort_keys=True)


def _graph(page: Json, buckets: Buckets, plot: DevicePlot) -> Options:
    return draw_pings(page["samples"], plot) if buckets is None else draw_buckets(buckets, plot)


def _gap_ms(config: Config, window_ms: int) -> int:
    """Longer than a ping interval by more than chance, and than a slice."""
    return round((SILENT_INTERVALS + 0.5) * config.pings.interval_ms) + window_ms // POINTS
