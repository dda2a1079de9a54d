"""Keep the location table like OpenSIPS, and raise an event for each change."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from companion.simulator import wire
from companion.simulator.wire import SimulatedContact

Raise = Callable[[str, bytes], None]

DOMAIN = "location"
HASH_SIZE = 512
ANY_METHOD = 4294967295
PUSH_FLAG = 4
PINGED_FLAGS = 10
REMOVED_ON_TIMEOUT_FLAG = 4


@dataclass(eq=False)
class SimulatedBinding:
    """Hold a contact and what only MI shows. `expires` is exact, in epoch seconds; the event's is whole."""

    contact: SimulatedContact
    contact_id: int
    instance: str
    push: bool
    expires: float
    lost_in_row: int = 0

    @property
    def pinged(self) -> bool:
        return bool(self.contact.bflags)

    @property
    def key(self) -> tuple[str, str]:
        return self.contact.aor, self.contact.uri

    def describe(self, now: float) -> dict[str, Any]:
        """Return it as ul_show_contact prints it, without absent fields. `now` is in epoch seconds."""
        contact = self.contact
        fields: dict[str, Any] = {
            "Contact": contact.uri,
            "ContactID": str(self.contact_id),
            "Expires": "expired" if now > self.expires else int(self.expires - now),
            "Q": "",
            "Callid": contact.callid,
            "Cseq": contact.cseq,
            "User-agent": contact.user_agent,
            "Received": contact.received,
            "Path": contact.path,
            "State": "CS_NEW",
            "Flags": PUSH_FLAG if self.push else 0,
            "Cflags": name_flags(contact.bflags),
            "Socket": contact.socket,
            "Methods": ANY_METHOD,
            "Attr": contact.attr,
            "SIP_instance": f"<urn:uuid:{self.instance}>" if self.instance else "",
            "Ping-Latency": contact.latency,
        }
        absent_when_empty = ("User-agent", "Received", "Path", "Attr", "SIP_instance", "Ping-Latency")
        return {name: value for name, value in fields.items() if value or name not in absent_when_empty}


def name_flags(bflags: int) -> str:
    names = {8: "SIPPING_CALC_LATENCY", 4: "SIP_PING_RTN", 2: "SIP_PING_FLAG"}
    return " ".join(name for bit, name in names.items() if bflags & bit)


class SimulatedUsrloc:
    """Hold AORs and their contacts. An AOR may stay without contacts until the next `sweep`, as in OpenSIPS."""

    def __init__(self, raise_event: Raise) -> None:
        self._raise = raise_event
        self._aors: dict[str, dict[str, SimulatedBinding]] = {}
        self._ids = itertools.count(1)

    def __iter__(self) -> Iterator[SimulatedBinding]:
        return (binding for contacts in self._aors.values() for binding in contacts.values())

    @property
    def aors(self) -> list[str]:
        return list(self._aors)

    def find_contacts(self, aor: str) -> list[SimulatedBinding] | None:
        """Return the AOR's contacts; None when there is no such AOR."""
        contacts = self._aors.get(aor)
        return None if contacts is None else list(contacts.values())

    def find(self, aor: str, uri: str) -> SimulatedBinding | None:
        return self._aors.get(aor, {}).get(uri)

    def save(self, contact: SimulatedContact, instance: str, *, push: bool, expires: float) -> SimulatedBinding:
        """Insert a contact, or update the one with this URI, as the registrar does."""
        if contact.aor not in self._aors:
            self._aors[contact.aor] = {}
            self._raise("E_UL_AOR_INSERT", wire.encode_aor_event("E_UL_AOR_INSERT", contact.aor, contact.domain))
        binding = self._aors[contact.aor].get(contact.uri)
        if binding:
            binding.contact = replace(contact, latency=binding.contact.latency)
            binding.expires = expires
            self.raise_event("E_UL_CONTACT_UPDATE", binding)
            return binding
        binding = SimulatedBinding(contact, self._make_id(contact.aor), instance, push, expires)
        self._aors[contact.aor][contact.uri] = binding
        self.raise_event("E_UL_CONTACT_INSERT", binding)
        return binding

    def delete(self, binding: SimulatedBinding, *, release: bool) -> None:
        """Remove a contact; `release` an AOR left empty at once: the registrar and MI do, nathelper leaves it."""
        self._aors[binding.contact.aor].pop(binding.contact.uri)
        self.raise_event("E_UL_CONTACT_DELETE", binding)
        if release:
            self._release(binding.contact.aor)

    def sweep(self, now: float) -> None:
        """Run the usrloc timer: drop what expired, and AORs without contacts. `now` is in epoch seconds."""
        for binding in [binding for binding in self if now > binding.expires]:
            self.delete(binding, release=True)
        for aor in self.aors:
            self._release(aor)

    def clear(self) -> None:
        """Forget everything without a word, as a restart does."""
        self._aors.clear()

    def raise_event(self, event: str, binding: SimulatedBinding) -> None:
        self._raise(event, wire.encode_contact_event(event, binding.contact))

    def _release(self, aor: str) -> None:
        if not self._aors[aor]:
            del self._aors[aor]
            self._raise("E_UL_AOR_DELETE", wire.encode_aor_event("E_UL_AOR_DELETE", aor))

    def _make_id(self, aor: str) -> int:
        return (zlib.crc32(aor.encode()) % HASH_SIZE << 46) + next(self._ids)
