"""Mask the secrets in a SIP message: digest answers, push tokens, passwords, SRTP keys, typed digits. No I/O.

What is doubtful is masked. Names, addresses, Call-IDs and nonces stay: without them a trace can not be read.
"""

import re
from collections.abc import Callable
from typing import Final

from companion.credentials import MASK, mask

_PLAIN: Final = frozenset(
    """
    call-id i cseq via v max-forwards content-length l content-type c expires min-expires allow supported k require
    proxy-require date timestamp accept session-expires x min-se rseq rack event o allow-events u
    www-authenticate proxy-authenticate subscription-state retry-after
    """.split()  # noqa: SIM905 - words read better than a list of strings
)
"""Headers that hold no password: a Call-ID with colons and an @ only looks like one to a search."""
_ANSWERS: Final = frozenset({"authorization", "proxy-authorization"})
_SECRET_NAME: Final = re.compile(r"authorization|cookie|passw|secret|token|credential|api-?key", re.IGNORECASE)
"""Headers whose whole value is a secret, but for a digest answer."""
_DIGEST: Final = re.compile(r"\s*digest\b", re.IGNORECASE)
_PAIR: Final = re.compile(r"[\s,]*([\w-]+)\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+)(?=[\s,]|\Z)", re.ASCII | re.DOTALL)
_PUBLIC: Final = frozenset({"username", "realm", "nonce", "algorithm", "qop", "nc", "uri"})
_PUBLIC_INFO: Final = frozenset({"nextnonce", "qop", "nc"})
_START: Final = re.compile(r"(?P<method>\S+ )(?P<uri>.*?)(?P<version> SIP/2\.0\s*)", re.DOTALL)
_KEEP_NAME: Final = rf"\1{MASK}"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_TOKEN: Final = re.compile(rf'{_QUOTED}|<(?P<uri>(?:{_QUOTED}|[^<>"])*)>')
_ENCODED_QUOTE: Final = re.compile(r"%(?:25)*22")
_HEADER_NAME: Final = re.compile(r"[\w!%*+.`'~-]+", re.ASCII)
_LENGTH: Final = re.compile(r"^((?:content-length|l)[ \t]*:[ \t]*)(\d+)", re.IGNORECASE | re.MULTILINE)
_EOL: Final = r"(?:\r\n|\n|\r(?!\n))"
"""The end of a line, also of one that ends with a bare CR: whoever reads the trace may take it for one."""
_EMPTY_LINE: Final = re.compile(_EOL + _EOL)
_AFTER_LINE: Final = re.compile(r"(?<=\n)|(?<=\r)(?!\n)")
_AFTER_FIELD: Final = re.compile(r"(?<=\n)(?![ \t])|(?<=\r)(?![\n \t])")
_FOLD: Final = re.compile(rf"{_EOL}[ \t]+")
_DIGITS_TYPE: Final = re.compile(
    r"^(?:content-type|c)[ \t]*:[ \t]*(?:application|audio)/dtmf(?!-)", re.IGNORECASE | re.MULTILINE
)
"""A body of digits alone."""
_AT: Final = "\ue000"
"""Stands for an @ where no password can be: no message holds it once its bytes are read as characters."""
_LINE_SECRETS: Final = (
    (re.compile(r"(\ba=crypto\s*:.*)", re.IGNORECASE), re.compile(r"(inline\s*:\s*)(.+)", re.IGNORECASE)),
    (re.compile(r"(ice-pwd)", re.IGNORECASE), re.compile(r"(ice-pwd\"?\s*[:=]\s*)(.+)", re.IGNORECASE)),
    (re.compile(r"(a=key-mgmt)", re.IGNORECASE), re.compile(r"(a=key-mgmt\s*:\s*)(.+)", re.IGNORECASE)),
    (re.compile(r"(^\s*k=)", re.IGNORECASE), re.compile(r"(^\s*k=)(.+)", re.IGNORECASE)),
    (re.compile(r"(^\s*(?:signal|d)\s*=)", re.IGNORECASE), re.compile(r"(^\s*\w+\s*=\s*)(.+)", re.IGNORECASE)),
    (
        re.compile(r"\bdigits\s*=", re.IGNORECASE),
        re.compile(r"(\bdigits\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s>]+)", re.IGNORECASE),
    ),
    (
        re.compile(r"\b(?:response|cnonce|rspauth)\s*=", re.IGNORECASE),
        re.compile(r"(\b(?:response|cnonce|rspauth)\s*=\s*)(\"(?:[^\"\\]|\\.)*\"?|[^\s,;\"]+)", re.IGNORECASE),
    ),
)
"""Lines with a key, a digit that somebody typed, or part of a digest: how such a line looks, and what to mask in it."""


def mask_message(sip: bytes) -> bytes:
    """Return a SIP message without its secrets; Content-Length fits the masked body.

    Every byte that is no secret stays as it is, but for the folds of a header that holds one.
    """
    text = sip.decode("latin-1")  # one character a byte
    head, separator, body = _split(text)
    masked_body = MASK if body and _DIGITS_TYPE.search(head) else "".join(map(_mask_part, _AFTER_FIELD.split(body)))
    masked_head = _mask_head(head)
    if len(masked_body) != len(body):
        masked_head = _LENGTH.sub(lambda match: f"{match[1]}{len(masked_body)}", masked_head)
    return f"{masked_head}{separator}{masked_body}".encode("latin-1")


def _split(text: str) -> tuple[str, str, str]:
    """Split a message at the first empty line behind its start line, which ends its head."""
    begin = len(text) - len(text.lstrip("\r\n"))
    match = _EMPTY_LINE.search(text, begin)
    return (text[: match.start()], match[0], text[match.end() :]) if match else (text, "", "")


def _mask_head(head: str) -> str:
    rest = head.lstrip("\r\n")
    start, *fields = _AFTER_FIELD.split(rest)  # a folded line belongs to the header before it
    return head[: len(head) - len(rest)] + _mask_start(start) + "".join(map(_mask_header, fields))


def _mask_start(line: str) -> str:
    match = _START.fullmatch(line)
    return f"{match['method']}{mask(match['uri'])}{match['version']}" if match else _mask_line(line)


def _mask_header(field: str) -> str:
    name, colon, value = field.partition(":")
    lower = name.strip().lower()
    if not colon or not _HEADER_NAME.fullmatch(name.strip()):
        return _mask_part(field)  # a body that no empty line separates
    text, end = _split_end(value)
    secret = _mask_secret_header(lower, text)
    if secret is not None:
        return f"{name}:{secret}{end}"
    return f"{name}:{_mask_folded(text, _mask_plain if lower in _PLAIN else _mask_value)}{end}"


def _mask_secret_header(name: str, value: str) -> str | None:
    """Return the value of a header that holds a secret by its name, masked; None for any other."""
    if name in _ANSWERS:
        return _mask_answer(value)
    if name == "authentication-info":
        return f" {_keep(value, _PUBLIC_INFO) or MASK}"
    return f" {MASK}" if _SECRET_NAME.search(name) else None


def _mask_part(field: str) -> str:
    """Mask a line of a body with its folds: a body may hold the headers of another message."""
    name, colon, value = field.partition(":")
    if not colon or not _HEADER_NAME.fullmatch(name.strip()):
        return "".join(map(_mask_line, _AFTER_LINE.split(field)))
    text, end = _split_end(value)
    secret = _mask_secret_header(name.strip().lower(), text)
    return _mask_folded(name + colon + text, _mask_text) + end if secret is None else f"{name}:{secret}{end}"


def _split_end(value: str) -> tuple[str, str]:
    text = value.rstrip("\r\n")
    return text, value[len(text) :]


def _mask_answer(value: str) -> str:
    """Keep what identifies the user and the challenge; whoever knows all of a digest can guess the password."""
    scheme = _DIGEST.match(value)
    if not scheme:
        return f" {MASK}"
    public = _keep(value[scheme.end() :], _PUBLIC)
    return f" Digest {public}, response={MASK}" if public else f" Digest {MASK}"


def _keep(value: str, names: frozenset[str]) -> str:
    """Return the pairs of these names, each value masked, up to the first thing that is no pair."""
    kept: list[str] = []
    text, position = _unfold(value), 0
    while pair := _PAIR.match(text, position):
        position = pair.end()
        if pair[1].lower() in names:
            kept.append(f"{pair[1]}={_mask_pair_value(pair[2])}")
    return ", ".join(kept)


def _mask_pair_value(value: str) -> str:
    """Mask a user name as the user part of a URI, with its password."""
    quote = '"' if value.startswith('"') else ""
    text = _mask_text(value[1:-1] if quote else value)
    masked = text if ":" not in text or "/" in text else mask(f"sip:{text}").removeprefix("sip:")
    return f"{quote}{masked}{quote}"


def _unfold(value: str) -> str:
    """Return a value without line folds."""
    return _FOLD.sub(" ", value)


def _mask_folded(value: str, masked: Callable[[str], str]) -> str:
    """Mask a value that may be folded: what a fold cuts apart is one secret. Without any, the folds stay."""
    text = _unfold(value)
    result = masked(text)
    return value if result == text else result


def _mask_plain(value: str) -> str:
    return _mask_text(value.replace("@", _AT)).replace(_AT, "@")


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
        return _mask_text(value)
    return "".join(_mask_text(part) if n % 2 == 0 else f"<{mask(part[1:-1])}>" for n, part in enumerate(parts))


def _has_open_quote(part: str) -> bool:
    return '"' in _TOKEN.sub("", part) or len(_ENCODED_QUOTE.findall(part)) % 2 == 1


def _mask_line(line: str) -> str:
    text, end = _split_end(line)
    return _mask_text(text) + end


def _mask_text(text: str) -> str:
    for sign, secret in _LINE_SECRETS:
        if sign.search(text):
            text = secret.sub(_KEEP_NAME, text)
    return mask(text)
