"""Answer HEAD as GET without a body, for all routes."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_KEY: Final = "companion.head"


class Head:
    """Pass HEAD on as GET and drop the body of the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET", _KEY: True}, receive, send_without_body)


def is_head(scope: Scope) -> bool:
    """Return whether a GET was sent as HEAD: an endless answer must end at once."""
    return _KEY in scope
