"""Mask the secrets in a SIP message: digest answers, push tokens, passwords, SRTP keys, ICE passwords. No I/O.

What is doubtful is masked. Names, addresses, Call-IDs and nonces stay: without them a trace can not be read.
"""

import re
from typing import Final

from companion.credentials import MASK, mask

_PLAIN: Final = frozenset(
    """
    call-id i cseq via v max-forwards content-length l content-type c expires min-expires allow supported k require
    proxy-require date timestamp accept session-expires x min-se rseq rack event o allow-events u
    www-authenticate proxy-authenticate subscription-state retry-after
    """.split()  # noqa: SIM905 - words read better than a list of strings
)
"""Headers that hold no credential: a Call-ID with colons and an @ looks like a password to a search."""
_ANSWERS: Final = frozenset({"authorization", "proxy-authorization"})
_DIGEST: Final = re.compile(r"\s*digest\b", re.IGNORECASE)
_PUBLIC: Final = re.compile(
    r"\b(username|realm|nonce|algorithm|qop|nc|uri)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)", re.IGNORECASE
)
_RESPONSE_AUTH: Final = re.compile(r"(rspauth\s*=\s*)(\"[^\"]*\"|[^\s,]+)", re.IGNORECASE)
_START: Final = re.compile(r"(?P<method>\S+ )(?P<uri>.*?)(?P<version> SIP/2\.0\s*)", re.DOTALL)
_KEEP_NAME: Final = rf"\1{MASK}"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_TOKEN: Final = re.compile(rf'{_QUOTED}|<(?P<uri>(?:{_QUOTED}|[^<>"])*)>')
_ENCODED_QUOTE: Final = re.compile(r"%(?:25)*22")
_HEADER_NAME: Final = re.compile(r"[\w!%*+.`'~-]+", re.ASCII)
_LENGTH: Final = re.compile(r"^((?:content-length|l)[ \t]*:[ \t]*)(\d+)", re.IGNORECASE | re.MULTILINE)
_BODY_SECRETS: Final = (
    (re.compile(r"(\ba=crypto\s*:.*)", re.IGNORECASE), re.compile(r"(inline\s*:\s*)(.+)", re.IGNORECASE)),
    (re.compile(r"(ice-pwd)", re.IGNORECASE), re.compile(r"(ice-pwd\"?\s*[:=]\s*)(.+)", re.IGNORECASE)),
    (re.compile(r"(a=key-mgmt)", re.IGNORECASE), re.compile(r"(a=key-mgmt\s*:\s*)(.+)", re.IGNORECASE)),
    (re.compile(r"(^\s*k=)", re.IGNORECASE), re.compile(r"(^\s*k=)(.+)", re.IGNORECASE)),
)
"""Lines of SDP with a key: what such a line looks like, and what to mask in it."""


def mask_message(sip: bytes) -> bytes:
    """Return a SIP message without its secrets; Content-Length fits the masked body.

    Every byte that is no secret stays as it is.
    """
    text = sip.decode("latin-1")  # one character a byte
    head, separator, body = _split(text)
    masked_body = "".join(map(_mask_body_line, re.split(r"(?<=\n)", body)))
    masked_head = _mask_head(head)
    if len(masked_body) != len(body):
        masked_head = _LENGTH.sub(lambda match: f"{match[1]}{len(masked_body)}", masked_head)
    return f"{masked_head}{separator}{masked_body}".encode("latin-1")


def _split(text: str) -> tuple[str, str, str]:
    """Split a message at the first empty line, which ends its head."""
    match = re.search(r"\r?\n\r?\n", text)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _mask_head(head: str) -> str:
    start, *rest = re.split(r"(?<=\n)(?![ \t])", head)  # a folded line belongs to the header before it
    return _mask_start(start) + "".join(map(_mask_header, rest))


def _mask_start(line: str) -> str:
    match = _START.fullmatch(line)
    return f"{match['method']}{mask(match['uri'])}{match['version']}" if match else mask(line)


def _mask_header(line: str) -> str:
    name, colon, value = line.partition(":")
    lower = name.strip().lower()
    value, end = _split_end(value)
    if lower in _PLAIN:
        return line
    if not colon or not _HEADER_NAME.fullmatch(name.strip()):
        return _mask_body_line(line)  # a body that no empty line separates
    if lower in _ANSWERS:
        return f"{name}:{_mask_answer(value)}{end}"
    if lower == "authentication-info":
        return f"{name}:{_RESPONSE_AUTH.sub(_KEEP_NAME, value)}{end}"
    return f"{name}:{_mask_value(value)}{end}"


def _split_end(value: str) -> tuple[str, str]:
    text = value.rstrip("\r\n")
    return text, value[len(text) :]


def _mask_answer(value: str) -> str:
    """Keep what identifies the user and the challenge; whoever knows all of a digest can guess the password."""
    if not _DIGEST.match(value):
        return f" {MASK}"
    public = ", ".join(f"{match[1]}={match[2]}" for match in _PUBLIC.finditer(_unfold(value)))
    return f" Digest {public}, response={MASK}" if public else f" Digest {MASK}"


def _unfold(value: str) -> str:
    """Return a digest answer without line folds."""
    return re.sub(r"\r?\n[ \t]+", " ", value)


def _mask_value(value: str) -> str:
    """Mask each URI between brackets by itself, so that what follows it stays readable.

    A quote without its end may hold a bracket: then all behind the credential is masked.
    """
    parts: list[str] = []
    done = 0
    for match in _TOKEN.finditer(value):
        if match["uri"] is not None:
            parts += value[done : match.start()], match[0]
            done = match.end()
    parts.append(value[done:])
    if any(_has_open_quote(part) for part in parts):
        return mask(value)
    return "".join(mask(part) if n % 2 == 0 else f"<{mask(part[1:-1])}>" for n, part in enumerate(parts))


def _has_open_quote(part: str) -> bool:
    return '"' in _TOKEN.sub("", part) or len(_ENCODED_QUOTE.findall(part)) % 2 == 1


def _mask_body_line(line: str) -> str:
    text, end = _split_end(line)
    for sign, secret in _BODY_SECRETS:
        if sign.search(text):
            text = secret.sub(_KEEP_NAME, text)
    return mask(text) + end
