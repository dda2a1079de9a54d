"""Times and spans as people read them: the browser turns times into words, in its own zone, and keeps them true."""

from typing import Final, Literal

from companion.dashboard.markup import Markup, nothing, tag

Style = Literal["ago", "brief", "moment", "clock", "date"]
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def time(at: str | None, style: Style = "ago", otherwise: str = "") -> Markup:
    """An ISO 8601 time as `<time>`; `otherwise` is said when there is none.

    `ago`: 2 minutes ago. `brief`: 2 min. `moment`: 2 minutes ago (15:22:04). `clock`: 15:22:04. `date`: 4 May 15:22:04.
    Hovering shows it in UTC.
    """
    if not at:
        return tag("span", otherwise, cls="nothing") if otherwise else nothing()
    return tag("time", at, datetime=at, data_style=style)


def span(ms: int) -> str:
    """How long something took, with two units at most.

    >>> span(99), span(1400), span(60_000), span(7_500_000)
    ('99 ms', '1.4 s', '1 min', '2 h 5 min')
    """
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms / 1000:.1f}".removesuffix(".0") + " s"
    seconds = ms // 1000
    for number, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            rest = _rest(seconds % size, number)
            return f"{seconds // size} {unit}{rest}"
    raise AssertionError


def _rest(seconds: int, number: int) -> str:
    if number + 1 == len(_UNITS):
        return f" {seconds} s" if seconds else ""
    size, unit = _UNITS[number + 1]
    return f" {seconds // size} {unit}" if seconds >= size else ""
