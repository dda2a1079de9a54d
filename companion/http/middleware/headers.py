"""What every answer carries, so that a browser does nothing with it that was not meant."""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OWN_PATHS: Final = ("/api/", "/login", "/logout", "/companion.css", "/static/", "/metrics", "/healthz", "/readyz")

_ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NOTHING_BUT_STYLE: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_DASHBOARD: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'self'"
)
"""NiceGUI writes scripts into its pages, and Vue compiles templates with eval."""


class Headers:
    """ASGI: adds them; what an answer says itself of caching and content stands."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(MutableHeaders(scope=message), own=scope["path"].startswith(OWN_PATHS))
            await send(message)

        await self._app(scope, receive, sending)


def _add(headers: MutableHeaders, *, own: bool) -> None:
    """`own`: an answer of the API, not of the dashboard."""
    headers.update(_ALWAYS)
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Cache-Control", "no-store")
    headers.setdefault("Content-Security-Policy", _NOTHING_BUT_STYLE if own else _DASHBOARD)
    # not no-referrer for pages: with it a browser names no origin for the forms on them, which we want to know
    page = headers.get("content-type", "").startswith("text/html")
    headers.setdefault("Referrer-Policy", "same-origin" if page else "no-referrer")
