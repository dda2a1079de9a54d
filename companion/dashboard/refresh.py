"""Keep pages up to date for as long as somebody has them open."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import ui

from companion import log
from companion.dashboard.frame import Frame
from companion.errors import UnavailableError

FIRST_REFRESH_SECONDS: Final = 1.5
"""After this time a page is sent without its data, which follow when they come."""

episodes = log.Episodes(log.get(__name__))

Refresh = Callable[[], Awaitable[None]]


class LivePage(ABC):
    """Represent a page that can read its data again."""

    def __init__(self) -> None:
        self.on_change: Refresh = self.refresh
        """What to call after the viewer has chosen something else."""

    @abstractmethod
    async def refresh(self) -> None:
        """Read the data of the page, and show them."""


class Refresher:
    """Refresh a page before it is sent and then periodically; show a banner while Redis does not answer."""

    def __init__(self, frame: Frame, page: LivePage) -> None:
        self._frame = frame
        self._page = page
        self._lock = asyncio.Lock()

    async def refresh_first(self) -> None:
        """Refresh the page, but do not wait long for Redis."""
        try:
            async with asyncio.timeout(FIRST_REFRESH_SECONDS):
                await self.refresh()
        except TimeoutError:
            self._frame.show_away("Redis takes long to answer")

    async def refresh(self) -> None:
        """Refresh the page now; never twice at the same time."""
        async with self._lock:
            if not self._frame.may_read():
                self._frame.log_in()
                return
            try:
                await self._page.refresh()
            except UnavailableError as error:
                self._frame.show_away(f"Redis does not answer ({error})")
            except Exception:  # noqa: BLE001 - whatever it is, the viewer must know that the page stands still
                episodes.warn("a page could not be updated", exc_info=True)
                self._frame.show_broken()
            else:
                self._frame.hide_banner()


async def keep_fresh(frame: Frame, page: LivePage, seconds: float) -> None:
    """Refresh a page before it is sent, every so many seconds, and after each choice of its viewer."""
    refresher = Refresher(frame, page)
    page.on_change = refresher.refresh
    ui.timer(seconds, refresher.refresh, immediate=False)
    await refresher.refresh_first()
