"""Keep the filters of a list in the address of its page."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from companion.dashboard.part import Part
from companion.dashboard.refresh import LivePage

F = TypeVar("F")


@dataclass(frozen=True)
class FilterCodec(Generic[F]):
    """Represent how filters are read from a query, written to an address, and changed by a field of the page."""

    read: Callable[[str], F]
    address: Callable[[F], str]
    changed: Callable[[F, str, str], F]


class FilterBar(Generic[F]):
    """Hold the filters of one viewer, and the part of the page in which they are chosen."""

    def __init__(self, page: LivePage, codec: FilterCodec[F], filters: F, part: Part) -> None:
        self.filters = filters
        self.part = part
        self._page = page
        self._codec = codec
        part.on_act(self._act)

    def take_links(self, *parts: Part) -> None:
        """Follow the links of these parts that change the filters."""
        for part in (self.part, *parts):
            part.on_go(self._go)

    async def _go(self, query: str) -> None:
        await self._set(self._codec.read(query))

    async def _act(self, name: str, value: Any) -> None:
        await self._set(self._codec.changed(self.filters, name, str(value)))

    async def _set(self, filters: F) -> None:
        if filters == self.filters:
            return
        self.filters = filters
        self.part.move_to(self._codec.address(filters))
        await self._page.on_change()
