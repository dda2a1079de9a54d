"""Digest answers (RFC 7616, RFC 8760) to a SIP server's challenges. No I/O."""

import hashlib
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from companion.errors import InvalidInputError

_PARAM: Final = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HASHES: Final = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


class Login(NamedTuple):
    user: str
    password: str


class Target(NamedTuple):
    """What the answer is for."""

    method: str
    uri: str


def authorization(challenges: Iterable[str], login: Login, target: Target, cnonce: str) -> str:
    """The Authorization header for the first of these challenges (WWW-Authenticate) that can be answered.

    Digest with MD5 or SHA-256, qop=auth or none. Raises InvalidInputError (reason "challenge") when none is.
    """
    for challenge in challenges:
        scheme, _, rest = challenge.strip().partition(" ")
        params = {name.lower(): quoted or plain for name, quoted, plain in _PARAM.findall(rest)}
        if scheme.lower() == "digest" and _answerable(params):
            return _answer(params, login, target, cnonce)
    raise InvalidInputError("challenge", "no Digest with MD5 or SHA-256 and qop=auth")


def _algorithm(params: dict[str, str]) -> str:
    return params.get("algorithm", "MD5").upper()


def _answerable(params: dict[str, str]) -> bool:
    qops = {qop.strip() for qop in params.get("qop", "auth").split(",")}
    return _algorithm(params) in _HASHES and {"realm", "nonce"} <= params.keys() and "auth" in qops


def _answer(params: dict[str, str], login: Login, target: Target, cnonce: str) -> str:
    algorithm, realm, nonce = _algorithm(params), params["realm"], params["nonce"]

    def digest(*parts: str) -> str:
        return _HASHES[algorithm](":".join(parts).encode()).hexdigest()

    middle = ("00000001", cnonce, "auth") if "qop" in params else ()
    secret = digest(login.user, realm, login.password)
    response = digest(secret, nonce, *middle, digest(*target))
    quoted = {"username": login.user, "realm": realm, "nonce": nonce, "uri": target.uri, "response": response}
    quoted |= {name: params[name] for name in ("opaque",) if name in params}
    fields = [f'{name}="{value}"' for name, value in quoted.items()]
    fields.append(f"algorithm={algorithm}")
    if middle:
        fields += ["qop=auth", "nc=00000001", f'cnonce="{cnonce}"']
    return "Digest " + ", ".join(fields)
