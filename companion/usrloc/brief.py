"""Hold those fields of contacts and devices that lists and counts depend on. No I/O."""

import re
from sys import intern
from typing import Final

import msgspec

from companion import sip
from companion.usrloc.contact import Contact, Device, extend_expiry

_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN: Final = re.compile(
    rf"sips?:(?:[\w.-]+@)?(?P<network>{_OCTET}\.{_OCTET}\.{_OCTET})\.{_OCTET}"
    r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}))?(?:;[\w.=;-]*)?",
    re.ASCII,
)
"""The usual URI of an address. To parse it takes ten times as long, and the network is the same."""


class BriefContact(msgspec.Struct, eq=False, gc=False):
    """Hold a contact in brief: the fields of `Contact`, but `network`, the network of its address.

    `registration_expires_at` is the expiry that OpenSIPS named. Times are epoch ms, 0 = never.
    """

    id: str
    node: str
    user_agent: str
    network: str
    has_push: bool
    registration_expires_at: int
    last_register_at: int
    last_latency_ms: int | None
    last_latency_at: int
    consecutive_lost: int
    last_lost_at: int
    disconnected_at: int
    ended_at: int

    @property
    def alive_at(self) -> int:
        """Return the time of the last evidence of life: an answered ping or a REGISTER."""
        return max(self.last_latency_at, self.last_register_at)

    @property
    def expires_at(self) -> int:
        """Return when it expires (epoch ms), 0 = never, as `Contact` does."""
        return extend_expiry(self.registration_expires_at, max(self.alive_at, self.last_lost_at))


class BriefDevice(msgspec.Struct, eq=False, gc=False):
    """Hold a device in brief, with its contacts, the oldest first."""

    id: str
    contacts: tuple[BriefContact, ...] = ()

    @property
    def aor(self) -> str:
        return self.id.rpartition("/")[0]


def abridge(device: Device) -> BriefDevice:
    """Return a device in brief."""
    return BriefDevice(device.id, tuple(map(_abridge_contact, device.contacts)))


def _abridge_contact(contact: Contact) -> BriefContact:
    registration = contact.registration
    return BriefContact(
        contact.id,
        contact.node,
        registration.user_agent,
        find_network(registration.received, contact.binding.uri),
        bool(contact.push_provider),
        registration.expires_at,
        contact.last_register_at,
        contact.last_latency_ms,
        contact.last_latency_at,
        contact.consecutive_lost,
        contact.last_lost_at,
        contact.disconnected_at,
        contact.ended_at,
    )


def find_network(received: str, uri: str) -> str:
    """Return the network of a contact's address, "" if it has none."""
    if plain := _PLAIN.fullmatch(received or uri):
        return intern(plain["network"] + ".0/24")
    return intern(sip.network_prefix(sip.network_address(received, uri).rpartition(":")[0]))
