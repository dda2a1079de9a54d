"""Make registrations by the grammar of RFC 3261 §25.1, RFC 5626 and RFC 8599, with values of odd kinds.

Texts hold bytes that are not UTF-8 as lone surrogates.
"""

import string
import uuid
from ipaddress import IPv6Address
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.sip_phone.message import Headers, SipMessage

PROVIDERS: Final = ("apns", "fcm", "webpush")
"""The push services of opensips.cfg."""
ALPHANUM: Final = string.ascii_letters + string.digits
UNRESERVED: Final = ALPHANUM + "-_.!~*'()"
WORD: Final = ALPHANUM + "-.!%*_+`'~()<>:\\\"/[]?{}"


class GeneratedContact(NamedTuple):
    """One value of a Contact header: its text, its URI, what names a device of it, and whether it can be woken."""

    text: str
    uri: str
    subject: str
    instance: str
    push: bool


class GeneratedRegister(NamedTuple):
    """A REGISTER, with `lines` for its Contact headers and `user` as it stands in its To."""

    user: str
    domain: str
    contacts: tuple[GeneratedContact, ...]
    lines: Headers
    expires: int | None
    call_id: str
    cseq: int
    user_agent: str | None

    @property
    def aor(self) -> str:
        """Return the AOR that OpenSIPS makes of it, with escapes resolved (RFC 3261 §10.3, step 5)."""
        user = unquote_to_bytes(self.user).decode("utf-8", "surrogateescape")
        return f"{user}@{self.domain}" if user else self.domain

    def message(self, address: str) -> SipMessage:
        """Return it as it is sent over UDP from an address."""
        target = f"{self.user}@{self.domain}" if self.user else self.domain
        return SipMessage(
            "REGISTER sip:127.0.0.1 SIP/2.0",
            (
                ("Via", f"SIP/2.0/UDP {address};branch=z9hG4bK{uuid.uuid4().hex};rport"),
                ("Max-Forwards", "70"),
                ("From", f"<sip:{target}>;tag={uuid.uuid4().hex[:8]}"),
                ("To", f"<sip:{target}>"),
                ("Call-ID", self.call_id),
                ("CSeq", f"{self.cseq} REGISTER"),
                *self.lines,
                *([("Expires", str(self.expires))] if self.expires is not None else []),
                *([("User-Agent", self.user_agent)] if self.user_agent is not None else []),
            ),
        )


def characters(unescaped: str, most: int, escapes: int = 0xFF) -> SearchStrategy[str]:
    """Return texts of these characters and of escapes up to a code."""
    escaped = st.integers(0x20, 0x7E).map(lambda code: f"%{code:02X}") | st.integers(0x20, escapes).map(
        "%{:02x}".format
    )
    one = st.sampled_from(unescaped)
    return st.lists(one | one | one | escaped, min_size=1, max_size=most).map("".join)


def in_any_case(text: str) -> SearchStrategy[str]:
    return st.sampled_from([text, text, text, text.upper(), text.title()])


# URIs

USERS = characters(UNRESERVED + "&=+$,;?/", 12) | st.sampled_from(["alice", "+15550100", "1001", "k3j2h1", "a;x=1"])
PASSWORDS = characters(UNRESERVED + "&=+$,", 6)
LABELS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,8}[A-Za-z0-9])?", fullmatch=True)
NAMES = st.tuples(st.lists(LABELS, min_size=0, max_size=3), st.from_regex(r"[A-Za-z][a-z0-9]{1,6}\.?", fullmatch=True))
ZONES = st.sampled_from(["[fe80::1%25eth0]", "[fe80::1%eth0]"])
HOSTS = st.one_of(
    NAMES.map(lambda name: ".".join((*name[0], name[1]))),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"),
    st.ip_addresses(v=6).filter(lambda ip: isinstance(ip, IPv6Address)).map(lambda ip: f"[{ip.exploded.upper()}]"),
)
PORTS = st.none() | st.sampled_from([5060, 5061, 443, 1, 65535]) | st.integers(1, 65535)
PARAM_TEXTS = characters(UNRESERVED + "[]/:&+$", 10)
OTHER_NAMES = st.from_regex(r"x[a-z0-9.!~*'_-]{1,8}", fullmatch=True)
URI_PARAMS: Final = {
    "transport": st.sampled_from(["udp", "UDP", "tcp", "tls", "ws", "wss", "sctp"]),
    "user": st.sampled_from(["phone", "ip", "dialstring"]),
    "method": st.sampled_from(["INVITE", "MESSAGE"]),
    "ttl": st.integers(0, 255).map(str),
    "maddr": HOSTS,
    "lr": st.none() | st.just("on"),
    "ob": st.none(),
    "gr": st.none() | st.uuids().map(lambda one: f"urn:uuid:{one}"),
    "x-ast-orig-host": st.just("10.0.0.1:5060"),
    "rinstance": PARAM_TEXTS,
}
HEADER_TEXTS = characters(UNRESERVED + "[]/?:+$", 8)


def join_param(name: str, value: str | None) -> str:
    return f";{name}" if value is None else f";{name}={value}"


@st.composite
def uri_params(draw: DrawFn) -> str:
    """Draw URI parameters in any order and case."""
    names = draw(st.lists(st.sampled_from(sorted(URI_PARAMS)), max_size=4, unique=True))
    params = [join_param(draw(in_any_case(name)), draw(URI_PARAMS[name])) for name in names]
    others = draw(st.lists(OTHER_NAMES, max_size=2, unique=True))
    params += [join_param(name, draw(st.none() | PARAM_TEXTS)) for name in others]
    return "".join(draw(st.permutations(params)))


PRIDS = PARAM_TEXTS | st.from_regex(r"[A-Za-z0-9_-]{20,40}(:remote&[A-Za-z0-9]{8}:voip)?", fullmatch=True)


@st.composite
def push_params(draw: DrawFn) -> tuple[str, bool]:
    """Draw push parameters (RFC 8599), and whether they can wake the phone: all, a query for support, or none."""
    kind = draw(st.sampled_from(["none", "none", "all", "all", "query", "orphan", "older"]))
    provider = draw(st.sampled_from(PROVIDERS))
    kinds: dict[str, list[tuple[str, str | None]]] = {
        "none": [],
        "all": [("pn-provider", provider), ("pn-prid", draw(PRIDS)), ("pn-param", draw(PARAM_TEXTS))],
        "query": [("pn-provider", draw(st.sampled_from([provider, None])))],
        "orphan": [("pn-prid", draw(PRIDS))],
        "older": [("app-id", "org.example.voip"), ("pn-type", "apple"), ("pn-tok", draw(PRIDS))],
    }
    params = [join_param(draw(in_any_case(name)), value) for name, value in draw(st.permutations(kinds[kind]))]
    return "".join(params), kind in ("all", "older")


@st.composite
def sip_uris(draw: DrawFn) -> tuple[str, str, bool]:
    """Draw a SIP URI, what names a device of it, and whether it can be woken."""
    scheme = draw(st.sampled_from(["sip", "sip", "sip", "sips", "SIP", "Sips"]))
    user = draw(st.none() | USERS | USERS)
    password = draw(st.none() | st.none() | PASSWORDS) if user else None
    host, port = draw(HOSTS | HOSTS | HOSTS | ZONES if user else HOSTS), draw(PORTS)
    push, is_woken = draw(push_params())
    query = draw(st.lists(st.tuples(HEADER_TEXTS, HEADER_TEXTS | st.just("")), max_size=2))
    text = f"{scheme}:" + (f"{user}{'' if password is None else ':' + password}@" if user else "")
    text += host + (f":{port}" if port else "") + draw(st.sampled_from([draw(uri_params()) + push, push]))
    text += ("?" + "&".join(f"{name}={value}" for name, value in query)) if query else ""
    return text, user or host.lower(), is_woken


TEL_URIS = st.from_regex(r"tel:\+[0-9]{3,12}(;phone-context=example\.com)?", fullmatch=True)


# Contacts

QUOTED = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
DISPLAY = st.just("") | QUOTED.map(lambda text: text + " ") | st.sampled_from(["Alice ", "A B  ", '"" '])
INSTANCES = st.uuids().map(lambda one: f"urn:uuid:{one}")
Q_VALUES = st.sampled_from(["0", "1", "0.5", "1.0", "0.123", "0.0"])
EXPIRES = st.sampled_from([60, 120, 600, 3600, 7200, 4_294_967_295]) | st.integers(1, 0xFFFFFFFF)
CONTACT_PARAMS: Final = {
    "q": Q_VALUES,
    "expires": EXPIRES.map(str),
    "reg-id": st.integers(1, 9).map(str),
    "methods": st.just('"INVITE,OPTIONS"'),
    "audio": st.none(),
    "+sip.ice": st.none(),
    "x-quoted": QUOTED,
    "x-token": st.none() | st.sampled_from(["a", "1.0", "a-b"]),
}


@st.composite
def contacts(draw: DrawFn) -> GeneratedContact:
    """Draw one value of a Contact header that is no `*`."""
    is_tel = draw(st.integers(0, 30)) == 0
    uri, subject, push = draw(TEL_URIS.map(_of_tel) if is_tel else sip_uris())
    instance = draw(st.just("") | INSTANCES)
    names = draw(st.lists(st.sampled_from(sorted(CONTACT_PARAMS)), max_size=3, unique=True))
    params = [join_param(draw(in_any_case(name)), draw(CONTACT_PARAMS[name])) for name in names]
    if instance:
        params.append(f';{draw(in_any_case("+sip.instance"))}="<{draw(in_any_case(instance))}>"')
    has_brackets = draw(st.integers(0, 4)) > 0 or any(mark in uri for mark in ";,?")
    address = draw(DISPLAY) + f"<{uri}>" if has_brackets else uri
    return GeneratedContact(address + "".join(draw(st.permutations(params))), uri, subject, instance, push)


def _of_tel(uri: str) -> tuple[str, str, bool]:
    return uri, uri.removeprefix("tel:").partition(";")[0], False


@st.composite
def contact_lines(draw: DrawFn) -> tuple[tuple[GeneratedContact, ...], Headers]:
    """Draw up to three contacts, in one header or several, in short or long form, some folded."""
    drawn = draw(st.lists(contacts(), min_size=1, max_size=3, unique_by=lambda contact: contact.uri))
    name = st.sampled_from(["Contact", "Contact", "m", "CONTACT"])
    texts = [contact.text for contact in drawn]
    if draw(st.booleans()):
        return tuple(drawn), tuple((draw(name), _folded(text, draw)) for text in texts)
    comma = draw(st.sampled_from([",", ", ", ",\r\n ", " ,\r\n\t"]))
    return tuple(drawn), ((draw(name), comma.join(texts)),)


def _folded(text: str, draw: DrawFn) -> str:
    return f"\r\n {text}" if draw(st.integers(0, 5)) == 0 else text


# Registrations

AOR_USERS = characters(UNRESERVED + "&=+$,;?/", 12, escapes=0x7E)
"""OpenSIPS takes no other escapes in an AOR."""
DOMAINS = st.sampled_from(["127.0.0.1", "example.com", "sip.Example.org"]) | HOSTS
CALL_IDS = st.tuples(st.text(WORD, min_size=1, max_size=20), st.none() | st.text(WORD, min_size=1, max_size=12)).map(
    lambda parts: "@".join(part for part in parts if part)
)
CSEQS = st.integers(0, 0xFFFFFFFF) | st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, 2_164_992_235, 0xFFFFFFFF])
ANY_BYTES = st.binary(max_size=20).map(lambda data: data.decode("utf-8", "surrogateescape"))
ONE_LINE = str.maketrans("", "", "\r\n\0")
USER_AGENTS = st.none() | st.one_of(
    st.sampled_from(
        ["Linphone/5.2", '<b onclick="x">', '\\"', "n/a", "a\tb", "Grüße ☎", "x" * 254, "x" * 255, "x" * 700]
    ),
    ANY_BYTES.map(lambda text: text.translate(ONE_LINE).strip()),
    st.text(max_size=40).map(lambda text: _escaped(text).translate(ONE_LINE).strip()),
)


def _escaped(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


@st.composite
def registers(draw: DrawFn) -> GeneratedRegister:
    """Draw a REGISTER."""
    drawn, lines = draw(contact_lines())
    return GeneratedRegister(
        draw(AOR_USERS),
        draw(DOMAINS).lower(),
        drawn,
        lines,
        draw(st.none() | EXPIRES),
        draw(CALL_IDS),
        draw(CSEQS),
        draw(USER_AGENTS),
    )
