"""The paths of the HTTP API, and names in them that hold slashes."""

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "/api/v1"

SCRIPT_PATH: Final = "/static/last-mile.js"
"""Where pages get what collects the media of their calls."""

_NAMED: Final = (f"{PREFIX}/devices/", f"{PREFIX}/calls/")

_REPORTS: Final = re.compile(rf"{PREFIX}/calls/[^/]+/samples")


class RawPaths:
    """ASGI: routes what is asked of devices and calls by the path as it was sent, with %2F in it.

    So a slash of an id is told from one of the path, where somebody minds: `bob%2Flatency` is a device,
    `bob/latency` the latency of one. An id whose slashes are sent as they are is found as well if it does not end so.
    Everything further in, who may do what above all, sees the same path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_NAMED):
            raw = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
            if raw.startswith(_NAMED):
                scope = {**scope, "path": raw}
        await self._app(scope, receive, send)


def is_report(scope: Scope) -> bool:
    """Whether a page tells of its call, or a browser asks whether it may: behind RawPaths."""
    return (
        scope["type"] == "http"
        and scope["method"] in ("POST", "OPTIONS")
        and _REPORTS.fullmatch(scope["path"]) is not None
    )
