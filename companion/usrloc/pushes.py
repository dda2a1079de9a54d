"""Find the contact that a push registration replaces. No I/O."""

from collections.abc import Iterable

from companion import sip
from companion.usrloc.contact import Binding, Contact

Key = tuple[str, str, str, str]


class PushContacts:
    """Index contacts by their AOR and push parameters.

    With `pn_enable` the registrar knows a contact by these (RFC 8599), not by its URI: a reload that comes with another
    URI is an UPDATE of the same contact, and nothing tells that the old URI is gone.
    """

    def __init__(self) -> None:
        self._contacts: dict[Key, Contact] = {}

    def index(self, contacts: Iterable[Contact]) -> None:
        """Take in contacts; of several with the same parameters the last one counts."""
        for contact in contacts:
            if key := _key(contact.binding):
                self._contacts[key] = contact

    def forget(self, contact: Contact) -> None:
        """Drop a contact from memory."""
        key = _key(contact.binding)
        if key and self._contacts.get(key) is contact:
            del self._contacts[key]

    def find(self, binding: Binding) -> Contact | None:
        """Return the live contact with the same push parameters and another URI."""
        key = _key(binding)
        contact = self._contacts.get(key) if key else None
        return None if contact is None or contact.ended_at or contact.binding == binding else contact


def _key(binding: Binding) -> Key | None:
    token = sip.push_identity(binding.uri)
    return (binding.cluster, binding.domain, binding.aor, token) if token else None
