"""Name the paths of the HTTP API, and route by ids that hold slashes."""

from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "/api/v1"

LOGIN_PATH: Final = "/login"
SOCKET_PATH: Final = "/_nicegui_ws/"
"""Where pages talk to the dashboard, by a WebSocket or, where there can be none, by POST."""
PROCESS_PARAM: Final = "process"
"""The parameter of these requests that names the process that made the page."""


class RawPaths:
    """Route requests to the API by the path as it was sent, with %2F in it.

    A slash within an id then differs from one of the path: `bob%2Flatency` is a device, `bob/latency` the latency of
    one. An id that is sent with plain slashes works too, unless it ends like a path of the API.
    All inner applications, the access checks too, read the same path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{PREFIX}/"):
            raw = scope.get("raw_path", b"").partition(b"?")[0].decode("ascii", "replace")
            if raw.startswith(f"{PREFIX}/"):
                scope = {**scope, "path": raw}
        await self._app(scope, receive, send)
