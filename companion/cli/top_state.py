"""Hold what `companion top` shows, and change it with each key. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from companion.query.listing import MAX_LIMIT, SORTS, WORST_FIRST, Query, Sort

MAX_SEARCH: Final = 200
"""Characters of a text to search for."""
STATUSES: Final = ("", *WORST_FIRST)
"""The choices of `f`, all devices first."""


class DeviceOrder(NamedTuple):
    """Name an order of devices: by what, and which devices are first in each direction."""

    name: str
    ascending: str
    descending: str
    is_descending: bool = True
    """Whether it begins with the last ones."""


ORDERS: Final[dict[Sort, DeviceOrder]] = {
    "status": DeviceOrder("status", "worst first", "worst last", is_descending=False),
    "device": DeviceOrder("device", "from A to Z", "from Z to A", is_descending=False),
    "latency": DeviceOrder("latency", "lowest first", "highest first"),
    "last_latency_at": DeviceOrder("last ping", "oldest first", "newest first"),
    "last_register_at": DeviceOrder("last REGISTER", "oldest first", "newest first"),
    "lost": DeviceOrder("lost pings", "fewest first", "most first"),
}


@dataclass
class TopState:
    """Hold the choice of devices, the place in their list, and what else is open.

    `room` is the number of devices, or lines of a page, that the screen has room for.
    """

    status: str = ""
    search: str = ""
    sort: Sort = "status"
    is_descending: bool = False
    offset: int = 0
    selected: int = 0
    """Which of the devices on the screen."""
    room: int = 1
    total: int = 0
    devices: Sequence[str] = ()
    """The ids on the screen."""
    device: str = ""
    """The id of the device whose page is open."""
    scrolled: int = 0
    """Lines of that page above the screen."""
    is_searching: bool = False
    is_helping: bool = False
    is_leaving: bool = False
    _shown_query: Query | None = field(default=None, repr=False)

    @property
    def query(self) -> Query:
        """Return the query of the devices that belong on the screen."""
        return Query(
            status=(self.status,) if self.status else (),
            search=self.search,
            sort=self.sort,
            descending=self.is_descending,
            offset=self.offset,
            limit=min(self.room, MAX_LIMIT),
        )

    @property
    def order(self) -> str:
        """Return the order for people."""
        order = ORDERS[self.sort]
        return f"by {order.name}, {order.descending if self.is_descending else order.ascending}"

    def show(self, query: Query, devices: Sequence[str], total: int) -> None:
        """Take in what a query brought. A device stays selected while it stays on the screen."""
        is_refresh, chosen = query == self._shown_query, self.find_selected()
        self._shown_query, self.devices, self.total = query, devices, total
        if is_refresh and chosen in devices:
            self.selected = devices.index(chosen)
        self.selected = max(0, min(self.selected, len(devices) - 1))
        self.offset = max(0, min(self.offset, total - 1))

    def find_selected(self) -> str:
        """Return the id of the selected device, "" if there is none."""
        return self.devices[self.selected] if self.selected < len(self.devices) else ""

    def press(self, key: str) -> None:
        """Change with one key."""
        if self.is_helping:
            self.is_helping = False
        elif self.is_searching:
            self._type(key)
        elif self.device:
            self._press_on_page(key)
        else:
            self._press_in_list(key)

    def _press_in_list(self, key: str) -> None:
        match key:
            case "up" | "k" | "down" | "j":
                self._select(-1 if key in ("up", "k") else 1)
            case "page-up" | "page-down" | " ":
                self._turn(-self.room if key == "page-up" else self.room)
            case "home" | "g" | "end" | "G":
                self._turn(-self.total if key in ("home", "g") else self.total)
            case "enter" | "right":
                self.device, self.scrolled = self.find_selected(), 0
            case "s" | "r" | "f" | "escape":
                self._choose(key)
            case "/":
                self.is_searching = True
            case "h" | "?":
                self.is_helping = True
            case "q":
                self.is_leaving = True

    def _press_on_page(self, key: str) -> None:
        match key:
            case "up" | "k" | "down" | "j":
                self.scrolled += -1 if key in ("up", "k") else 1
            case "page-up" | "page-down" | " ":
                self.scrolled += -self.room if key == "page-up" else self.room
            case "home" | "g":
                self.scrolled = 0
            case "escape" | "left" | "backspace" | "enter" | "q":
                self.device = ""
            case "h" | "?":
                self.is_helping = True
        self.scrolled = max(0, self.scrolled)

    def _type(self, key: str) -> None:
        """Search while somebody types."""
        if key in ("enter", "escape"):
            self.is_searching = False
            self.search = self.search if key == "enter" else ""
        elif key == "backspace":
            self.search = self.search[:-1]
        elif len(key) == 1:
            self.search = (self.search + key)[:MAX_SEARCH]
        self._begin()

    def _choose(self, key: str) -> None:
        """Choose other devices, or another order."""
        if key == "s":
            self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
            self.is_descending = ORDERS[self.sort].is_descending
        elif key == "r":
            self.is_descending = not self.is_descending
        elif key == "f":
            self.status = STATUSES[(STATUSES.index(self.status) + 1) % len(STATUSES)]
        else:
            self.status = self.search = ""
        self._begin()

    def _begin(self) -> None:
        self.offset = self.selected = 0

    def _select(self, step: int) -> None:
        """Select another device, and scroll where it is not on the screen."""
        place = max(0, min(self.offset + self.selected + step, self.total - 1))
        self.offset = max(place - self.room + 1, min(self.offset, place))
        self.selected = place - self.offset

    def _turn(self, devices: int) -> None:
        """Turn by so many devices; at the end, select the last one there."""
        offset = max(0, min(self.offset + devices, self.total - self.room))
        if offset == self.offset or abs(devices) >= self.total:
            self.selected = 0 if devices < 0 else max(0, min(self.room, self.total - offset) - 1)
        self.offset = offset
