"""Turn every error of a request into a problem."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from companion import log, metrics
from companion.errors import (
    FleetNotReadError,
    NoSuchCallError,
    NoSuchDeviceError,
    NotReplicatedError,
    SeveralCallsError,
    SeveralDevicesError,
    UsageError,
)
from companion.http import problems
from companion.http.problems import ProblemError
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.redis_errors import explain, is_redis_error

logger = log.get(__name__)


def add_handlers(app: Starlette) -> None:
    """Answer every error of a route with a problem."""
    app.add_exception_handler(ProblemError, _own)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(NoSuchDeviceError, _no_such_device)
    app.add_exception_handler(SeveralDevicesError, _several_devices)
    app.add_exception_handler(NoSuchCallError, _no_such_call)
    app.add_exception_handler(SeveralCallsError, _several_calls)
    app.add_exception_handler(UsageError, lambda _, error: problems.wrong_usage(str(error)).response())
    app.add_exception_handler(FleetNotReadError, lambda _, error: problems.fleet_not_read(error).response())
    app.add_exception_handler(NotReplicatedError, _not_replicated)
    app.add_exception_handler(ClientDisconnect, lambda *_: Response(status_code=408))  # nobody reads it
    app.add_exception_handler(Exception, lambda *_: problems.broken().response())
    for away in (*Unreachable, NotNowError, ResponseError):
        app.add_exception_handler(away, lambda _, error: problems.redis_away(error).response())


def _own(_: Request, error: Exception) -> JSONResponse:
    return cast("ProblemError", error).response()


def _no_such_device(_: Request, error: Exception) -> JSONResponse:
    return problems.no_such_device(cast("NoSuchDeviceError", error)).response()


def _several_devices(_: Request, error: Exception) -> JSONResponse:
    return problems.several_devices(cast("SeveralDevicesError", error)).response()


def _no_such_call(_: Request, error: Exception) -> JSONResponse:
    return problems.no_such_call(cast("NoSuchCallError", error)).response()


def _several_calls(_: Request, error: Exception) -> JSONResponse:
    return problems.several_calls(cast("SeveralCallsError", error)).response()


def _not_replicated(_: Request, error: Exception) -> JSONResponse:
    return problems.not_replicated(cast("NotReplicatedError", error)).response()


def _invalid(_: Request, error: Exception) -> JSONResponse:
    invalid = cast("RequestValidationError", error).errors()
    mistakes = [{"where": _where(mistake["loc"]), "message": mistake["msg"]} for mistake in invalid]
    detail = "; ".join(f"{mistake['where']}: {mistake['message']}" for mistake in mistakes)
    problem = problems.wrong_usage(detail)
    problem.body["mistakes"] = mistakes
    return problem.response()


def _where(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location))


def _http(request: Request, error: Exception) -> JSONResponse:
    error = cast("HTTPException", error)
    if error.status_code == 400:  # as FastAPI calls a body that is no text
        return problems.wrong_usage(error.detail).response()
    if error.status_code == 413:
        return problems.too_large(request.scope[MAX_BODY_SIZE_SCOPE_KEY]).response()
    title = HTTPStatus(error.status_code).phrase
    detail, remedy = {
        404: ("there is nothing at this path", "see /api/v1/openapi.json"),
        405: ("this method is not for this path", "see the header Allow"),
    }.get(error.status_code, (error.detail, "mend the request"))
    problem = ProblemError(error.status_code, title.lower().replace(" ", "-"), title, detail, remedy)
    problem.headers |= error.headers or {}
    if error.status_code == 405:
        problem.headers |= _allow(request)
    return problem.response()


def _allow(request: Request) -> dict[str, str]:
    """Return the header Allow for a path with routes of several methods: the framework names the first one's alone.

    A route that refused the request itself has named what its path takes.
    """
    path = getattr(request.scope.get("route"), "path_format", "")
    is_described = isinstance(request.app, FastAPI) and request.app.openapi_url
    operations = request.app.openapi()["paths"].get(path, {}) if path and is_described else {}
    if not operations or request.method.lower() in operations:
        return {}
    return {"Allow": ", ".join(method.upper() for method in operations)}


class Catch:
    """Log, count and answer errors that nothing else has caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._episodes = log.Episodes(logger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            if scope["type"] != "http":
                raise
            if is_redis_error(error):
                self._episodes.warn("a request failed because of Redis", **explain(error))
                problem = problems.redis_away(error)
            else:
                metrics.API_ERRORS.inc()
                self._episodes.warn("a request failed", exc_info=error)
                problem = problems.broken()
            if not started:
                await problem.response()(scope, receive, send)
