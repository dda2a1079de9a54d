"""Wrap every page in a frame: head with navigation, banner when Redis is away, place for the content."""

from typing import Final, Self

from fastapi import Request
from nicegui import ui

from companion.dashboard import assets
from companion.dashboard.markup.frame import away, broken, head
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.http.access import guard
from companion.times import now_ms

CONTEXT: Final = "companion.dashboard"
"""The key of the application's ReaderThreads in the ASGI scope."""


def threads_of(request: Request) -> ReaderThreads:
    """Return the reader threads of the application that serves a request."""
    threads: ReaderThreads = request.scope[CONTEXT]
    return threads


class Frame:
    """Wrap one page for one viewer; elements that are made within `with frame:` are its content."""

    def __init__(self, request: Request, title: str) -> None:
        self._request = request
        self._client = ui.context.client
        ui.page_title(f"{title} · OpenSIPS Companion")
        ui.add_head_html(assets.HEAD)
        identity = guard.identity_of(request)
        notice = threads_of(request).config.api.notice
        top = Part(*head(request.url.path, by=identity.by, notice=notice), clock=now_ms())
        top.move(self._client.layout, target_index=0)
        self._main = ui.element("div").props("id=main tabindex=-1")
        with self._main:
            self._banner = Part()

    def __enter__(self) -> Self:
        self._main.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._main.__exit__(*error)

    def may_read(self) -> bool:
        return guard.scope_of(self._request) != "none"

    def may_operate(self) -> bool:
        """Return whether the viewer may act now: a session may have ended since the page was opened."""
        return guard.scope_of(self._request) == "operate"

    @property
    def viewer(self) -> str:
        """Return the name of the viewer's token, "" where no token is needed."""
        return guard.name_of(self._request)

    def log_in(self) -> None:
        self._client.open(guard.login_path(self._request.scope))

    def show_away(self, reason: str) -> None:
        self._banner.show(away(reason))

    def show_broken(self) -> None:
        self._client.status_code = 500
        self._banner.show(broken())

    def hide_banner(self) -> None:
        self._banner.show()

    def answer(self, status: int) -> None:
        """Answer with an HTTP status other than 200: this is not the page that the address names."""
        self._client.status_code = status
