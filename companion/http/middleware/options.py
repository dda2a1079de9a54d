"""Answer OPTIONS with the methods of a path, for all routes."""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Options:
    """Complete the header Allow of each 405, and turn a 405 for OPTIONS into a 204."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replaced = False

        async def complete(message: Message) -> None:
            nonlocal replaced
            if replaced:
                return
            if message["type"] == "http.response.start" and message["status"] == 405:
                headers = MutableHeaders(scope=message)
                headers["allow"] = _complete_methods(headers.get("allow", ""))
                if scope["method"] == "OPTIONS":
                    replaced = True
                    await Response(status_code=204, headers={"Allow": headers["allow"]})(scope, receive, send)
                    return
            await send(message)

        await self._app(scope, receive, complete)


def _complete_methods(allow: str) -> str:
    """Add HEAD where there is GET, and OPTIONS.

    >>> _complete_methods("GET")
    'GET, HEAD, OPTIONS'
    """
    methods = {name.strip() for name in allow.split(",")} - {""}
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))
