"""Find the contact that a push registration replaces. No I/O.

With `pn_enable` the registrar knows a contact by its AOR and push parameters (RFC 8599), not by its URI: a reload that
comes with another URI is an UPDATE of the same contact, and nothing tells that the old URI is gone.
"""

from collections.abc import Iterable
from operator import attrgetter

from companion import sip
from companion.usrloc.contact import Binding, Contact, Device


def find_replaced(devices: Iterable[Device], binding: Binding) -> Contact | None:
    """Return the live contact among the devices of an AOR that has the same push parameters and another URI.

    Of several, the one that showed life last counts: the others were replaced unseen.
    """
    if not sip.push_identity(binding.uri):
        return None
    contacts = (contact for device in devices for contact in device.contacts if not contact.ended_at)
    return max(
        (one for one in contacts if _is_other_uri(one.binding, binding)), key=attrgetter("alive_at"), default=None
    )


def _is_other_uri(one: Binding, other: Binding) -> bool:
    """Return whether two bindings differ in their URI and agree in its push parameters."""
    is_place_same = (one.cluster, one.domain, one.aor) == (other.cluster, other.domain, other.aor)
    return is_place_same and one.uri != other.uri and sip.push_identity(one.uri) == sip.push_identity(other.uri)
