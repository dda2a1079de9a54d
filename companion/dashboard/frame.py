"""What is around every page: the head with its ways, the word when Redis is away, and where the page itself goes."""

from typing import Final, Self

from fastapi import Request
from nicegui import ui

from companion.dashboard import assets
from companion.dashboard.markup.frame import away, broken, head
from companion.dashboard.part import Part
from companion.dashboard.source import Source
from companion.http.access import guard
from companion.times import now_ms

CONTEXT: Final = "companion.dashboard"
"""In the ASGI scope: the Source of the application that was asked."""


def source_of(request: Request) -> Source:
    source: Source = request.scope[CONTEXT]
    return source


class Frame:
    """The frame of one page for one viewer; what is made within `with frame:` is its content."""

    def __init__(self, request: Request, title: str) -> None:
        self._request = request
        self._client = ui.context.client
        ui.page_title(f"{title} · OpenSIPS Companion")
        ui.add_head_html(assets.HEAD)
        who = guard.identity_of(request)
        top = Part(*head(request.url.path, by=who.by), clock=now_ms())
        top.move(self._client.layout, target_index=0)
        self._main = ui.element("div").props("id=main tabindex=-1")
        with self._main:
            self._banner = Part()

    def __enter__(self) -> Self:
        self._main.__enter__()
        return self

    def __exit__(self, *what: object) -> None:
        self._main.__exit__(*what)

    def may_read(self) -> bool:
        return guard.scope_of(self._request) != "none"

    def may_operate(self) -> bool:
        """Asked at the time of doing: a session may have ended since the page was opened."""
        return guard.scope_of(self._request) == "operate"

    @property
    def viewer(self) -> str:
        """By which token's name the viewer is known; "" for who needed none."""
        return guard.name_of(self._request)

    def log_in(self) -> None:
        self._client.open(guard.login_path(self._request.scope))

    def say_away(self, why: str) -> None:
        self._banner.show(away(why))

    def say_broken(self) -> None:
        self._client.status_code = 500
        self._banner.show(broken())

    def say_here(self) -> None:
        self._banner.show()

    def not_found(self) -> None:
        self.answer(404)

    def answer(self, status: int) -> None:
        """Say by HTTP's code that this is not the page that was asked for."""
        self._client.status_code = status
