"""SIP messages (RFC 3261 §7), one to a WebSocket frame (RFC 7118). No I/O."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from companion.errors import InvalidInputError

Headers = tuple[tuple[str, str], ...]

_COMPACT: Final = {
    "i": "call-id",
    "m": "contact",
    "e": "content-encoding",
    "l": "content-length",
    "c": "content-type",
    "f": "from",
    "s": "subject",
    "k": "supported",
    "t": "to",
    "v": "via",
}
_NAME: Final = re.compile(r"[A-Za-z0-9.!%*_+`'~-]+")
_REQUEST: Final = re.compile(r"([A-Z][A-Za-z0-9.!%*_+`'~-]*) (\S+) SIP/2\.0")
_STATUS: Final = re.compile(r"SIP/2\.0 ([0-9]{3}) ([^\r\n]*)")


@dataclass(frozen=True)
class SipMessage:
    """A request or a response: its first line, its headers in order, its body."""

    start_line: str
    headers: Headers
    body: str = ""

    @property
    def method(self) -> str:
        """Of a request; "" of a response."""
        match = _REQUEST.fullmatch(self.start_line)
        return match[1] if match else ""

    @property
    def status(self) -> int:
        """Of a response; 0 of a request."""
        match = _STATUS.fullmatch(self.start_line)
        return int(match[1]) if match else 0

    def all(self, name: str) -> list[str]:
        """The values of a header, by its long name, whatever its case or short form in the message."""
        return [value for key, value in self.headers if long_name(key) == name.lower()]

    def first(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    def __str__(self) -> str:
        lines = [self.start_line, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join(lines) + f"\r\nContent-Length: {len(self.body.encode())}\r\n\r\n{self.body}"


def long_name(name: str) -> str:
    """A header's name in lower case, its short form written out."""
    return _COMPACT.get(name.lower(), name.lower())


def parse(text: str) -> SipMessage:
    """Read the message of one WebSocket frame; its Content-Length is checked and left out of `headers`.

    Raises InvalidInputError (reason "sip_message") for anything else.
    """
    head, separator, body = text.partition("\r\n\r\n")
    start_line, _, rest = head.partition("\r\n")
    if not separator or not (_REQUEST.fullmatch(start_line) or _STATUS.fullmatch(start_line)):
        raise InvalidInputError("sip_message", start_line[:80])
    headers = tuple(_headers(rest))
    message = SipMessage(start_line, tuple(h for h in headers if long_name(h[0]) != "content-length"), body)
    lengths = {value for name, value in headers if long_name(name) == "content-length"}
    if lengths - {str(len(body.encode()))}:
        raise InvalidInputError("sip_message", "Content-Length")
    return message


def _headers(text: str) -> Iterator[tuple[str, str]]:
    unfolded = re.sub(r"\r\n[ \t]+", " ", text)
    for line in unfolded.split("\r\n") if unfolded else ():
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name.rstrip(" \t")):
            raise InvalidInputError("sip_message", line[:80])
        yield name.rstrip(" \t"), value.strip(" \t")


def response(request: SipMessage, status: str, to_tag: str) -> SipMessage:
    """The answer to a request, such as "200 OK", with what has to be echoed."""
    echoed = {"via", "from", "to", "call-id", "cseq"}
    headers = [(name, value) for name, value in request.headers if long_name(name) in echoed]
    tagged = [
        (name, f"{value};tag={to_tag}") if long_name(name) == "to" and ";tag=" not in value else (name, value)
        for name, value in headers
    ]
    return SipMessage(f"SIP/2.0 {status}", tuple(tagged))
