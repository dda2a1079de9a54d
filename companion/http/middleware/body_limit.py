"""Limit the size of request bodies."""

from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from companion.http import problems
from companion.http.paths import LOGIN_PATH, SOCKET_PATH

MAX_BODY: Final = 64 * 1024
MAX_SOCKET_BODY: Final = 1024 * 1024
MAX_LOGIN_BODY: Final = 8 * 1024
"""Anybody may send one, and so many unfinished ones at once as there are connections."""


class BodyLimit:
    """Refuse bodies that are too large with a problem.

    Starlette's middleware counts the bytes as they come in. It answers a body that is announced too large in plain
    text, so the announced size is checked before.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int = MAX_BODY,
        max_socket_bytes: int = MAX_SOCKET_BODY,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = RequestBodyLimitMiddleware(app, max_bytes)
        self._socket_app = RequestBodyLimitMiddleware(app, max_socket_bytes)
        self._login_app = RequestBodyLimitMiddleware(app, MAX_LOGIN_BODY)
        self._on_refusal = on_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._find_app(scope["path"])
        if scope["type"] == "http" and content_length(scope) > app.max_body_size:
            self._on_refusal()
            await problems.too_large(app.max_body_size).response()(scope, receive, send)
        else:
            await app(scope, receive, send)

    def _find_app(self, path: str) -> RequestBodyLimitMiddleware:
        if path == LOGIN_PATH:
            return self._login_app
        return self._socket_app if path.startswith(SOCKET_PATH) else self._app


def content_length(scope: Scope) -> int:
    """Return the size of the body in bytes as the request announces it; 0 when it does not."""
    length = Headers(scope=scope).get("content-length", "")
    return int(length) if length.isdecimal() else 0
