"""Access tokens: what a person or a program shows to be let in. Only their SHA-256 is ever configured. No I/O."""

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Literal, NamedTuple, Self

Scope = Literal["none", "read", "operate"]
"""What one may: nothing, look, or look and act. In this order."""

SCOPES: Final[tuple[Scope, ...]] = ("none", "read", "operate")
NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE: Final = re.compile(rf"({NAME.pattern}):(read|operate):([0-9a-fA-F]{{64}})")
_PREFIX: Final = "companion_"
"""By it a scanner for leaked secrets, or a person, tells what has been found."""


class Token(NamedTuple):
    """One line of the configuration; `digest` is the lower-case hex SHA-256 of the token itself."""

    name: str
    scope: Scope
    digest: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read NAME:SCOPE:SHA256HEX; ValueError otherwise, whose text does not repeat what may be a secret."""
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise ValueError("is not NAME:SCOPE:SHA256HEX; `companion token new NAME` prints such a line")
        return cls(found[1], "operate" if found[2] == "operate" else "read", found[3].lower())

    @property
    def line(self) -> str:
        return f"{self.name}:{self.scope}:{self.digest}"


def make(name: str, scope: Scope) -> tuple[str, Token]:
    """A new secret of 256 bits, and what to configure for it."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, Token(name, scope, _digest(secret))


def find(tokens: Iterable[Token], secret: str) -> Token | None:
    """The token whose secret this is. All are looked at, so that the time it takes tells nothing."""
    digest = _digest(secret)
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found


def allows(scope: Scope, needed: Scope) -> bool:
    """Whether who has `scope` may do what needs `needed`.

    >>> allows("operate", "read"), allows("read", "operate")
    (True, False)
    """
    return SCOPES.index(scope) >= SCOPES.index(needed)


def _digest(secret: str) -> str:
    return sha256(secret.encode(errors="surrogatepass")).hexdigest()
