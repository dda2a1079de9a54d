"""Link to the other pages of a list, and to other windows of time."""

from collections.abc import Callable

from companion.dashboard.markup import Markup, tag
from companion.dashboard.markup.icons import icon
from companion.times import WINDOWS_MS


def pager(first: tuple[str, str] | None, following: tuple[str, str] | None, count: Markup = None) -> Markup:
    """Show links to the first and the following page, each a name and an address, beside a count."""
    back = tag("a", icon("back"), first[0], href=first[1], go=True, cls="button") if first else None
    onward = tag("a", following[0], icon("next"), href=following[1], go=True, cls="button") if following else None
    return tag("div", count or tag("span"), tag("nav", back, onward, aria_label="Pages of the list"), cls="pager")


def window_choice(chosen: str, address: Callable[[str], str]) -> Markup:
    """Show the windows of time to choose from; each is an address to share."""
    links = (
        tag("a", name, href=address(name), go=True, aria_current="true" if name == chosen else None)
        for name in WINDOWS_MS
    )
    return tag("nav", *links, cls="choice", aria_label="Window")
