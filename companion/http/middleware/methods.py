"""HEAD, OPTIONS, and bodies that are too large, in one place for all routes."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion import metrics
from companion.http import problems
from companion.http.paths import is_report

MAX_BODY: Final = 64 * 1024
MAX_REPORT: Final = 256 * 1024
MAX_SOCKET_BODY: Final = 1024 * 1024
SOCKET_PATH: Final = "/_nicegui_ws/"
"""Where pages talk to the dashboard, by a WebSocket or, where there can be none, by POST."""
ASKED_HEAD: Final = "companion.head"
"""In the ASGI scope of a HEAD: for what would go on for ever as a GET."""


class Methods:
    """ASGI: HEAD is GET without the body, OPTIONS tells what a path allows, a body may only be so large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = _limit(scope)
        if announced(scope) > limit:
            if is_report(scope):
                metrics.count_refused_report("too-large")
            await problems.too_large(limit).response()(scope, receive, send)
            return
        inner = {**scope, "method": "GET", ASKED_HEAD: True} if scope["method"] == "HEAD" else scope
        await self._app(inner, _bounded(receive, limit), _Answer(scope["method"], scope, receive, send))


def _limit(scope: Scope) -> int:
    """Bytes a body may have."""
    if scope["path"].startswith(SOCKET_PATH):
        return MAX_SOCKET_BODY
    return MAX_REPORT if is_report(scope) else MAX_BODY


def announced(scope: Scope) -> int:
    """Bytes that the body has, as the request says; 0 when it does not say."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0


def _bounded(receive: Receive, limit: int) -> Receive:
    """The same for a body that does not say how large it is."""
    read = 0

    async def receiving() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > limit:
            raise HTTPException(413, problems.too_large(limit).body["detail"])
        return message

    return receiving


class _Answer:
    """Sends on what the application answers, as the method asked for wants it."""

    def __init__(self, method: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._method = method
        self._asked = (scope, receive, send)
        self._send = send
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if message["status"] == 405:
                _complete(headers)
                if self._method == "OPTIONS":
                    self._replaced = True
                    await Response(status_code=204, headers={"Allow": headers["allow"]})(*self._asked)
                    return
        elif self._method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)


def _complete(headers: MutableHeaders) -> None:
    """What may be got may be asked for its head, and of all it may be asked what is allowed."""
    allowed = {name.strip() for name in headers.get("allow", "").split(",")} - {""}
    headers["allow"] = ", ".join(sorted(allowed | {"OPTIONS"} | ({"HEAD"} if "GET" in allowed else set())))
