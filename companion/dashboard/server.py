"""NiceGUI on the application of the API."""

from typing import Final

import nicegui
from fastapi import FastAPI, Request
from nicegui import ui
from starlette.types import ASGIApp, Receive, Scope, Send

from companion.config import Config
from companion.dashboard import assets
from companion.dashboard.frame import CONTEXT, Frame
from companion.dashboard.markup.frame import broken, no_page
from companion.dashboard.pages import call, calls, device, devices, fleet, remediations
from companion.dashboard.part import Part
from companion.dashboard.source import Source
from companion.query.reader import Reader

__all__ = ["call", "calls", "device", "devices", "fleet", "mount", "remediations"]

RECONNECT_SECONDS: Final = 10.0
"""A page whose connection broke for shorter than this goes on where it was; later it loads anew."""
KEPT_MESSAGES: Final = 100

nicegui.app.add_static_files(assets.ADDRESS, assets.FOLDER, max_cache_age=assets.CACHE_SECONDS)


class _Here:
    """ASGI: tells the pages which application they were asked through: there may be several in a process."""

    def __init__(self, app: ASGIApp, source: Source) -> None:
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CONTEXT] = self._source
        await self._app(scope, receive, send)


def mount(app: FastAPI, config: Config, reader: Reader) -> None:
    """See companion.dashboard.mount."""
    app.add_middleware(_Here, source=Source(config, reader))
    _forget_last_run()
    ui.run_with(
        app,
        root=_nowhere,
        title="OpenSIPS Companion",
        favicon=assets.FOLDER / "favicon.svg",
        dark=None,
        language="en-US",
        binding_refresh_interval=None,
        reconnect_timeout=RECONNECT_SECONDS,
        message_history_length=KEPT_MESSAGES,
        tailwind=False,
        show_welcome_message=False,
    )


def _forget_last_run() -> None:
    """NiceGUI is one for the whole process, and takes no middleware once it ran: let it begin anew."""
    nicegui.app.middleware_stack = None
    nicegui.app.user_middleware.clear()


def _broken() -> None:
    with Frame(ui.context.client.request, "Error"):
        Part(broken())


nicegui.app.on_page_exception(_broken)


def _nowhere(request: Request) -> None:
    with Frame(request, "No such page") as frame:
        frame.not_found()
        Part(no_page())
