"""Decode OpenSIPS' events and check their parameters, which happens nowhere else. No I/O.

The shapes come from modules usrloc (contact and AOR events), nathelper (latency) and the core (E_CORE_TCP_DISCONNECT),
as OpenSIPS 3.4, 3.6 and 4.0 send them.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from companion.credentials import mask
from companion.errors import InvalidEventError
from companion.text import UNDECODABLE, printable

INSERT: Final = "E_UL_CONTACT_INSERT"
UPDATE: Final = "E_UL_CONTACT_UPDATE"
DELETE: Final = "E_UL_CONTACT_DELETE"
REFRESH: Final = "E_UL_CONTACT_REFRESH"
LATENCY: Final = "E_UL_LATENCY_UPDATE"
AOR_INSERT: Final = "E_UL_AOR_INSERT"
AOR_DELETE: Final = "E_UL_AOR_DELETE"
DISCONNECT: Final = "E_CORE_TCP_DISCONNECT"

CONTACT_EVENTS: Final = frozenset({INSERT, UPDATE, DELETE, REFRESH, LATENCY})
AOR_EVENTS: Final = frozenset({AOR_INSERT, AOR_DELETE})
EVENT_NAMES: Final = CONTACT_EVENTS | AOR_EVENTS | {DISCONNECT}

LOST_PING_US: Final = 1_800_000_000
"""nathelper's LATENCY_ON_TIMEOUT: an E_UL_LATENCY_UPDATE with this latency is a ping that got no answer."""
MAX_LATENCY_US: Final = 600_000_000
"""No ping is answered after ten minutes: a longer latency is broken or hostile input."""

MAX_EXPIRES: Final = 253_402_300_799
"""The last second of the year 9999, the last that a calendar can show."""

MAX_TEXTS: Final = 4096
"""Characters of the texts that name a contact together. The free texts of a phone or a script are cut instead."""
LOG_CHARACTERS: Final = 80
MAX_USER_AGENT: Final = 512
NO_USER_AGENT: Final = "n/a"
"""What OpenSIPS writes for a phone without a User-Agent."""
MAX_ATTR: Final = 1024
MAX_NUMBER: Final = (1 << 53) - 1


class Registration(NamedTuple):
    """Hold what a REGISTER set, as usrloc keeps it; `expires_at` is epoch ms, 0 = never."""

    received: str
    path: str
    user_agent: str
    socket: str
    bflags: int
    expires_at: int
    callid: str
    cseq: int
    attr: str


class ContactEvent(NamedTuple):
    """Hold one contact event; `latency_us` is 0 when the contact was never pinged."""

    name: str
    domain: str
    aor: str
    uri: str
    registration: Registration
    latency_us: int

    @property
    def lost(self) -> bool:
        return self.latency_us == LOST_PING_US


class AorEvent(NamedTuple):
    """Represent an AOR that got its first contact or lost its last one."""

    name: str
    domain: str
    aor: str


class DisconnectEvent(NamedTuple):
    """Hold the end of a TCP-like connection. `address` is the far end as `ip:port`, IPv6 in brackets.

    `socket` is the near end, written like the `socket` of a contact event; "" when the event does not name it.
    """

    name: str
    address: str
    proto: str
    socket: str = ""


Event = ContactEvent | AorEvent | DisconnectEvent


Text = str | None
Number = int | Literal[""] | None


class _Contact(msgspec.Struct, gc=False):
    aor: Text = None
    uri: Text = None
    domain: Text = None
    received: Text = None
    path: Text = None
    user_agent: Text = None
    socket: Text = None
    bflags: Number = None
    expires: Number = None
    callid: Text = None
    cseq: Number = None
    attr: Text = None
    latency: Number = None


class _AorOnly(msgspec.Struct, gc=False):
    aor: Any = None


class _Aor(msgspec.Struct, gc=False):
    aor: Text = None
    domain: Text = None


class _Disconnect(msgspec.Struct, gc=False):
    src_ip: Text = None
    src_port: Number = None
    dst_ip: Text = None
    dst_port: Number = None
    proto: Text = None


_SHAPES: Final[dict[str, type[msgspec.Struct]]] = {
    **dict.fromkeys(CONTACT_EVENTS, _Contact),
    **dict.fromkeys(AOR_EVENTS, _Aor),
    DISCONNECT: _Disconnect,
}
_DECODERS: Final = {name: msgspec.msgpack.Decoder(shape) for name, shape in _SHAPES.items()}


def decode(name: str, params: bytes | memoryview) -> Event:
    """Read one event's parameters, a msgpack map, check them and give them types.

    null, "" and absent mean the same, because OpenSIPS itself mixes them; table, AOR and URI must be there. Whatever a
    registrar accepts is taken: unprintable characters become U+FFFD (a tab stays), long free texts are cut, and
    a number that OpenSIPS writes as a signed one of 32 bits is read as unsigned.

    Raises InvalidEventError with reason unknown_event, missing, wrong_type, out_of_range, too_long, unprintable
    or latency. It names the AOR where the event does.
    """
    decoder = _DECODERS.get(name)
    if decoder is None:
        raise InvalidEventError("unknown_event")
    try:
        return _event(name, decoder.decode(params))
    except UNDECODABLE as error:
        raise InvalidEventError("wrong_type", str(error), aor=_read_aor(params)) from None


def _read_aor(params: bytes | memoryview) -> str:
    """Return the AOR of parameters that have another fault, "" where they name none."""
    try:
        aor = msgspec.msgpack.decode(params, type=_AorOnly).aor
    except UNDECODABLE:
        return ""
    return printable(aor[:LOG_CHARACTERS]) if isinstance(aor, str) else ""


def parse(name: str, params: Mapping[str, Any]) -> Event:
    """Read parameters that are a dict already, like `decode`."""
    shape = _SHAPES.get(name)
    if shape is None:
        raise InvalidEventError("unknown_event")
    try:
        return _event(name, msgspec.convert(params, shape))
    except msgspec.ValidationError as error:
        raise InvalidEventError("wrong_type", str(error)) from None


def _event(name: str, params: msgspec.Struct) -> Event:
    if isinstance(params, _Contact):
        return _contact_event(name, params)
    if isinstance(params, _Disconnect):
        return _disconnect_event(name, params)
    assert isinstance(params, _Aor)  # noqa: S101 - there are no others
    domain, aor = _read_texts((params.domain, params.aor))
    if not (domain and aor):
        raise InvalidEventError("missing", aor=aor)
    return AorEvent(name, domain, aor)


def _contact_event(name: str, params: _Contact) -> ContactEvent:
    texts = params.domain, params.aor, params.uri, params.received, params.path, params.socket, params.callid
    domain, aor, uri, received, path, socket, callid = _read_texts(texts)
    if not (domain and aor and uri):  # MI takes no empty name
        raise InvalidEventError("missing", aor=aor)
    user_agent, attr = read_user_agent(params.user_agent or ""), _cut(params.attr, MAX_ATTR)
    bflags, expires, cseq = params.bflags or 0, params.expires or 0, params.cseq or 0
    if not 0 <= bflags <= MAX_NUMBER or not 0 <= cseq <= MAX_NUMBER or not 0 <= expires <= MAX_EXPIRES:
        bflags, expires, cseq = _unsign(bflags, aor), min(_unsign(expires, aor), MAX_EXPIRES), _unsign(cseq, aor)
    latency_us = _read_latency(name, params.latency, aor)
    registration = Registration(received, path, user_agent, socket, bflags, expires * 1000, callid, cseq, attr)
    return ContactEvent(name, domain, aor, uri, registration, latency_us)


def _read_texts(texts: tuple[Text, ...]) -> list[str]:
    """Return the texts that name a contact; all but the User-Agent and `attr` of an event."""
    together = "".join(filter(None, texts))
    if len(together) > MAX_TEXTS:
        raise InvalidEventError("too_long", aor=printable((texts[1] or "")[:LOG_CHARACTERS]))
    if together.isprintable():
        return [text or "" for text in texts]
    return [printable(text or "") for text in texts]


def _cut(text: Text, length: int) -> str:
    """Return a free text of a phone or a script, cut to a length and safe to show."""
    if text and (len(text) > length or not text.isprintable()):
        return printable(text[:length])
    return text or ""


def read_user_agent(text: str) -> str:
    """Return what a phone calls itself, "" for none. Nobody needs a credential in it, so it is masked at once."""
    return "" if text == NO_USER_AGENT else mask(_cut(text, MAX_USER_AGENT))[:MAX_USER_AGENT]


def _unsign(number: int, aor: str) -> int:
    """Return a number of 32 bits that OpenSIPS wrote as a signed one."""
    if -(1 << 31) <= number < 0:
        return number + (1 << 32)
    if not 0 <= number <= MAX_NUMBER:
        raise InvalidEventError("out_of_range", str(number), aor=aor)
    return number


def _read_latency(name: str, latency: Number, aor: str) -> int:
    """Return the latency in µs. Only in a ping a broken one counts: elsewhere it is the one of an earlier ping."""
    latency_us = latency or 0
    if 0 <= latency_us <= MAX_LATENCY_US or latency_us == LOST_PING_US:
        if name == LATENCY and latency in (None, ""):
            raise InvalidEventError("missing", "latency", aor=aor)
        return latency_us
    if name == LATENCY:
        raise InvalidEventError("latency", f"{latency_us} µs", aor=aor)
    return 0


def _disconnect_event(name: str, params: _Disconnect) -> DisconnectEvent:
    ip, port, proto = params.src_ip or "", params.src_port or 0, params.proto or ""
    near_ip, near_port = params.dst_ip or "", params.dst_port or 0
    _check_address(ip, ip + proto + near_ip)
    if not 0 < port < 65536:
        raise InvalidEventError("out_of_range", "src_port")
    if near_ip and not 0 < near_port < 65536:
        raise InvalidEventError("out_of_range", "dst_port")  # 4.0: a dial that failed, not the phone's connection
    socket = f"{proto}:{address(near_ip, near_port)}" if near_ip else ""
    return DisconnectEvent(name, address(ip, port), proto, socket)


def _check_address(ip: str, texts: str) -> None:
    if not ip:
        raise InvalidEventError("missing")
    if len(texts) > MAX_TEXTS:
        raise InvalidEventError("too_long")
    if not texts.isprintable():
        raise InvalidEventError("unprintable")


def address(ip: str, port: int) -> str:
    """Return `ip:port` with IPv6 in brackets, in the spelling that comparisons use.

    >>> address("2001:db8::1", 5060), address("[2001:DB8::1]", 5060), address("192.0.2.1", 5060)
    ('[2001:db8::1]:5060', '[2001:db8::1]:5060', '192.0.2.1:5060')
    """
    bare = ip.strip("[]").lower()
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
