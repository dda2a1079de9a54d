"""Mask credentials in text from the network: what lets anybody push to a phone or log in as somebody. No I/O.

Everything that is shown, logged or exported goes through `mask`. A credential can stand in a parameter of a contact
URI, in its user part or its headers, quoted, percent-encoded, or in a URI that is no URI. So the text is searched
instead of parsed, and what is doubtful is masked.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

MASK: Final = "***"
PUBLIC: Final = frozenset({"pn-provider", "pn-timeout", "pn-silent"})
"""The parameters of RFC 8599 and Linphone that are no secret. All other `pn-` parameters are masked."""

Span = tuple[int, int]
"""Start and end of a credential in a text."""


def _encoded(text: str) -> str:
    """Return a pattern for a text of which any character may be percent-encoded, even more than once."""
    return "".join(rf"(?:{re.escape(c)}|%(?:25)*(?:{ord(c):02x}|{ord(c.upper()):02x}))" for c in text)


_EQUALS: Final = _encoded("=")
_NAME: Final = re.compile(
    # what phones call a parameter that holds a credential: RFC 8599, Linphone's older clients, other libraries
    rf"(?P<name>(?:{_encoded('pn-')}|{_encoded('app-id')}|{_encoded('token')})"
    rf"(?:(?!{_EQUALS})[^\s;?\"])*+)"
    rf"(?P<equals>\s*+\"?\s*+{_EQUALS})?",
    re.IGNORECASE,
)
_QUOTE: Final = _encoded('"')
_ESCAPED: Final = r"\\++(?:.|\Z)"
"""A character behind any number of backslashes: the repr of a text, or JSON, doubles them."""
_ADDRESS: Final = r"@(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]{2,45}\])(?::\d{1,5})?(?=[;?>]|\Z)"
"""The address behind a user part is no credential, and people need it."""
_VALUE: Final = re.compile(
    rf"(?:{_QUOTE}(?:{_ESCAPED}|(?!{_QUOTE}).)*+(?:{_QUOTE}|\Z)|{_ESCAPED}|(?!{_QUOTE}|{_ADDRESS})[^;])*+",
    re.IGNORECASE | re.DOTALL,
)
_PASSWORD: Final = re.compile(
    r"(?:sips?:|://|\A\s*<?[a-z][a-z0-9+.-]*:)[^@:]*:(?P<password>[^@]*(?:@[^@;?<\s]*(?=@))*)@", re.IGNORECASE
)
_SIP: Final = re.compile(r"sips?:", re.IGNORECASE)
_HEADER: Final = re.compile(r"\?(?=[^\s?=]{1,64}=)")
_AUTHORIZATION: Final = re.compile(r"authorization[\"']?\s*+[:=]\s*+(?P<value>[^\r\n]+)", re.IGNORECASE)
_SIGNS: Final = re.compile(r"[=%@?:]")
"""A text without any of these holds no credential. Most texts are such."""
SHORT: Final = 256
"""Characters of a text whose masked form is kept."""


def mask(text: str) -> str:
    """Mask the credentials in a text: push parameters, passwords and headers of URIs, Authorization.

    >>> mask("sip:alice@192.0.2.1;PN-PRID=a:remote&b:voip;pn-provider=apns")
    'sip:alice@192.0.2.1;PN-PRID=***;pn-provider=apns'
    """
    return _mask_short(text) if len(text) <= SHORT else _replace(text, lambda _: MASK)


@lru_cache(maxsize=4096)
def _mask_short(text: str) -> str:
    """Mask a short text: the entries of a timeline repeat the same few."""
    return _replace(text, lambda _: MASK)


def fingerprint(text: str) -> str:
    """Replace the credentials in a name by what tells them apart, so that two names never become one.

    >>> fingerprint("alice;pn-prid=a"), fingerprint("alice")
    ('alice;pn-prid=***433911c6eb0d', 'alice')
    """
    return _replace(text, lambda secret: MASK + blake2b(secret.encode("utf-8", "replace"), digest_size=6).hexdigest())


def holds_credentials(text: str) -> bool:
    """Return whether `mask` would change a text."""
    return mask(text) != text


def mask_all(value: Any) -> Any:
    """Mask the credentials in all texts of a value as JSON has them. Anything else becomes its masked repr."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {mask_all(key): mask_all(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [mask_all(member) for member in value]
    return mask(repr(value))


def _replace(text: str, substitute: Callable[[str], str]) -> str:
    if not _SIGNS.search(text):
        return text
    parts, done = [], 0
    for start, end in _merge(sorted(_find_credentials(text))):
        parts += [text[done:start], substitute(text[start:end])]
        done = end
    return "".join([*parts, text[done:]])


def _merge(spans: list[Span]) -> Iterator[Span]:
    """Yield spans that do not overlap: a password may reach into a parameter."""
    current: Span | None = None
    for span in spans:
        if current is None:
            current = span
        elif span[0] <= current[1]:
            current = current[0], max(current[1], span[1])
        else:
            yield current
            current = span
    if current is not None:
        yield current


def _find_credentials(text: str) -> Iterator[Span]:
    """Yield the credentials in a text. Each search takes linear time, whatever the text."""
    yield from _find_parameters(text)
    yield from _find_passwords(text)
    yield from _find_headers(text)
    for match in _AUTHORIZATION.finditer(text):
        yield match.span("value")


def _find_parameters(text: str) -> Iterator[Span]:
    """Yield the values of parameters. A value ends at a `;` outside of quotes: it may hold `&`, `:`, `@` or `?`."""
    position = 0
    while match := _NAME.search(text, position):
        position = match.end()
        if not match["equals"] or match["name"].lower() in PUBLIC:
            continue  # the value of a public one may hold another parameter
        value = _VALUE.match(text, position)
        if value and value[0]:
            yield value.span()
            position = value.end()


def _find_passwords(text: str) -> Iterator[Span]:
    """Yield the passwords of URIs, up to the `@` that ends them. No URI goes beyond a `>`."""
    for part in re.finditer(r"[^>]+", text):
        end = text.rfind("@", part.start(), part.end()) + 1
        for match in _PASSWORD.finditer(text, part.start(), end):
            if match["password"]:
                yield match.span("password")


def _find_headers(text: str) -> Iterator[Span]:
    """Yield the headers of a SIP URI, which may be those of any request, wherever the URI stands in a text."""
    uri = _SIP.search(text)
    header = _HEADER.search(text, uri.end()) if uri else None
    if header:
        yield header.end(), len(text)
