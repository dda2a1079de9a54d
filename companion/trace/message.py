"""Summarise a SIP message: its start line and the headers that a trace is read by. No I/O.

The text is read leniently, as phones write it: compact header names, folded lines, bare line feeds, any bytes.
"""

import re
from functools import cached_property
from typing import Final

from companion.errors import InvalidPacketError, InvalidUriError
from companion.sip import SipUri, parse_uri

_REQUEST: Final = re.compile(r"(?P<method>[A-Za-z0-9!%*_+`'~.-]{1,32}) (?P<uri>\S[^\r\n]*?) SIP/2\.0\s*", re.ASCII)
_REPLY: Final = re.compile(r"SIP/2\.0 (?P<code>[1-6]\d\d)(?: (?P<reason>[^\r\n]*))?", re.ASCII)
_COMPACT: Final = {
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "v": "via",
    "l": "content-length",
    "c": "content-type",
    "s": "subject",
    "k": "supported",
    "e": "content-encoding",
    "o": "event",
    "u": "allow-events",
    "r": "refer-to",
    "b": "referred-by",
    "x": "session-expires",
}
_CSEQ: Final = re.compile(r"\s*(\d{1,10})\s+(\S{1,32})", re.ASCII)
_TAG: Final = re.compile(r";\s*tag\s*=\s*([^;>\s,]+)", re.IGNORECASE)
_BRANCH: Final = re.compile(r";\s*branch\s*=\s*([^;\s,]+)", re.IGNORECASE)
MAX_HEADERS: Final = 200


class SipMessage:
    """Hold what a trace needs to know of one SIP message. Texts are as in the message; a missing one is "".

    A request has a `method` and a `uri`, a reply a `code` (0 in a request) and a `reason`. `kind` is the method of the
    request, also of the one that a reply belongs to.
    """

    def __init__(self, method: str, uri: str, code: int, reason: str, headers: list[tuple[str, str]]) -> None:
        self.method = method
        self.uri = uri
        self.code = code
        self.reason = reason
        self._headers = headers

    def header(self, name: str) -> str:
        """Return the first header of a name in lower case, "" if there is none."""
        return next((value for key, value in self._headers if key == name), "")

    def headers(self, name: str) -> list[str]:
        """Return all headers of a name in lower case."""
        return [value for key, value in self._headers if key == name]

    @cached_property
    def call_id(self) -> str:
        return self.header("call-id")

    @cached_property
    def cseq(self) -> tuple[int, str]:
        """Return number and method; (0, "") when they are missing."""
        match = _CSEQ.match(self.header("cseq"))
        return (int(match[1]), match[2].upper()) if match else (0, "")

    @property
    def kind(self) -> str:
        return self.method or self.cseq[1]

    @cached_property
    def from_uri(self) -> SipUri | None:
        return _uri(self.header("from"))

    @cached_property
    def to_uri(self) -> SipUri | None:
        return _uri(self.header("to"))

    @cached_property
    def from_tag(self) -> str:
        return _find(_TAG, self.header("from"))

    @cached_property
    def to_tag(self) -> str:
        return _find(_TAG, self.header("to"))

    @cached_property
    def branch(self) -> str:
        """Return the branch of the topmost Via."""
        return _find(_BRANCH, self.header("via"))

    @property
    def has_credentials(self) -> bool:
        """Return whether it answers a challenge."""
        return bool(self.header("authorization") or self.header("proxy-authorization"))

    @property
    def is_stale_challenge(self) -> bool:
        """Return whether it challenges anew because the nonce was too old, not because the answer was wrong."""
        challenges = (*self.headers("www-authenticate"), *self.headers("proxy-authenticate"))
        return any(re.search(r"\bstale\s*=\s*\"?true", value, re.IGNORECASE) for value in challenges)

    @property
    def in_dialog(self) -> bool:
        """Return whether it is a request within a call."""
        return bool(self.method and self.to_tag)

    @property
    def label(self) -> str:
        """Return it in a few words: `INVITE`, `200 OK`."""
        return self.method or f"{self.code} {self.reason}".rstrip()


def decode_text(sip: bytes) -> str:
    """Return the text of a message as people read it; bytes that are not UTF-8 become U+FFFD."""
    return sip.decode("utf-8", "replace")


def parse(sip: bytes) -> SipMessage:
    """Read the head of a SIP message.

    Raises InvalidPacketError (reason not_sip) for anything else.
    """
    text = decode_text(sip.lstrip(b"\r\n"))
    start, _, rest = text.partition("\n")
    start = start.rstrip("\r")
    headers = _read_headers(rest)
    request, reply = _REQUEST.fullmatch(start), _REPLY.fullmatch(start)
    if request:
        return SipMessage(request["method"].upper(), request["uri"], 0, "", headers)
    if reply:
        return SipMessage("", "", int(reply["code"]), (reply["reason"] or "").strip(), headers)
    raise InvalidPacketError("not_sip", start[:80])


def _read_headers(text: str) -> list[tuple[str, str]]:
    """Return name and value of each header up to the empty line; a line that begins with a space continues one."""
    headers: list[tuple[str, str]] = []
    for raw in text.split("\n"):
        line = raw.rstrip("\r")
        if not line or len(headers) >= MAX_HEADERS:
            break
        if line[0] in " \t" and headers:
            name, value = headers[-1]
            headers[-1] = name, f"{value} {line.strip()}"
            continue
        name, colon, value = line.partition(":")
        if colon:
            lower = name.strip().lower()
            headers.append((_COMPACT.get(lower, lower), value.strip()))
    return headers


def _uri(header: str) -> SipUri | None:
    """Return the URI of a From, To or Contact; parameters behind a bare URI belong to the header."""
    if "<" not in header:
        header = header.partition(";")[0]
    try:
        return parse_uri(header)
    except InvalidUriError:
        return None


def _find(pattern: re.Pattern[str], header: str) -> str:
    match = pattern.search(header)
    return match[1] if match else ""
