"""Pages that keep themselves up to date for as long as somebody has them open."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from nicegui import ui

from companion import log
from companion.dashboard.frame import Frame
from companion.errors import UnavailableError

FIRST_LOOK_SECONDS: Final = 1.5
"""After so long a page is shown without its data, which follow when they come."""

episodes = log.Episodes(log.get(__name__))

Look = Callable[[], Awaitable[None]]


class Live:
    """Looks once before the page is sent, and then again and again; a Redis that is away is said, and gets over."""

    def __init__(self, frame: Frame, look: Look, seconds: float) -> None:
        self._frame = frame
        self._look = look
        self._looking = asyncio.Lock()
        ui.timer(seconds, self.look, immediate=False)

    async def begin(self) -> None:
        try:
            async with asyncio.timeout(FIRST_LOOK_SECONDS):
                await self.look()
        except TimeoutError:
            self._frame.say_away("Redis takes long to answer")

    async def look(self) -> None:
        """Look now; one look at a time."""
        async with self._looking:
            if not self._frame.may_read():
                self._frame.log_in()
                return
            try:
                await self._look()
            except UnavailableError as error:
                self._frame.say_away(f"Redis does not answer ({error})")
            except Exception:  # noqa: BLE001 - whatever it is, who looks must know that the page stands still
                episodes.warn("a page could not be brought up to date", exc_info=True)
                self._frame.say_broken()
            else:
                self._frame.say_here()
