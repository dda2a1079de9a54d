"""Decide who may do what: every request and every websocket passes here before any route is looked for.

Reading (GET, HEAD, OPTIONS, a dashboard's websocket) needs `read`, all else `operate`. What is open to everybody is
listed here and nowhere else, so a new route is closed until somebody decides otherwise.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from companion.config import ApiSection
from companion.http import problems
from companion.http.access import origin
from companion.http.access.denial import count_denial, deny
from companion.http.access.sessions import COOKIE, Session, Sessions
from companion.http.paths import SOCKET_PATH
from companion.tokens import access as tokens
from companion.tokens.access import Scope, Token

OPEN: Final = frozenset(("/healthz", "/readyz", "/login", "/logout", "/companion.css"))
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
READ_ONLY: Final = ("/metrics", SOCKET_PATH)
"""Paths on which no method acts: others than GET are what a page needs to read, or are answered with 405."""
HOME: Final = "/"

_KEY: Final = "companion.access"
_LOCAL_PATH: Final = re.compile(r"/(?:[\x21-\x2e\x30-\x5b\x5d-\x7e][\x21-\x5b\x5d-\x7e]*)?")
"""A path on this server: no second / or \\ behind the first one, which browsers take for the name of another."""


class Identity(NamedTuple):
    """Hold who sends a request: proven by what, with which scope and name, until when (epoch seconds, 0 = no end)."""

    by: Literal["token", "session", "loopback", "nothing", "wrong token"]
    scope: Scope = "none"
    name: str = ""
    until: int = 0


class Access:
    """Identify clients by the tokens and rules of the configuration."""

    def __init__(self, config: ApiSection) -> None:
        self._tokens = tuple(Token.parse(line) for line in config.tokens)
        self._open_reads = config.open_reads
        self.sessions = Sessions(self._tokens, config.session_key)

    def token(self, secret: str) -> Token | None:
        return tokens.find(self._tokens, secret)

    def identify(self, scope: AsgiScope) -> Identity:
        """Return who sends a request now.

        A session or a connection from this machine never makes up for a wrong token: that is a mistake to report.
        """
        secret = bearer(scope)
        if secret:
            token = self.token(secret)
            return Identity("token", token.scope, token.name) if token else Identity("wrong token")
        session = self.session(scope)
        if session:
            return Identity("session", session.token.scope, session.token.name, session.until)
        if self._open_reads and origin.is_local(scope):
            return Identity("loopback", "read")
        return Identity("nothing")

    def session(self, scope: AsgiScope) -> Session | None:
        return self.sessions.read(cookie(scope))

    def objection(self, scope: AsgiScope) -> problems.ProblemError | None:
        """Return why the request must not go on; None when it may."""
        identity, needed = self.identify(scope), needed_scope(scope)
        if _is_forged(scope, identity):
            return problems.foreign_page()
        if tokens.allows(identity.scope, needed):
            return None
        if identity.scope == "none":
            return problems.login_needed(wrong=identity.by == "wrong token")
        return _refuse_action(identity)


class Guard:
    """Let requests through unless Access objects."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope[_KEY] = self._access
        problem = self._access.objection(scope)
        if not problem:
            await self._app(scope, receive, send)
        elif problem.status == 401 and _is_page(scope):
            count_denial(problem)
            await RedirectResponse(login_path(scope), 303)(scope, receive, send)
        else:
            await deny(problem, scope, receive, send)


def needed_scope(scope: AsgiScope) -> Scope:
    """Return the access scope that a request needs."""
    if scope["path"] in OPEN:
        return "none"
    is_read = scope["type"] == "websocket" or scope["method"] in SAFE or scope["path"].startswith(READ_ONLY)
    return "read" if is_read else "operate"


def identity_of(connection: HTTPConnection | Mapping[str, Any]) -> Identity:
    """Return who is at the other end of a request, a websocket or their ASGI scope, as of now: sessions end."""
    scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    access: Access = scope[_KEY]
    return access.identify(dict(scope))


def scope_of(connection: HTTPConnection | Mapping[str, Any]) -> Scope:
    """Return what the other end may do: "none", "read" or "operate"."""
    return identity_of(connection).scope


def name_of(connection: HTTPConnection | Mapping[str, Any]) -> str:
    """Return the name of the token that the other end logged in with; "" when it needed none."""
    return identity_of(connection).name


def local_path(path: str) -> str:
    """Return the path if it is on this server, else the front page: our login must lead nobody elsewhere."""
    return path if _LOCAL_PATH.fullmatch(path) else HOME


def login_path(scope: AsgiScope) -> str:
    query = scope["query_string"].decode("latin-1")
    target = quote(scope["path"], safe="/") + (f"?{query}" if query else "")
    return f"/login?next={quote(local_path(target), safe='/')}"


def cookie(scope: AsgiScope) -> str:
    return cookie_parser(origin.header(scope, b"cookie")).get(COOKIE, "")


def bearer(scope: AsgiScope) -> str:
    """Return the token of the header Authorization; "" when there is none."""
    scheme, _, secret = origin.header(scope, b"authorization").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _is_forged(scope: AsgiScope, identity: Identity) -> bool:
    """Return whether a page of another site makes a browser send this, and the browser adds what lets it in.

    For a read it is enough that such a page can not see the answer, but it could read from a websocket. Where pages
    talk to the dashboard nothing of another site is let in, as a read there begins something.
    """
    if scope["path"].startswith(SOCKET_PATH) and origin.is_same_origin(scope) is False:
        return True
    if (scope["type"] == "http" and scope["method"] in SAFE) or identity.by in ("token", "wrong token"):
        return False
    same = origin.is_same_origin(scope)
    return same is not True if identity.by == "session" else same is False


def _refuse_action(identity: Identity) -> problems.ProblemError:
    """Return the problem of a reader that acts: on loopback nobody needs a token to read, but everybody to act."""
    return problems.login_needed(wrong=False) if identity.by == "loopback" else problems.not_allowed()


def _is_page(scope: AsgiScope) -> bool:
    """Return whether a person waits for a page."""
    is_machine = (
        scope["type"] == "websocket" or scope["path"].startswith("/api/") or scope["method"] not in ("GET", "HEAD")
    )
    return not is_machine and "text/html" in origin.header(scope, b"accept")
