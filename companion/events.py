"""What OpenSIPS says: typed events, and the one place where its parameters are checked. No I/O.

The shapes come from modules usrloc (contact and AOR events), nathelper (latency) and the core (E_CORE_TCP_DISCONNECT),
as seen on OpenSIPS 3.4, 3.6 and 4.0.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Final, NamedTuple

from companion.errors import InvalidEventError

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
KNOWN: Final = CONTACT_EVENTS | AOR_EVENTS | {DISCONNECT}

LOST_PING_US: Final = 1_800_000_000
"""nathelper's LATENCY_ON_TIMEOUT: an E_UL_LATENCY_UPDATE with this latency is a ping that got no answer."""
MAX_LATENCY_US: Final = 600_000_000
"""No ping is answered after ten minutes: what says so, is broken or hostile."""

MAX_EXPIRES: Final = 253_402_300_799
"""The last second of the year 9999: later ones no calendar can show."""

MAX_TEXT: Final = 2048
MAX_USER_AGENT: Final = 512
MAX_NUMBER: Final = (1 << 53) - 1


class Registration(NamedTuple):
    """What a REGISTER said, as usrloc keeps it. `expires_at` is epoch ms, 0 = never."""

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
    """One contact event; `latency_us` is 0 when never pinged."""

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
    """An AOR got its first contact or lost its last one."""

    name: str
    domain: str
    aor: str


class DisconnectEvent(NamedTuple):
    """A TCP-like connection ended. `address` is the far end as `ip:port`, IPv6 in brackets."""

    name: str
    address: str
    proto: str


Event = ContactEvent | AorEvent | DisconnectEvent


def parse(name: str, params: Mapping[str, Any]) -> Event:
    """Check one event's parameters and give them types.

    null, "" and absent are alike, as OpenSIPS itself mixes them. An AOR, URI or address with unprintable characters is
    refused; in a User-Agent, which phones fill as they like, they become U+FFFD (a tab stays).

    Raises InvalidEventError with reason unknown_event, missing, wrong_type, out_of_range, too_long, unprintable
    or latency.
    """
    if name in CONTACT_EVENTS:
        return _ordinary(name, params) or _contact_event(name, params)
    if name == DISCONNECT:
        return _disconnect_event(name, params)
    if name in AOR_EVENTS:
        return AorEvent(name, _text(params, "domain"), _required(params, "aor"))
    raise InvalidEventError("unknown_event")


_FIELDS: Final = itemgetter(
    *("domain", "aor", "uri", "latency"),
    *("received", "path", "user_agent", "socket", "bflags", "expires", "callid", "cseq", "attr"),
)
_ORDINARY: Final = frozenset(
    (str, str, str, int, received, path, str, str, int, int, str, int, str)
    for received in (str, type(None))
    for path in (str, type(None))
)


def _ordinary(name: str, params: Mapping[str, Any]) -> ContactEvent | None:
    """The same as `_contact_event` at half the cost, for events with nothing odd about them; None for others."""
    try:
        fields = _FIELDS(params)
    except KeyError:
        return None
    if tuple(map(type, fields)) not in _ORDINARY:
        return None
    domain, aor, uri, latency_us, received, path, user_agent, socket, bflags, expires, callid, cseq, attr = fields
    received, path = received or "", path or ""
    texts = f"{domain}{aor}{uri}{received}{path}{user_agent}{socket}{callid}{attr}"
    if not (aor and uri and texts.isprintable() and len(texts) <= MAX_USER_AGENT):
        return None
    if not (0 <= latency_us <= MAX_LATENCY_US or latency_us == LOST_PING_US):
        return None
    if min(bflags, expires, cseq) < 0 or max(bflags, cseq) > MAX_NUMBER or expires > MAX_EXPIRES:
        return None
    registration = Registration(received, path, user_agent, socket, bflags, expires * 1000, callid, cseq, attr)
    return ContactEvent(name, domain, aor, uri, registration, latency_us)


def _contact_event(name: str, params: Mapping[str, Any]) -> ContactEvent:
    latency_us = _number(params, "latency")
    if latency_us > MAX_LATENCY_US and latency_us != LOST_PING_US:
        raise InvalidEventError("latency", f"{latency_us} µs")
    if name == LATENCY and params.get("latency") in (None, ""):
        raise InvalidEventError("missing", "latency")
    domain, aor, uri = _text(params, "domain"), _required(params, "aor"), _required(params, "uri")
    return ContactEvent(name, domain, aor, uri, _registration(params), latency_us)


def _registration(params: Mapping[str, Any]) -> Registration:
    return Registration(
        _text(params, "received"),
        _text(params, "path"),
        _user_agent(params),
        _text(params, "socket"),
        _number(params, "bflags"),
        _number(params, "expires", MAX_EXPIRES) * 1000,
        _text(params, "callid"),
        _number(params, "cseq"),
        _text(params, "attr"),
    )


def _disconnect_event(name: str, params: Mapping[str, Any]) -> DisconnectEvent:
    port = _number(params, "src_port")
    if not 0 < port < 65536:
        raise InvalidEventError("out_of_range", "src_port")
    return DisconnectEvent(name, address(_required(params, "src_ip"), port), _text(params, "proto"))


def address(ip: str, port: int) -> str:
    """`ip:port` with IPv6 in brackets, in the one spelling used for comparing.

    >>> address("2001:db8::1", 5060), address("[2001:DB8::1]", 5060), address("192.0.2.1", 5060)
    ('[2001:db8::1]:5060', '[2001:db8::1]:5060', '192.0.2.1:5060')
    """
    bare = ip.strip("[]").lower()
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def _text(params: Mapping[str, Any], key: str) -> str:
    value = params.get(key)
    if value is None:
        return ""
    if type(value) is not str:
        raise InvalidEventError("wrong_type", key)
    if len(value) > MAX_TEXT:
        raise InvalidEventError("too_long", key)
    if not value.isprintable():
        raise InvalidEventError("unprintable", key)
    return value


def _required(params: Mapping[str, Any], key: str) -> str:
    value = _text(params, key)
    if not value:
        raise InvalidEventError("missing", key)
    return value


def _user_agent(params: Mapping[str, Any]) -> str:
    value = params.get("user_agent")
    if value is None:
        return ""
    if type(value) is not str:
        raise InvalidEventError("wrong_type", "user_agent")
    if len(value) > MAX_USER_AGENT:
        value = value[:MAX_USER_AGENT]
    return value if value.isprintable() else printable(value)


def printable(text: str) -> str:
    """`text` with each character that a terminal could act on replaced by U+FFFD; a tab stays a tab."""
    return "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text)


def _number(params: Mapping[str, Any], key: str, limit: int = MAX_NUMBER) -> int:
    value = params.get(key)
    if value is None or value == "":
        return 0
    if type(value) is not int:
        raise InvalidEventError("wrong_type", key)
    if not 0 <= value <= limit:
        raise InvalidEventError("latency" if key == "latency" else "out_of_range", key)
    return value
