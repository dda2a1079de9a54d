"""Reports of calls over HTTP: read off the request, taken by the Intake, answered."""

import re
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from companion.http import problems
from companion.http.paths import is_report
from companion.http.reports.intake import Intake
from companion.tokens.call import MAX_CALL_ID, is_name

_CALL: Final = re.compile(r".*/calls/([^/]+)/samples")


class Reports:
    """ASGI, innermost: takes reports before FastAPI looks for a route.

    Of a thousand calls 200 come in a second, and its ways take longer than all that is to be done with one. The route
    in companion.api.calls does the same, and is what the OpenAPI document describes.
    """

    def __init__(self, app: ASGIApp, intake: Intake) -> None:
        self._app = app
        self._intake = intake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_report(scope) or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            answer = await take(self._intake, Request(scope, receive))
        except problems.ProblemError as problem:
            answer = problem.response()
        await answer(scope, receive, send)


async def take(intake: Intake, request: Request) -> Response:
    """Raises ProblemError."""
    found = _CALL.fullmatch(request.scope["path"])
    call_id = unquote(found[1]) if found else ""
    if not is_name(call_id, MAX_CALL_ID):
        raise problems.wrong_usage(f"path.call_id: is longer than {MAX_CALL_ID} characters, or can not be shown")
    answer = await intake.take(request, call_id, _device(request))
    return Response(msgspec.json.encode(answer), media_type="application/json")


def _device(request: Request) -> str:
    """The one thing that may be said in the query."""
    said = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if [name for name, _ in said] not in ([], ["device"]):
        raise problems.wrong_usage("query: may have `device`, once, and nothing else")
    return said[0][1] if said else ""
