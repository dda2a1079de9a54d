"""Make and check call tokens: JSON Web Tokens (RFC 7519) with which a page may report one call. No I/O."""

import math
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

import jwt
import jwt.types

from companion.errors import InvalidTokenError
from companion.text import SAFE_TEXT

AUDIENCE: Final = "last-mile"
ALGORITHM: Final = "HS256"
MAX_MINUTES: Final = 1440
MAX_CHARACTERS: Final = 4096
SECRET_CHARACTERS: Final = 32
MAX_REMEMBERED: Final = 16_384
MAX_DEVICE: Final = 512
MAX_CALL_ID: Final = 256
LEEWAY_SECONDS: Final = 30
"""The operator's own backend may make tokens by another clock."""
_NAME: Final = re.compile(rf"(?![\s\S]*[\ud800-\udfff]){SAFE_TEXT}")
_OPTIONS: Final[jwt.types.Options] = {
    "require": ["aud", "sub", "call", "iat", "exp"],
    "verify_aud": True,
    "verify_exp": False,  # below, by the caller's clock
    "verify_iat": False,
    "verify_nbf": False,
}


class Claims(NamedTuple):
    """Name the device and the call that a token is for."""

    device: str
    call_id: str


def make(secret: str, claims: Claims, now: int, seconds: int) -> str:
    """Return a token that is good from `now` (epoch seconds) on for so many seconds."""
    payload = {"aud": AUDIENCE, "sub": claims.device, "call": claims.call_id, "iat": now, "exp": now + seconds}
    return jwt.encode(payload, secret, ALGORITHM)


def check(secret: str, text: str, now: int) -> Claims:
    """Return what a token is for, if it is good `now` (epoch seconds).

    Raises InvalidTokenError; its text repeats nothing of the token. A token for longer than a day is wrong.
    """
    payload = _signed(secret, text)
    _check_times(payload["iat"], payload["exp"], payload.get("nbf", 0), now)
    return _claims(payload["sub"], payload["call"])


@lru_cache(MAX_REMEMBERED)
def _signed(secret: str, text: str) -> dict[str, Any]:
    """Return the payload. A page sends the same token with each report, and a check takes 0.1 ms."""
    if not secret or len(text) > MAX_CHARACTERS:
        raise InvalidTokenError("wrong")
    try:
        return jwt.decode(text, secret, [ALGORITHM], options=_OPTIONS, audience=AUDIENCE)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise InvalidTokenError("wrong") from None


def _check_times(issued_at: Any, expires_at: Any, not_before: Any, now: int) -> None:
    times = issued_at, expires_at, not_before
    if not all(type(time) in (int, float) and math.isfinite(time) for time in times):
        raise InvalidTokenError("wrong")
    if expires_at <= now:
        raise InvalidTokenError("expired")
    if max(issued_at, not_before) > now + LEEWAY_SECONDS or expires_at > now + MAX_MINUTES * 60 + LEEWAY_SECONDS:
        raise InvalidTokenError("wrong")


def _claims(device: Any, call_id: Any) -> Claims:
    if not isinstance(device, str) or not isinstance(call_id, str):
        raise InvalidTokenError("wrong")
    if not is_name(device, MAX_DEVICE) or not is_name(call_id, MAX_CALL_ID):
        raise InvalidTokenError("wrong")
    return Claims(device, call_id)


def is_name(text: str, most: int) -> bool:
    """Return whether a text may name a device or a call: neither empty nor too long, without control characters.

    >>> is_name("a84b4c76e66710@192.0.2.1", 256), is_name("", 256), is_name(chr(7), 256)
    (True, False, False)
    """
    return 0 < len(text) <= most and _NAME.fullmatch(text) is not None
