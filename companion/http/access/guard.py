"""Who may do what: asked of every request and every websocket, before any route is looked for.

Looking (GET, HEAD, OPTIONS, a dashboard's websocket) needs `read`, all else `operate`; what is open to everybody is
listed here and nowhere else, so that a new route is closed until somebody decides otherwise.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from starlette.requests import HTTPConnection, cookie_parser
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from companion import metrics
from companion.config import ApiSection
from companion.http import problems
from companion.http.access import origin
from companion.http.access.sessions import COOKIE, Session, Sessions
from companion.http.middleware.methods import SOCKET_PATH
from companion.http.paths import SCRIPT_PATH, is_report
from companion.tokens import access as tokens
from companion.tokens.access import Scope, Token

OPEN: Final = frozenset(("/healthz", "/readyz", "/login", "/logout", "/companion.css", SCRIPT_PATH))
PROBES: Final = frozenset(("/healthz", "/readyz"))
"""Asked by whatever name: an orchestrator knows only an address, and they tell nobody anything."""
SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
HOME: Final = "/"

_KEY: Final = "companion.access"
_POLICY_VIOLATION: Final = 1008
_LOCAL_PATH: Final = re.compile(r"/(?:[\x21-\x2e\x30-\x5b\x5d-\x7e][\x21-\x5b\x5d-\x7e]*)?")
"""A path on this server: no second / or \\ behind the first one, which browsers take for the name of another."""


class Identity(NamedTuple):
    """Who asks: by what they are known, as whom, what they may, and until when (epoch seconds, 0 = no end)."""

    by: Literal["token", "session", "loopback", "nothing", "wrong token"]
    scope: Scope = "none"
    name: str = ""
    until: int = 0


class Access:
    """What the configuration says of who may do what."""

    def __init__(self, config: ApiSection) -> None:
        self._tokens = tuple(Token.parse(line) for line in config.tokens)
        self._open_reads = config.open_reads
        self._hosts = (*config.hosts, config.host)
        self.sessions = Sessions(self._tokens, config.session_key)

    def token(self, secret: str) -> Token | None:
        return tokens.find(self._tokens, secret)

    def identify(self, scope: AsgiScope) -> Identity:
        """Who asks now. A wrong token is never made up for by a session or by asking from here: it is a mistake."""
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

    def is_served(self, scope: AsgiScope) -> bool:
        return scope["path"] in PROBES or origin.is_served(origin.host(scope), self._hosts)

    def objection(self, scope: AsgiScope) -> problems.ProblemError | None:
        """Why the request must not go on; None when nothing speaks against it."""
        if not self.is_served(scope):
            return problems.wrong_host(origin.host(scope))
        if is_report(scope):
            return None  # those come from pages of others, and bring a token of another kind: companion.api.intake
        who, needs = self.identify(scope), needed(scope)
        if _is_forged(scope, who):
            return problems.foreign_page()
        if tokens.allows(who.scope, needs):
            return None
        return problems.login_needed(wrong=who.by == "wrong token") if who.scope == "none" else _may_not_act(who)


class Guard:
    """ASGI: lets through what Access does not object to."""

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
            return
        metrics.API_DENIED.labels(problem.name).inc()
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem.body["title"]})
        elif problem.status == 401 and _is_page(scope):
            await RedirectResponse(login_path(scope), 303)(scope, receive, send)
        else:
            await problem.response()(scope, receive, send)


def needed(scope: AsgiScope) -> Scope:
    """What one must be allowed to for this request."""
    if scope["path"] in OPEN:
        return "none"
    looks = scope["type"] == "websocket" or scope["method"] in SAFE or scope["path"].startswith(SOCKET_PATH)
    return "read" if looks else "operate"


def identity_of(connection: HTTPConnection | Mapping[str, Any]) -> Identity:
    """Who is at the other end of a request, a websocket, or their ASGI scope, as of now: sessions end."""
    scope = connection.scope if isinstance(connection, HTTPConnection) else connection
    access: Access = scope[_KEY]
    return access.identify(dict(scope))


def scope_of(connection: HTTPConnection | Mapping[str, Any]) -> Scope:
    """What who is at the other end may do: "none", "read" or "operate"."""
    return identity_of(connection).scope


def name_of(connection: HTTPConnection | Mapping[str, Any]) -> str:
    """The name of the token that somebody logged in with; "" for who needed none."""
    return identity_of(connection).name


def local_path(path: str) -> str:
    """The path if it is one on this server, else the front page: nobody is led elsewhere by a link to our login."""
    return path if _LOCAL_PATH.fullmatch(path) else HOME


def login_path(scope: AsgiScope) -> str:
    query = scope["query_string"].decode("latin-1")
    wanted = quote(scope["path"], safe="/") + (f"?{query}" if query else "")
    return f"/login?next={quote(local_path(wanted), safe='/')}"


def cookie(scope: AsgiScope) -> str:
    return cookie_parser(origin.header(scope, b"cookie")).get(COOKIE, "")


def bearer(scope: AsgiScope) -> str:
    """The token of the header Authorization; "" when there is none."""
    scheme, _, secret = origin.header(scope, b"authorization").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _is_forged(scope: AsgiScope, who: Identity) -> bool:
    """Whether a page of somebody else makes a browser ask, and the browser adds what lets it in.

    For what only looks it is enough that such a page can not read the answer, but it could read from a websocket.
    """
    if (scope["type"] == "http" and scope["method"] in SAFE) or who.by in ("token", "wrong token"):
        return False
    same = origin.is_same_origin(scope)
    return same is not True if who.by == "session" else same is False


def _may_not_act(who: Identity) -> problems.ProblemError:
    """On loopback one may read without a token, but nobody acts without one."""
    return problems.login_needed(wrong=False) if who.by == "loopback" else problems.not_allowed()


def _is_page(scope: AsgiScope) -> bool:
    """Whether a person waits for a page there."""
    machines = scope["path"].startswith("/api/") or scope["method"] not in ("GET", "HEAD")
    return not machines and "text/html" in origin.header(scope, b"accept")
