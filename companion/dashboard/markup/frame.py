"""Show the head of every page, and what replaces a page that is missing."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from companion.dashboard.filters.devices import quoted
from companion.dashboard.markup import Markup, network_text, tag
from companion.dashboard.markup.icons import icon

PAGES: Final = (("/", "Fleet"), ("/devices", "Devices"), ("/calls", "Calls"), ("/remediations", "Remediations"))
_THEMES: Final = (("system", "Auto", "As the system has it"), ("light", "Light", ""), ("dark", "Dark", ""))


def head(path: str, by: str = "", notice: str = "") -> tuple[Markup, ...]:
    """Show the skip link and the head; `by` is how the viewer was identified, as in access.Identity."""
    brand = tag("a", icon("feed"), tag("span", "OpenSIPS Companion"), href="/", cls="brand", aria_label="Fleet, home")
    mark = tag("span", notice, cls="notice") if notice else None
    row = tag("div", brand, mark, _ways(path), _themes(), _leave(path, by), cls="top-row")
    return tag("a", "Skip to the content", href="#main", cls="skip"), tag("header", row, cls="top")


def _ways(path: str) -> Markup:
    links = (tag("a", name, href=where, aria_current="page" if _is_in(path, where) else None) for where, name in PAGES)
    return tag("nav", *links, aria_label="Pages")


def _is_in(path: str, where: str) -> bool:
    return path == where or (where != "/" and path.startswith(f"{where}/"))


def _themes() -> Markup:
    choices = (
        tag("label", tag("input", type="radio", name="theme", value=value), name, title=hint or None)
        for value, name, hint in _THEMES
    )
    return tag("fieldset", tag("legend", "Theme", cls="unseen"), *choices, cls="themes")


def _leave(path: str, by: str) -> Markup:
    if by == "session":
        return tag("form", tag("button", "Log out", type="submit"), method="post", action="/logout", cls="leave")
    if by == "loopback":
        return tag("a", "Log in", href=f"/login?next={path if path in dict(PAGES) else '/'}", cls="muted")
    return None


def away(why: str) -> Markup:
    return _banner(f"{why}. What is shown may be old; it goes on by itself as soon as Redis is back.")


def broken() -> Markup:
    return _banner("This page could not be brought up to date. The companion's log has the reason.")


def _banner(message: str) -> Markup:
    return tag("div", icon("losing"), tag("span", message), cls="banner", role="alert")


def waiting(lines: int = 5) -> Markup:
    """Return bars that stand in place of data."""
    bars = (tag("span") for _ in range(lines))
    return tag("div", tag("p", "Loading", cls="unseen"), *bars, cls="waiting")


def no_device(name: str, candidates: Sequence[str] = ()) -> Markup:
    """Show that no device has this name, or which devices have it."""
    links = [tag("li", tag("a", network_text(device), href=f"/devices/{quoted(device)}")) for device in candidates]
    search = tag("a", "Search the devices", href=f"/devices?{urlencode({'search': name})}")
    title = f"{len(links)} devices have that name" if links else "No such device"
    hint = tag(
        "p", network_text(name), " is none that is known here: it may be gone for longer than its history is kept."
    )
    more = tag("ul", *links) if links else hint
    return tag("section", tag("h1", title), tag("div", more, tag("p", search), cls="note"), cls="card")


def no_page() -> Markup:
    link = tag("a", "To the fleet", href="/")
    return tag("section", tag("h1", "There is no such page"), tag("p", link, cls="note"), cls="card")
