"""Read SIP URIs (RFC 3261 §19.1) and their push parameters (RFC 8599), and name devices. No I/O."""

import re
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final, NamedTuple

from companion.credentials import fingerprint, holds_credentials
from companion.errors import InvalidUriError

_URI: Final = re.compile(
    r"(?P<scheme>sips?):"
    r"(?:(?P<user>[^@:]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+(?:%[^\s:;?\[\]@]+)?\]|[^\s:;?\[\]@]+)"
    r"(?::(?P<port>\d{1,5}))?"
    r"(?P<params>(?:;[^;?]*)*)"
    r"(?:\?(?P<headers>.*))?",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN: Final = re.compile(
    r"sip:(?P<address>[0-9.]+:(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))(?:;transport=(?P<transport>[a-z]+))?"
)
"""The usual `received`. To parse it takes ten times as long, and gives the same."""
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_INSTANCE: Final = re.compile(r'"?<?(?P<urn>urn:[a-z0-9][a-z0-9-]{0,31}:[^\s<>"/]+)>?"?', re.IGNORECASE)
_CONNECTED: Final = frozenset({"ws", "wss", "tcp", "tls"})
_SECURE: Final = {"tcp": "tls", "ws": "wss", "": "tls"}
_SUBJECT: Final = re.compile(r"[^;?@\s]*")
_IP_PORT: Final = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]{2,45})\]|(?P<ipv4>[0-9.]{7,15})):(?P<port>\d{1,5})", re.ASCII | re.IGNORECASE
)
MAX_PORT: Final = 65_535
MAX_SUBJECT: Final = 64
REMEMBERED: Final = 4096
"""A batch of events has its URIs and its instances read several times in a row."""
_PLAIN_UUID: Final = re.compile(r"urn:uuid:[0-9a-f-]{36}")
"""The usual instance: no credential looks like that."""


class SipUri(NamedTuple):
    """Represent a SIP or SIPS URI; user and parameters stay percent-encoded, the host is in lower case."""

    scheme: str
    user: str
    password: str
    host: str
    port: int | None
    params: tuple[tuple[str, str | None], ...]
    headers: str

    def param(self, name: str) -> str | None:
        """Return the value of a parameter, "" if it has none, None if it is missing."""
        return next((value or "" for key, value in self.params if key == name), None)

    def __str__(self) -> str:
        rest = "".join(f"{key}{value}" for key, value in self.params) + self.headers
        user = f"{self.user}:{self.password}@" if self.password else f"{self.user}@" if self.user or "@" in rest else ""
        port = f":{self.port}" if self.port is not None else ""
        params = "".join(f";{key}" if value is None else f";{key}={value}" for key, value in self.params)
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host}{port}{params}{headers}"


@lru_cache(REMEMBERED)
def parse_uri(text: str) -> SipUri:
    """Read a SIP URI, bare or in a name-addr (`"Alice" <sip:alice@example.com>`).

    Raises InvalidUriError (reason "uri") for anything else.
    """
    match = _URI.fullmatch(_addr_spec(text))
    if not match:
        raise InvalidUriError("uri", text[:80])
    port = int(match["port"]) if match["port"] else None
    if port is not None and port > MAX_PORT:
        raise InvalidUriError("uri", f"port {port}")
    return SipUri(
        match["scheme"].lower(),
        match["user"] or "",
        match["password"] or "",
        match["host"].lower(),
        port,
        _params(match["params"]),
        match["headers"] or "",
    )


def _addr_spec(text: str) -> str:
    text = text.strip()
    display_name = _QUOTED.match(text)
    start = text.find("<", display_name.end() if display_name else 0)
    if start < 0:
        return text
    end = text.find(">", start)
    return text[start + 1 : end] if end >= 0 else text


def _params(text: str) -> tuple[tuple[str, str | None], ...]:
    pairs = []
    for part in text.split(";"):
        if part:
            name, equals, value = part.partition("=")
            pairs.append((name.lower(), value if equals else None))
    return tuple(pairs)


@lru_cache(REMEMBERED)
def instance(attr: str) -> str:
    """Return the SIP instance (RFC 5626 §4.1) that OpenSIPS stores in `attr`, without <>; "" if there is none.

    >>> instance("<urn:uuid:F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6>")
    'urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6'
    """
    match = _INSTANCE.fullmatch(attr.strip())
    urn = match["urn"].lower() if match else ""
    return urn if _PLAIN_UUID.fullmatch(urn) else fingerprint(urn)


def device_id(aor: str, uri: str, instance: str) -> str:
    """Return the id of a device: `aor/instance`, or `aor/uri-user` without an instance.

    A URI without a user gives its host, and one of another scheme what stands before its parameters: each contact
    belongs to some device. A slash in the part behind the last slash is written %2F. An id is shown everywhere: a
    credential in it becomes a fingerprint.
    """
    return f"{aor}/{instance or _user_or_host(uri).replace('/', '%2F')}"


def _user_or_host(uri: str) -> str:
    try:
        parsed = parse_uri(uri)
    except InvalidUriError:
        return _subject(uri)
    return fingerprint(parsed.user or parsed.host)


def _subject(uri: str) -> str:
    """Return whom a URI of any scheme names: it may be broken, hostile, or hold credentials behind its subject."""
    scheme, colon, rest = _addr_spec(uri).partition(":")
    subject = _SUBJECT.match(rest if colon else scheme)
    name = subject[0] if subject else ""
    if "@" in rest:
        name = name.partition(":")[0]  # behind the colon stands a password
    return fingerprint(name)[:MAX_SUBJECT] or "contact"


def contact_instance(attr: str, uri: str) -> str:
    """Return the SIP instance of a contact: the one in `attr`, else that of its GRUU (RFC 5627); "" if there is none.

    >>> contact_instance("", "sip:alice@example.com;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    'urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6'
    """
    if attr and (own := instance(attr)):
        return own
    if ";gr=" not in uri.lower():
        return ""
    try:
        return instance(parse_uri(uri).param("gr") or "")
    except InvalidUriError:
        return ""


def push_token(uri: str) -> str:
    """Return the push token of a contact: RFC 8599 `pn-prid`, or Linphone's older `pn-tok`; "" when it has none."""
    return _push_params(uri).get("pn-prid") or _push_params(uri).get("pn-tok") or ""


def push_identity(uri: str) -> str:
    """Return what a registrar knows a push contact by (RFC 8599 provider, prid and param), "" of any other contact."""
    params = _push_params(uri)
    if not params.get("pn-prid"):
        return ""
    return ";".join(f"{name}={params.get(name, '')}" for name in ("pn-provider", "pn-prid", "pn-param"))


def push_provider(uri: str) -> str:
    """Return the push service of a contact that can be woken, "" of one that can not.

    RFC 8599 names it in `pn-provider`, Linphone's older clients in `pn-type`. Parameter names are read in any case.
    """
    params = _push_params(uri)
    if params.get("pn-prid"):
        return params.get("pn-provider") or ""
    return params.get("pn-type") or "" if params.get("pn-tok") else ""


def has_push_params(uri: str) -> bool:
    """Return whether a contact has any push parameter, even an incomplete set: then it may sleep."""
    return bool(_push_params(uri))


def _push_params(uri: str) -> dict[str, str]:
    if "pn-" not in uri.lower() and "app-id" not in uri.lower():
        return {}
    try:
        params = parse_uri(uri).params
    except InvalidUriError:
        return {"pn-": ""}  # in doubt it may be one
    return {name: value or "" for name, value in params if name.startswith("pn-") or name == "app-id"}


def connection(received: str, path: str) -> tuple[str, str]:
    """Return protocol and `ip:port` of the connection that a contact lives on, ("", "") where none is known.

    That is so for UDP, for contacts with a Path, because an outbound proxy holds their connection, and for contacts
    without `received`: the address in a URI is where a phone listens, and another client may connect from there.
    """
    if path or not received:
        return "", ""
    if plain := _PLAIN.fullmatch(received):
        transport = plain["transport"]
        return (transport, plain["address"]) if transport in _CONNECTED else ("", "")
    try:
        target = parse_uri(received)
    except InvalidUriError:
        return "", ""
    proto = _connected_transport(target)
    return (proto, f"{target.host}:{target.port}") if proto and target.port is not None else ("", "")


def needs_connection(uri: str) -> bool:
    """Return whether a URI is reached over a connection: TCP, TLS or WebSocket."""
    try:
        return bool(_connected_transport(parse_uri(uri)))
    except InvalidUriError:
        return False


def _connected_transport(target: SipUri) -> str:
    proto = (target.param("transport") or "").lower()
    if target.scheme == "sips":
        proto = _SECURE.get(proto, proto)
    return proto if proto in _CONNECTED else ""


def network_address(received: str, uri: str) -> str:
    """Return the `ip:port` of a contact: of `received`, else of its URI; "" if neither has one.

    An address is shown everywhere: a host name that may be part of a credential is none.
    """
    if plain := _PLAIN.fullmatch(received or uri):
        return plain["address"]
    try:
        parsed = parse_uri(received or uri)
    except InvalidUriError:
        return ""
    if holds_credentials(f"{parsed.user};{parsed.password};{parsed.host}") and not _is_ip(parsed.host):
        return ""
    return f"{parsed.host}:{parsed.port or 5060}"


def is_ip_port(address: str) -> bool:
    """Return whether a text is `ip:port`, an IPv6 address in brackets.

    >>> is_ip_port("192.0.2.7:5060"), is_ip_port("[2001:db8::1]:5060")
    (True, True)
    >>> is_ip_port("phone:5060"), is_ip_port("192.0.2.7:65536"), is_ip_port("2001:db8::1:5060")
    (False, False, False)
    """
    match = _IP_PORT.fullmatch(address)
    return bool(match and int(match["port"]) <= MAX_PORT and _is_ip(match["ipv6"] or match["ipv4"]))


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


IPV4_PREFIX: Final = 24
IPV6_PREFIX: Final = 48


def network_prefix(address: str) -> str:
    """Return the network of an address, /24 of IPv4 and /48 of IPv6; "" for a text that is no address.

    A network is cut to these lengths as well. An IPv4 address mapped into IPv6 is an IPv4 address.

    >>> network_prefix("192.0.2.77"), network_prefix("[2001:db8:1:2::3]"), network_prefix("::ffff:192.0.2.77")
    ('192.0.2.0/24', '2001:db8:1::/48', '192.0.2.0/24')
    >>> network_prefix("192.0.0.0/16"), network_prefix("phone.local")
    ('192.0.0.0/16', '')
    """
    try:
        interface = ip_interface(address.strip("[]"))
    except ValueError:
        return ""
    ip, length = interface.ip, interface.network.prefixlen
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped:
        ip, length = mapped, max(0, length - 96)
    return str(ip_network((ip, min(length, IPV4_PREFIX if ip.version == 4 else IPV6_PREFIX)), strict=False))


INSTANCE_END: Final = 8


def short_instance(instance: str, room: int = 2 * INSTANCE_END) -> str:
    """Shorten a SIP instance, or what else names a device, to its last characters if it has more than `room`.

    >>> short_instance("urn:uuid:38c0c8fd-8712-b8bc-076f-3787b9d179e0"), short_instance("web")
    ('…b9d179e0', 'web')
    """
    return instance if len(instance) <= room else f"…{instance[-INSTANCE_END:]}"


def short_id(device: str, room: int) -> str:
    """Shorten a device id to `room` columns: the AOR and the end of the instance tell devices apart.

    >>> short_id("dave/urn:uuid:38c0c8fd-8712-b8bc-076f-3787b9d179e0", 24)
    'dave/…b9d179e0'
    """
    if len(device) <= room:
        return device
    aor, _, instance = device.rpartition("/")
    end = f"/{short_instance(instance, INSTANCE_END)}"
    return f"{aor if len(aor) + len(end) <= room else f'{aor[: max(1, room - len(end) - 1)]}…'}{end}"
