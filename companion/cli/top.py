"""Show the fleet as a live table with keys: `companion top`."""

import asyncio
import time
from typing import Any, Final

from rich.console import Console, RenderableType

from companion.cli.screens.device import render_device_page
from companion.cli.screens.fleet import (
    LINES_AROUND,
    LINES_BELOW,
    FleetNotice,
    FleetScreen,
    ScrolledPage,
    render_help,
)
from companion.cli.terminal import STOP_SIGNALS, Terminal, is_usable
from companion.cli.top_state import TopState
from companion.config import Config
from companion.errors import UsageError
from companion.query.listing import Query
from companion.query.reader import Reader
from companion.store.connection import ResponseError, Unreachable, find_remedy
from companion.store.store import Store
from companion.text import Json
from companion.times import DAY_MS

REFRESH_SECONDS: Final = 1.0
RESTS: Final = 2
"""What took long to read is read again after so many times as long."""
NO_TERMINAL: Final = (
    "`companion top` draws on a terminal, and here is none that it can use: run it in the foreground of one "
    "(ssh -t HOST companion top), or list the devices with `companion devices`"
)
_NOTHING: Final[Json] = {"devices": [], "total": 0, "counts": {}, "stored": 0, "is_read": False}


async def run_top(settings: Config, store: Store, status: str) -> None:
    """Show the fleet, first the devices of one status, until somebody leaves.

    Raises UsageError where there is no terminal.
    """
    console, stopped = Console(), asyncio.Event()
    if not is_usable(console):
        raise UsageError(NO_TERMINAL)
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await Top(Reader(settings, store), console, TopState(status)).run(stopped)


class Top:
    """Show the fleet, and do what keys say. `above` is shown above the list, for the demo."""

    def __init__(self, reader: Reader, console: Console, state: TopState, above: RenderableType = "") -> None:
        self._reader = reader
        self._state = state
        self._above = above
        self._changed = asyncio.Event()
        self._outdated = asyncio.Event()
        """Something else is to be read than what is on the screen."""
        self._terminal = Terminal(console, self._changed.set)
        self._fleet = _NOTHING
        self._page: Json = {}
        self._trouble = ""

    async def run(self, stopped: asyncio.Event) -> None:
        """Show the fleet until `stopped`, or until somebody leaves."""
        loading, stopping = asyncio.create_task(self._keep_loaded()), asyncio.create_task(stopped.wait())
        for task in (loading, stopping):
            task.add_done_callback(lambda _: self._changed.set())
        try:
            with self._terminal.owned():
                while not (loading.done() or stopping.done() or self._state.is_leaving or self._terminal.is_gone):
                    await self._draw(stopping)
                    await self._changed.wait()
                    self._changed.clear()
                    self._press_keys()
            if loading.done():
                loading.result()
        finally:
            loading.cancel()
            stopping.cancel()

    def _press_keys(self) -> None:
        before = self._state.query, self._state.device
        for key in self._terminal.read_keys():
            self._state.press(key)
        if before != (self._state.query, self._state.device):
            self._outdated.set()

    async def _keep_loaded(self) -> None:
        """Read what belongs on the screen again and again, and at once when that becomes something else."""
        while True:
            started = time.monotonic()
            is_loaded = await self._load()
            self._changed.set()
            seconds = RESTS * (time.monotonic() - started) if is_loaded else 0.0
            try:
                async with asyncio.timeout(max(REFRESH_SECONDS, seconds)):
                    await self._outdated.wait()
            except TimeoutError:
                continue
            finally:
                self._outdated.clear()

    async def _load(self) -> bool:
        """Read the list, and the page that is open; return False where that was not possible."""
        query, device = self._state.query, self._state.device
        try:
            self._fleet = await asyncio.to_thread(self._reader.devices_so_far, query)
            self._show(query)
            if device:
                self._page = await asyncio.to_thread(self._reader.device, device, DAY_MS)
        except (*Unreachable, ResponseError) as error:
            self._trouble = f"Redis is away, trying again: {find_remedy(error)} ({error})"
        except UsageError as error:
            self._trouble = str(error)
        else:
            self._trouble = ""
        return not self._trouble

    def _show(self, query: Query) -> None:
        self._state.show(query, [row["device"] for row in self._fleet["devices"]], self._fleet["total"])
        if self._state.query != query:  # it has fewer pages now, or keys were pressed meanwhile
            self._outdated.set()

    async def _draw(self, stopping: "asyncio.Task[Any]") -> None:
        state, query = self._state, self._state.query
        if state.is_helping:
            page: RenderableType = render_help()
        else:
            page = self._render_device() if state.device else self._render_list()
        if state.query != query:  # the screen has another size
            self._outdated.set()
        await self._terminal.draw(page, stopping)

    def _render_device(self) -> ScrolledPage:
        state, is_loaded = self._state, self._page.get("device") == self._state.device
        lines = self._terminal.render(render_device_page(self._page) if is_loaded else "")
        state.room = max(1, self._terminal.height - LINES_BELOW)
        state.scrolled = max(0, min(state.scrolled, len(lines) - state.room))
        return ScrolledPage(lines, state, self._make_notice())

    def _render_list(self) -> FleetScreen:
        above = self._terminal.render(self._above) if self._above else ()
        self._state.room = max(1, self._terminal.height - LINES_AROUND - len(above))
        return FleetScreen(self._state, self._fleet, self._make_notice(), above)

    def _make_notice(self) -> FleetNotice:
        """Say what is wrong, or what is not there yet."""
        fleet, state = self._fleet, self._state
        if self._trouble:
            return FleetNotice(self._trouble, "bold red")
        if not fleet["is_read"]:
            progress = (
                f": {fleet['counts'].get('total', 0):,} of {fleet['stored']:,} devices" if fleet["stored"] else ""
            )
            return FleetNotice(f"reading the fleet{progress}")
        if not fleet["stored"]:
            return FleetNotice("no devices yet: `companion doctor` says what is missing")
        if not state.total:
            return FleetNotice("no device is like that: Esc lists all")
        return FleetNotice("")
