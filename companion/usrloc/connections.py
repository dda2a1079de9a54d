"""Index live contacts by the connection they are on. No I/O."""

from collections.abc import Iterable

from companion.usrloc.changes import Changes
from companion.usrloc.contact import Contact


class Connections:
    """Index live contacts by their connection, given as (cluster, `ip:port` of the far end)."""

    def __init__(self) -> None:
        self._contacts: dict[tuple[str, str], dict[Contact, None]] = {}

    def contacts_on(self, cluster: str, address: str) -> list[Contact]:
        """Return the live contacts on a connection."""
        return list(self._contacts.get((cluster, address), ()))

    def index(self, contacts: Iterable[Contact]) -> None:
        """Take in contacts that are stored already."""
        for contact in contacts:
            if contact.connection and not contact.ended_at:
                self._contacts.setdefault((contact.binding.cluster, contact.connection), {})[contact] = None

    def connect(self, contact: Contact, changes: Changes) -> None:
        """Put a live contact on its connection."""
        if contact.connection and not contact.ended_at:
            self.index([contact])
            changes.connected[contact] = contact.connection

    def disconnect(self, contact: Contact, changes: Changes) -> None:
        """Take a contact off its connection."""
        if self.forget(contact):
            changes.connected.pop(contact, None)
            changes.disconnected.append((contact, contact.connection))

    def forget(self, contact: Contact) -> bool:
        """Drop a contact from memory only; return whether it was there."""
        key = contact.binding.cluster, contact.connection
        contacts = self._contacts.get(key, {})
        if contact not in contacts:
            return False
        del contacts[contact]
        if not contacts:
            del self._contacts[key]
        return True
