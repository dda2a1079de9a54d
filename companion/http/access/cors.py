"""Let pages of allowed origins read the answers of an application (CORS).

No cookie counts there, so `Access-Control-Allow-Credentials` is never sent. Starlette's CORSMiddleware does not serve:
it tells every origin which headers it could read, answers preflights of other origins in plain text, and sets no
Cross-Origin-Resource-Policy.
"""

from collections.abc import Iterable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion.http import problems
from companion.http.access import origin

MAX_AGE_SECONDS: Final = 7200
"""How long a browser may remember a preflight; no browser keeps one for longer."""


class Cors:
    """Answer preflights, and let pages of allowed origins read all other answers."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        page = origin.header(scope, b"origin")
        allowed = page if page in self._origins else ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), allowed)
            await send(message)

        if _is_preflight(scope):
            answer = _permission() if allowed else problems.foreign_origin().response()
            await answer(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def is_allowed(scope: Scope, origins: Iterable[str]) -> bool:
    """Return whether a request comes from no page, from one of ours, or from one of an allowed origin."""
    has_origin = any(name == b"origin" for name, _ in scope["headers"])
    return not has_origin or origin.is_same_origin(scope) is True or origin.header(scope, b"origin") in origins


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def _permission() -> Response:
    headers = {
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
    }
    return Response(status_code=204, headers=headers)


def _add(headers: MutableHeaders, allowed: str) -> None:
    headers.add_vary_header("Origin")
    if allowed:
        headers["Access-Control-Allow-Origin"] = allowed
        headers["Access-Control-Expose-Headers"] = "Retry-After"
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
