"""Refuse requests that name another host than ours."""

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from companion.http import problems
from companion.http.access import origin
from companion.http.access.denial import deny

PROBES: Final = frozenset(("/healthz", "/readyz"))
"""Served under any name: an orchestrator knows only an address, and they reveal nothing."""


class Hosts:
    """Refuse other names in the header Host, so that no page whose name was made to lead here can read us."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        self._names = tuple(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PROBES or self._is_ours(origin.host(scope)):
            await self._app(scope, receive, send)
        else:
            await deny(problems.wrong_host(origin.host(scope)), scope, receive, send)

    def _is_ours(self, name: str) -> bool:
        return origin.is_served(name, self._names)
