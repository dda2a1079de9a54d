"""Match mirrored SIP messages to the devices that are recorded. No I/O.

A message belongs to a device by its SIP instance, its address or its Contact URI, by a call that one of these showed to
be its own, or by the AOR in From and To. Two devices of one AOR have two traces: a message on the way to the other one
is left out, and one that could be of both counts for the AOR.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote

from companion.errors import InvalidPacketError, InvalidUriError
from companion.opensips.hep import HepPacket
from companion.sip import SipUri, instance, parse_uri
from companion.trace.message import SipMessage, parse
from companion.trace.packet import Match
from companion.usrloc.contact import Contact, Device

MAX_CALLS: Final = 5_000
"""Call-IDs that are remembered."""
MAX_HELD: Final = 2_000
HELD_US: Final = 5_000_000
"""A message is held for so long: a later one may show that its call is one of the device."""

_SPELLING: Final = re.compile(r"sips?:(?P<user>[^@:;>?\s\"]{1,200})@(?P<host>[^:;>?\s\"]{1,200})", re.IGNORECASE)

ContactName = tuple[str, str]
"""User and host of a Contact URI."""


class Subject(NamedTuple):
    """Describe a recorded device. `addresses` are its own, `siblings` those of other devices of its AOR."""

    device: str
    user: str
    domain: str
    instance: str
    addresses: frozenset[str]
    siblings: frozenset[str]
    contacts: frozenset[ContactName]
    shares_aor: bool


class PacketMatch(NamedTuple):
    """Say that a message is one of a device's trace."""

    packet: HepPacket
    node: str
    device: str
    match: Match
    spelling: str = ""
    """The AOR as this message writes it, where usrloc has other letters."""


class _CallState:
    """Hold what is known of one Call-ID: whose it is, whose not, and where its first request came from."""

    def __init__(self) -> None:
        self.devices: set[str] = set()
        self.others: set[str] = set()
        self.origin = ""


class _Arrival(NamedTuple):
    packet: HepPacket
    node: str
    message: SipMessage

    @property
    def ends(self) -> frozenset[str]:
        return frozenset((self.packet.source, self.packet.target))


def make_subject(device: Device, others: Iterable[Device]) -> Subject:
    """Describe a device for the matcher; `others` are those of the same AOR."""
    user, _, domain = device.aor.partition("@")
    siblings = [one for one in others if one.id != device.id and any(not contact.ended_at for contact in one.contacts)]
    live = frozenset(_addresses(contact for one in siblings for contact in one.contacts if not contact.ended_at))
    own = frozenset(_addresses(contact for contact in device.contacts if not contact.ended_at))
    past = frozenset(_addresses(contact for contact in device.contacts if contact.ended_at)) - live
    names = frozenset(name for contact in device.contacts if (name := contact_name(contact)))
    return Subject(
        device.id, user, domain.lower(), device.instance, own | past, live - own, names, shares_aor=bool(siblings)
    )


def contact_name(contact: Contact) -> ContactName | None:
    """Return user and host of a contact's URI, None where it has no user."""
    uri = _parse(contact.binding.uri)
    return (uri.user, uri.host) if uri and uri.user else None


def trace_addresses(device: Device) -> frozenset[str]:
    """Return the addresses that a device has, and those that it had."""
    return frozenset(_addresses(device.contacts))


def _addresses(contacts: Iterable[Contact]) -> Iterable[str]:
    """Return the addresses that are a device's alone: behind a Path is an address of the proxy."""
    return (contact.address for contact in contacts if contact.address and not contact.registration.path)


class Matcher:
    """Match packets in the order of their arrival, and remember calls and unmatched packets for a while."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, _CallState] = OrderedDict()
        self._unmatched: deque[_Arrival] = deque(maxlen=MAX_HELD)
        self._subjects: list[Subject] = []
        self.invalid = 0
        """Messages that are no SIP; the caller counts and resets them."""

    def match(self, packets: Sequence[tuple[str, HepPacket]], subjects: Sequence[Subject]) -> list[PacketMatch]:
        """Return which of these packets (node, packet), and of those held, belong to which of the subjects.

        A held one is judged again only where something new is known: of its call, or of the subjects.
        """
        held = list(self._unmatched)
        new = [arrival for node, packet in packets if (arrival := self._read(node, packet))]
        is_changed = list(subjects) != self._subjects
        self._subjects = list(subjects)
        learning = [*held, *new] if is_changed else new
        learnt = {arrival.message.call_id for arrival in learning if self._learn(arrival, subjects)}
        again = [arrival for arrival in held if is_changed or arrival.message.call_id in learnt]
        matches: list[PacketMatch] = []
        matched: set[int] = set()
        for arrival in (*again, *new):
            own = [match for subject in subjects if (match := self._judge(arrival, subject))]
            matches += own
            matched |= {id(arrival)} if own else set()
        self._hold([*held, *new], matched)
        return matches

    def _hold(self, arrivals: Sequence[_Arrival], matched: set[int]) -> None:
        """Hold what is young and not matched; `matched` has ids of arrivals."""
        newest_us = max((arrival.packet.at_us for arrival in arrivals), default=0)
        self._unmatched.clear()
        self._unmatched.extend(
            one for one in arrivals if id(one) not in matched and newest_us - one.packet.at_us < HELD_US
        )

    def forget(self) -> None:
        """Forget all calls and packets: nothing is recorded any more."""
        self._calls.clear()
        self._unmatched.clear()
        self._subjects = []

    def _read(self, node: str, packet: HepPacket) -> _Arrival | None:
        try:
            return _Arrival(packet, node, parse(packet.sip))
        except InvalidPacketError:
            self.invalid += 1
            return None

    def _learn(self, arrival: _Arrival, subjects: Sequence[Subject]) -> bool:
        """Note whose call this is, where the message shows it, and return whether that is new."""
        call = self._call(arrival.message.call_id)
        before = call.origin, len(call.devices), len(call.others)
        if not call.origin and arrival.message.method:
            call.origin = arrival.packet.source
        for subject in subjects:
            own = _is_own(arrival, subject)
            if own:
                call.devices.add(subject.device)
            elif own is False:
                call.others.add(subject.device)
        return before != (call.origin, len(call.devices), len(call.others))

    def _call(self, call_id: str) -> _CallState:
        call = self._calls.setdefault(call_id, _CallState())
        self._calls.move_to_end(call_id)
        if len(self._calls) > MAX_CALLS:
            self._calls.popitem(last=False)
        return call

    def _judge(self, arrival: _Arrival, subject: Subject) -> PacketMatch | None:
        match = self._find_match(arrival, subject)
        if not match:
            return None
        spelling = find_spelling(arrival.message, subject.user, subject.domain)
        return PacketMatch(arrival.packet, arrival.node, subject.device, match, spelling)

    def _find_match(self, arrival: _Arrival, subject: Subject) -> Match | None:
        call = self._calls.get(arrival.message.call_id) or _CallState()
        if arrival.ends & subject.addresses:
            return "device"
        if subject.device in call.others:
            return None
        if arrival.ends & subject.siblings and not _is_caller_leg(arrival, subject, call):
            return None
        if subject.device in call.devices:
            return "device"
        if _has_aor(arrival.message, subject):
            return "aor" if subject.shares_aor else "device"
        return None


def _is_caller_leg(arrival: _Arrival, subject: Subject, call: _CallState) -> bool:
    """Return whether the call is one between the device and another device of its AOR, not one for both."""
    return call.origin in subject.addresses or (subject.device in call.devices and call.origin in arrival.ends)


def _is_own(arrival: _Arrival, subject: Subject) -> bool | None:
    """Return whether a message shows that its call is the device's (True) or not (False); None: it does not show."""
    message = arrival.message
    if arrival.ends & subject.addresses:
        return True
    if message.method == "REGISTER" and _has_aor(message, subject):
        registering = _contact_instance(message)
        if registering and subject.instance:
            return registering == subject.instance
    if message.method and _contact_name(message.uri) in subject.contacts and not arrival.ends & subject.siblings:
        return True
    return None


def _contact_instance(message: SipMessage) -> str:
    """Return the SIP instance that a REGISTER binds, "" if it has none."""
    _, sign, value = message.header("contact").partition("+sip.instance=")
    return instance(value.partition(">")[0] + '>"') if sign else ""


def _contact_name(uri: str) -> ContactName:
    parsed = _parse(uri)
    return (parsed.user, parsed.host) if parsed else ("", "")


def _has_aor(message: SipMessage, subject: Subject) -> bool:
    return any(uri and is_aor(uri, subject.user, subject.domain) for uri in (message.from_uri, message.to_uri))


def find_spelling(message: SipMessage, user: str, domain: str) -> str:
    """Return how From or To write an AOR, as OpenSIPS' filters take it; "" where that is as usrloc has it.

    `domain` is in lower case.
    """
    for header in (message.header("from"), message.header("to")):
        match = _SPELLING.search(header)
        uri = _parse(match[0]) if match else None
        if match and uri and is_aor(uri, user, domain):
            written = f"{match['user']}@{match['host']}" if domain else match["user"]
            return "" if written == (f"{user}@{domain}" if domain else user) else written
    return ""


def _parse(uri: str) -> SipUri | None:
    try:
        return parse_uri(uri)
    except InvalidUriError:
        return None


def is_aor(uri: SipUri, user: str, domain: str) -> bool:
    """Return whether a URI names an AOR as usrloc does: its user unescaped, lower case where AORs are."""
    plain = unquote(uri.user)
    same_user = plain == user or (user == user.lower() and plain.lower() == user)
    return same_user and domain in ("", uri.host)
