"""Whatever a phone may register becomes a contact of the right device, with its push flag."""

from typing import Any

import msgpack
from hypothesis import given

from companion import sip
from companion.opensips import events, mi_contact
from companion.opensips.events import ContactEvent
from companion.text import printable
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding
from companion.usrloc.picture import Usrloc
from tests.sip_phone.registrations import GeneratedContact, GeneratedRegister, registers
from tests.unit.usrloc.world import INTERVAL_MS, LOST_AFTER, NOW


def read(text: str) -> str:
    """Return a text as JSON of OpenSIPS gives it: bytes that are not UTF-8 are replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def params_of(register: GeneratedRegister, contact: GeneratedContact) -> dict[str, Any]:
    """Return what OpenSIPS tells of a contact; it writes a CSeq as a signed number."""
    return {
        "domain": "location",
        "aor": read(register.aor),
        "uri": contact.uri,
        "received": "sip:192.0.2.7:5060",
        "path": None,
        "qval": -1,
        "user_agent": read(register.user_agent or "n/a"),
        "socket": "udp:192.0.2.9:5060",
        "bflags": 14,
        "expires": NOW // 1000 + 600,
        "callid": register.call_id,
        "cseq": register.cseq - (1 << 32 if register.cseq >> 31 else 0),
        "attr": f"<{contact.instance}>" if contact.instance else "",
        "latency": 0,
        "shtag": "",
    }


def name_of(contact: GeneratedContact) -> str:
    """Return what stands for a contact in the id of its device."""
    instance = contact.instance or sip.contact_instance("", contact.uri)
    return instance.lower() if instance else contact.subject.replace("/", "%2F")


@given(registers())
def test_no_registration_hides_a_phone(register: GeneratedRegister) -> None:
    """Each contact that events tell is in memory, in the device of its instance or name, with its push flag."""
    usrloc = Usrloc(LOST_AFTER, INTERVAL_MS)
    aor = printable(read(register.aor))
    for number, contact in enumerate(register.contacts):
        event = events.decode(events.INSERT, msgpack.packb(params_of(register, contact)))
        assert isinstance(event, ContactEvent)
        usrloc.apply(event, Stamp("n", "c", NOW + number, 7))
        entered = usrloc.devices.contacts[Binding("c", "location", aor, contact.uri)]
        assert entered.device == f"{aor}/{name_of(contact)}"
        assert bool(entered.push_provider) == contact.push
        assert (entered.registration.cseq, entered.registration.callid) == (register.cseq, register.call_id)


@given(registers())
def test_mi_tells_the_same(register: GeneratedRegister) -> None:
    """MI's answer about a contact is read as its event is."""
    for contact in register.contacts:
        params = params_of(register, contact)
        event = events.decode(events.INSERT, msgpack.packb(params))
        assert isinstance(event, ContactEvent)
        fields = {
            "Contact": params["uri"],
            "Expires": 600,
            "Callid": params["callid"],
            "Cseq": params["cseq"],
            "User-agent": params["user_agent"],
            "Received": params["received"],
            "SIP_instance": f'"<{contact.instance}>"' if contact.instance else "",
            "Flags": 4 * contact.push,
        }
        parsed = mi_contact.parse(params["domain"], params["aor"], fields)
        assert (parsed.aor, parsed.uri) == (event.aor, event.uri)
        assert (parsed.callid, parsed.cseq, parsed.user_agent) == (
            event.registration.callid,
            event.registration.cseq,
            event.registration.user_agent,
        )
        assert (parsed.instance, parsed.push) == (contact.instance.lower(), contact.push)
