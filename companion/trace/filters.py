"""Choose the filters of OpenSIPS' tracer that catch a device, and name the traces that have them. No I/O.

OpenSIPS compares `caller` with From and `callee` with the received R-URI, user and domain by letter case. All filters
of a trace must hold, so a device needs a trace for each. Requests within a call go to the contact, so each contact user
needs one of its own.
"""

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple
from urllib.parse import quote

from companion.errors import InvalidUriError
from companion.sip import parse_uri
from companion.text import is_exact
from companion.trace.matching import contact_name
from companion.usrloc.contact import Device

MAX_FILTERS: Final = 24
"""Traces for one device: OpenSIPS compares each request with all of them."""
_ID: Final = re.compile(r"companion-(?P<ends>\d{10})-(?P<device>[0-9a-f]{8})-(?P<filter>[0-9a-f]{8})")
_UNRESERVED: Final = "-_.!~*'()&=+$,;?/"


class TraceId(NamedTuple):
    """Name a trace on OpenSIPS: when it ends (epoch s), and digests of its device and its filter."""

    ends_at: int
    device: str
    filter: str

    def __str__(self) -> str:
        return f"companion-{self.ends_at:010d}-{self.device}-{self.filter}"


def parse_id(text: str) -> TraceId | None:
    """Read the id of a trace, None where it is not one of ours."""
    match = _ID.fullmatch(text)
    return TraceId(int(match["ends"]), match["device"], match["filter"]) if match else None


def make_id(ends_at: int, device: str, trace_filter: str) -> TraceId:
    """Return the id of the trace of a device with one filter; `ends_at` is epoch ms."""
    return TraceId(-(-ends_at // 1000), digest(device), digest(trace_filter))


def digest(text: str) -> str:
    """Return eight hex digits that stand for a device or a filter in an id."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=4).hexdigest()


def choose_filters(device: Device, spellings: Iterable[str] = ()) -> list[str]:
    """Return the filters that catch a device.

    `spellings` are its AOR in other letter cases, as its own messages have it.
    """
    names = list(dict.fromkeys([*spellings, *_spell(device.aor)]))
    filters = [f"{kind}={name}" for name in names for kind in ("caller", "callee")]
    filters += [f"callee={name}" for name in _contact_names(device)]
    usable = [one for one in dict.fromkeys(filters) if is_exact(one) and one.isprintable()]
    return usable[:MAX_FILTERS]


def _spell(aor: str) -> list[str]:
    """Return an AOR as it is, and as a URI writes it: usrloc holds the user unescaped."""
    user, at, domain = aor.partition("@")
    return [aor, f"{quote(user, safe=_UNRESERVED)}{at}{domain}"]


def _contact_names(device: Device) -> list[str]:
    """Return what requests to the contacts have in their R-URI, the newest contact first.

    A contact user that is the AOR's needs a host: alone it would catch the same user in other domains.
    """
    names: list[str] = []
    user, _, domain = device.aor.partition("@")
    for contact in reversed([contact for contact in device.contacts if not contact.ended_at]):
        name = contact_name(contact)
        if name and name[0] != user:
            names.append(name[0])
        elif name and domain:
            hosts = dict.fromkeys((name[1], _host(contact.registration.received)))
            names += [f"{user}@{host}" for host in hosts if host]
    return names


def _host(uri: str) -> str:
    try:
        return parse_uri(uri).host
    except InvalidUriError:
        return ""


def parse_traces(answer: object) -> list[TraceId]:
    """Read the answer to MI `trace` and return the ids of ours."""
    rows = answer.get("trace destinations") if isinstance(answer, dict) else None
    candidates = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [trace_id for row in candidates if (trace_id := parse_id(str(row.get("name", ""))))]
