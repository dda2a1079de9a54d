"""Parse contacts in answers of the Management Interface (ul_dump, ul_show_contact). No I/O."""

from typing import Any, Final, Literal, NamedTuple

from companion import sip
from companion.errors import InvalidInputError
from companion.opensips.events import LOST_PING_US, MAX_ATTR, MAX_LATENCY_US, MAX_NUMBER, read_user_agent
from companion.text import printable

State = Literal["active", "deleted", "expired"]

PUSH_FLAG: Final = 4
"""Bit in `Flags`: the registrar (pn_enable) accepted this contact's RFC 8599 parameters."""
MAX_TEXT: Final = 4096
_FREE_TEXTS: Final = frozenset({"User-agent", "Attr"})


class MiContact(NamedTuple):
    """Hold one contact of usrloc; text that OpenSIPS left out is "".

    `seconds_left` until it expires is None for a permanent contact and 0 for one that is deleted or expired;
    `latency_us` of the last ping is None before the first, LOST_PING_US when that was lost; `instance` is the SIP
    instance without <>; `push` is whether OpenSIPS can wake it; `cflags` are the names of its branch flags.
    """

    domain: str
    aor: str
    uri: str
    callid: str
    cseq: int
    user_agent: str
    received: str
    path: str
    socket: str
    attr: str
    instance: str
    seconds_left: int | None
    state: State
    latency_us: int | None
    push: bool
    cflags: tuple[str, ...]


def parse(domain: Any, aor: Any, fields: Any) -> MiContact:
    """Check one item of an AOR's `Contacts` and give its fields types.

    Whatever a registrar accepts is taken, and read as `events.decode` reads it, so that both can be compared.

    Raises InvalidInputError with reason missing, wrong_type, out_of_range or too_long.
    """
    if not isinstance(fields, dict):
        raise InvalidInputError("wrong_type", "contact")
    seconds_left, state = _expiry(fields)
    return MiContact(
        domain=_required(domain, "domain"),
        aor=_required(aor, "AOR"),
        uri=_required(fields.get("Contact"), "Contact"),
        callid=_text(fields, "Callid"),
        cseq=_number(fields, "Cseq"),
        user_agent=read_user_agent(_text(fields, "User-agent")),
        received=_text(fields, "Received"),
        path=_text(fields, "Path"),
        socket=_text(fields, "Socket"),
        attr=_text(fields, "Attr")[:MAX_ATTR],
        instance=sip.instance(_text(fields, "SIP_instance")),
        seconds_left=seconds_left,
        state=state,
        latency_us=_latency(fields),
        push=bool(_number(fields, "Flags") & PUSH_FLAG),
        cflags=tuple(_text(fields, "Cflags").split()),
    )


def _required(value: Any, name: str) -> str:
    text = _text({name: value}, name)
    if not text:
        raise InvalidInputError("missing", name)
    return text


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInputError("wrong_type", key)
    if len(value) > MAX_TEXT and key not in _FREE_TEXTS:
        raise InvalidInputError("too_long", key)
    return value if value.isprintable() else printable(value)


def _expiry(fields: dict[str, Any]) -> tuple[int | None, State]:
    value = fields.get("Expires")
    if value == "permanent":
        return None, "active"
    if value == "deleted":
        return 0, "deleted"
    if value == "expired":
        return 0, "expired"
    if value is None:
        raise InvalidInputError("missing", "Expires")
    return _number(fields, "Expires"), "active"


def _latency(fields: dict[str, Any]) -> int | None:
    value = fields.get("Ping-Latency", 0)
    if type(value) is not int:
        raise InvalidInputError("wrong_type", "Ping-Latency")
    is_latency = 0 < value <= MAX_LATENCY_US or value == LOST_PING_US
    return value if is_latency else None  # a clock that was set makes any number of it


def _number(fields: dict[str, Any], key: str) -> int:
    value = fields.get(key, 0)
    if type(value) is not int:
        raise InvalidInputError("wrong_type", key)
    if -(1 << 31) <= value < 0:
        return value + (1 << 32)
    if not 0 <= value <= MAX_NUMBER:
        raise InvalidInputError("out_of_range", key)
    return value
