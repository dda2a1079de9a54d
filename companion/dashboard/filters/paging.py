"""Read a list chunk by chunk until a page of its rows fits the filters. No I/O of its own."""

from collections.abc import Callable
from typing import Final

from companion.text import Json

PAGE: Final = 50
CHUNK: Final = 200

ReadChunk = Callable[[str], tuple[list[Json], str | None]]
"""Takes a cursor, "" for the newest; returns rows, and the cursor behind them or None at the end."""


def collect_page(
    read: ReadChunk, fits: Callable[[Json], bool], cursor: str, max_chunks: int
) -> tuple[list[Json], str | None]:
    """Return at least a page of the rows that fit, and where the next page begins; None on the last page.

    At most `max_chunks` are read: there may be fewer rows than a page, and still a next page.
    """
    rows: list[Json] = []
    following: str | None = cursor
    for _ in range(max_chunks):
        chunk, following = read(following or "")
        rows += filter(fits, chunk)
        if following is None or len(rows) >= PAGE:
            break
    return rows, following
