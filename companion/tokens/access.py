"""Make and find access tokens, for people and programs. Only their SHA-256 is ever configured. No I/O."""

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Self

Scope = Literal["none", "read", "operate"]
"""What a token allows: nothing, to read, or to read and act. In this order."""

SCOPES: Final[tuple[Scope, ...]] = ("none", "read", "operate")
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE: Final = re.compile(rf"({NAME.pattern}):(read|operate):([0-9a-fA-F]{{64}})")
_PREFIX: Final = "companion_"
"""By it a scanner for leaked secrets, or a person, recognises such a token."""


class Token(NamedTuple):
    """Represent one line of the configuration; `digest` is the lower-case hex SHA-256 of the token itself."""

    name: str
    scope: Scope
    digest: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read NAME:SCOPE:SHA256HEX; raise ValueError, with a text that repeats no secret, for anything else."""
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise ValueError("is not NAME:SCOPE:SHA256HEX; `companion token new NAME` prints such a line")
        return cls(match[1], "operate" if match[2] == "operate" else "read", match[3].lower())

    @property
    def line(self) -> str:
        return f"{self.name}:{self.scope}:{self.digest}"


def make(name: str, scope: Scope) -> tuple[str, Token]:
    """Return a new secret of 256 bits, and what to configure for it."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, Token(name, scope, _digest(secret))


def find(tokens: Iterable[Token], secret: str) -> Token | None:
    """Return the token with this secret. All are compared, so that the time it takes reveals nothing."""
    digest = _digest(secret)
    match = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            match = token
    return match


def allows(scope: Scope, needed: Scope) -> bool:
    """Return whether `scope` includes what `needed` allows.

    >>> allows("operate", "read"), allows("read", "operate")
    (True, False)
    """
    return SCOPES.index(scope) >= SCOPES.index(needed)


def _digest(secret: str) -> str:
    return sha256(secret.encode(errors="surrogatepass")).hexdigest()
