"""Mount NiceGUI on the application of the API."""

from typing import Final

import nicegui
from fastapi import FastAPI, Request
from nicegui import core, ui
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from companion.config import Config
from companion.dashboard import assets
from companion.dashboard.frame import CONTEXT, Frame
from companion.dashboard.markup.frame import broken, no_page
from companion.dashboard.pages import call, calls, device, devices, fleet, remediations, trace
from companion.dashboard.part import Part
from companion.dashboard.reader_threads import ReaderThreads
from companion.dashboard.sockets import Sockets
from companion.http.device_pings import DevicePings
from companion.http.paths import PROCESS_PARAM
from companion.query.reader import Reader
from companion.recording.recordings import Recordings

__all__ = ["call", "calls", "device", "devices", "fleet", "mount", "remediations", "trace"]

RECONNECT_SECONDS: Final = 10.0
"""A page whose connection breaks for less than this continues where it was; after this time it loads again."""
KEPT_MESSAGES: Final = 100

nicegui.app.add_static_files(assets.ADDRESS, assets.FOLDER, max_cache_age=assets.CACHE_SECONDS)


class _ThreadsMiddleware:
    """Pass the reader threads of this application to its pages: a process may hold several applications."""

    def __init__(self, app: ASGIApp, threads: ReaderThreads) -> None:
        self._app = app
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CONTEXT] = self._threads
        await self._app(scope, receive, send)


def mount(app: FastAPI, config: Config, reader: Reader, pings: DevicePings, recordings: Recordings) -> None:
    """Mount the pages, as companion.dashboard.mount says."""
    app.add_middleware(_ThreadsMiddleware, threads=ReaderThreads(config, reader, pings, recordings))
    _reset_nicegui()
    ui.run_with(
        app,
        root=_show_no_page,
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
    _serve_behind_routes(app)


def name_process_in_pages(name: str) -> None:
    """Let the script of each page name the process where it lives, as companion.dashboard.name_process says."""
    core.app.config.socket_io_js_query_params = {PROCESS_PARAM: name} if name else {}


def _serve_behind_routes(app: FastAPI) -> None:
    """Ask for a page only where no route has the path: a mount would take a route's path with another method too."""
    pages = app.router.routes.pop()
    assert isinstance(pages, Mount)  # noqa: S101 - run_with added it
    app.router.default = Sockets(pages.app)


def _reset_nicegui() -> None:
    """Reset NiceGUI, which exists once in a process and accepts no middleware after its first run."""
    nicegui.app.middleware_stack = None
    nicegui.app.user_middleware.clear()
    core.sio.eio.cors_allowed_origins = []  # no page of another origin may read: the guard checks what comes


def _show_error() -> None:
    with Frame(ui.context.client.request, "Error"):
        Part(broken())


nicegui.app.on_page_exception(_show_error)


def _show_no_page(request: Request) -> None:
    with Frame(request, "No such page") as frame:
        frame.answer(404)
        Part(no_page())
