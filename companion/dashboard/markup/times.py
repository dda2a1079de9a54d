"""Show times as people read them: the browser turns them into words in its own zone, and keeps them true."""

from typing import Literal

from companion.dashboard.markup import Markup, nothing, tag

Style = Literal["ago", "brief", "moment", "clock", "exact", "date"]


def time(at: str | None, style: Style = "ago", otherwise: str = "") -> Markup:
    """Show an ISO 8601 time as `<time>`; `otherwise` replaces a time that is missing.

    `ago`: 2 minutes ago. `brief`: 2 min. `moment`: 2 minutes ago (15:22:04). `clock`: 15:22:04. `exact`: 15:22:04.123.
    `date`: 4 May 15:22:04. Hovering shows it in UTC.
    """
    if not at:
        return tag("span", otherwise, cls="nothing") if otherwise else nothing()
    return tag("time", at, datetime=at, data_style=style)
