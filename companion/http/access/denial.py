"""Deny a request or a websocket, and count it."""

from typing import Final

from starlette.types import Receive, Scope, Send

from companion import metrics
from companion.http.problems import ProblemError

_POLICY_VIOLATION: Final = 1008


def count_denial(problem: ProblemError) -> None:
    metrics.API_DENIED.labels(problem.name).inc()


async def deny(problem: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with the problem; close a websocket, which knows no bodies, with its title."""
    count_denial(problem)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem.body["title"]})
    else:
        await problem.response()(scope, receive, send)
