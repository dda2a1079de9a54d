"""What pages of other sites may do: fetch the collector, and tell of their calls, if their origin is allowed.

Nothing else that a page of another site asks is answered so that it could read it (companion.api.access has the rest).
No cookie counts on these paths, so `Access-Control-Allow-Credentials` is never said.
"""

from collections.abc import Iterable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion.http import problems
from companion.http.access import origin
from companion.http.paths import SCRIPT_PATH, is_report

MAX_AGE_SECONDS: Final = 7200
"""How long a browser need not ask again whether it may; none takes more for an answer."""


class Cors:
    """ASGI, right behind RawPaths: answers preflights, and lets pages of allowed origins read all other answers."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_shared(scope):
            await self._app(scope, receive, send)
            return
        said = origin.header(scope, b"origin")
        allowed = said if said in self._origins else ""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), allowed)
            await send(message)

        if _is_preflight(scope):
            await (_welcome() if allowed else problems.foreign_origin().response())(scope, receive, sending)
        else:
            await self._app(scope, receive, sending)


def is_shared(scope: Scope) -> bool:
    return is_report(scope) or (scope["type"] == "http" and scope["path"] == SCRIPT_PATH)


def may_tell(scope: Scope, origins: Iterable[str]) -> bool:
    """Whether who asks is no page, one of ours, or one of an allowed origin."""
    said = [value for name, value in scope["headers"] if name == b"origin"]
    return not said or origin.is_same_origin(scope) is True or origin.header(scope, b"origin") in origins


def _is_preflight(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def _welcome() -> Response:
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
