"""Keep the sessions of browsers: signed cookies, and the few that ended before their time. No I/O."""

import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from companion.tokens.access import NAME, Token

HOURS: Final = 12
SECONDS: Final = HOURS * 3600
COOKIE: Final = "companion_session"
MAX_ENDED: Final = 10_000

_COOKIE: Final = re.compile(rf"([A-Za-z0-9_-]{{22}})~([0-9]{{1,12}})~({NAME.pattern})~([0-9a-f]{{64}})")


class Session(NamedTuple):
    """Represent one login; `until` is epoch seconds."""

    id: str
    until: int
    token: Token


class Sessions:
    """Make and read cookies.

    A cookie names its token and is signed with it, so it dies with the token. The scope is not in the cookie: that of
    the token counts at each request.
    """

    def __init__(self, tokens: Iterable[Token], key: str, clock: Callable[[], float] = time.time) -> None:
        self._tokens = {token.name: token for token in tokens}
        self._key = key.encode() or secrets.token_bytes(32)
        self._clock = clock
        self._ended: dict[str, int] = {}

    def start(self, token: Token) -> str:
        """Start a session and return its cookie."""
        return self._sign(Session(secrets.token_urlsafe(16), int(self._clock()) + SECONDS, token))

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is forged, over, ended, or of a removed token."""
        match = _COOKIE.fullmatch(cookie)
        token = self._tokens.get(match[3]) if match else None
        if not match or not token:
            return None
        session = Session(match[1], int(match[2]), token)
        if not hmac.compare_digest(self._sign(session), cookie):
            return None
        return session if self._clock() < session.until and session.id not in self._ended else None

    @property
    def ended(self) -> dict[str, int]:
        """Return the ids of the sessions that ended before their time, and when each would have ended by itself."""
        return dict(self._ended)

    def end(self, cookie: str) -> Session | None:
        """End a session, for all copies of its cookie, and return it."""
        session = self.read(cookie)
        if session:
            self.note_end(session.id, session.until)
        return session

    def note_end(self, session: str, until: int) -> None:
        """Note that a session has ended, though its cookie is signed until then (epoch seconds)."""
        if len(self._ended) >= MAX_ENDED:
            now = self._clock()
            self._ended = {key: until for key, until in self._ended.items() if until > now}
        while len(self._ended) >= MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session] = until

    def _sign(self, session: Session) -> str:
        payload = f"{session.id}~{session.until}~{session.token.name}"
        signature = hmac.new(self._key, f"{payload}~{session.token.line}".encode(), sha256)
        return f"{payload}~{signature.hexdigest()}"
