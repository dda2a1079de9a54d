"""Let only live pages connect to the dashboard: whatever else connects leaves nothing behind.

NiceGUI keeps some kB for whoever connects. A page that it does not know, as after a restart, must load again. It does
so when its connection is refused in the words of Socket.IO: they are written here, for both transports of Engine.IO.
"""

import contextlib
import json
from typing import Final

from nicegui import Client, core
from starlette.datastructures import QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from companion.http.paths import SOCKET_PATH

MAX_SOCKETS: Final = 10
"""Connections of one page: a bad network leaves some behind for a few seconds."""
MAX_NEW_PAGES: Final = 300
"""Pages that did not connect yet; NiceGUI drops them after a minute."""

_NO_SESSION: Final = "none"
"""The session id of all that are refused."""
_OPEN: Final = "0" + json.dumps(
    {"sid": _NO_SESSION, "upgrades": [], "pingInterval": 25_000, "pingTimeout": 20_000, "maxPayload": 1000}
)
_REFUSED: Final = "44" + json.dumps({"message": "Implicit handshake failed"})
"""The text that makes the script of a page load it again."""


class Sockets:
    """Pass on the connections of live pages, and bound those and the pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop("endpoint", None)  # else NiceGUI takes the request for another application's, and shows no page
        if scope["type"] == "lifespan" or not scope["path"].startswith(SOCKET_PATH):
            await self._app(scope, receive, send)
            _drop_new_pages()
            return
        query = QueryParams(scope["query_string"])
        session, page = query.get("sid", ""), query.get("client_id", "")
        if session in core.sio.eio.sockets or (not session and _may_connect(page)):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await _refuse_websocket(receive, send)
        else:
            text = _answer_polling(scope["method"], session)
            await PlainTextResponse(text, 200 if text else 400)(scope, receive, send)


def _may_connect(page: str) -> bool:
    if page not in Client.instances:
        return False
    queries = (environ.get("QUERY_STRING", "") for environ in core.sio.environ.values())
    return sum(page in query for query in queries) < MAX_SOCKETS


def _answer_polling(method: str, session: str) -> str:
    if session not in ("", _NO_SESSION):
        return ""
    if method == "POST":
        return "ok"
    return _REFUSED if session else _OPEN


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()  # websocket.connect
    with contextlib.suppress(RuntimeError, OSError):  # the client may be gone
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": _OPEN})
        await send({"type": "websocket.send", "text": _REFUSED})
        await send({"type": "websocket.close"})


def _drop_new_pages() -> None:
    """Drop the oldest pages that did not connect, if there are too many."""
    if len(Client.instances) <= MAX_NEW_PAGES:
        return
    new = [
        client
        for client in Client.instances.values()
        if not client.has_socket_connection and not client._delete_tasks  # noqa: SLF001 - as NiceGUI itself does
    ]
    for client in new[:-MAX_NEW_PAGES]:
        client.delete()
