"""Index live contacts by the connection they are on. No I/O."""

from collections.abc import Iterable

from companion.opensips.events import DisconnectEvent
from companion.opensips.sockets import parse_socket
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.contact import Contact


class Connections:
    """Index live contacts by their connection, given as (cluster, `ip:port` of the far end)."""

    def __init__(self) -> None:
        self._contacts: dict[tuple[str, str], dict[Contact, None]] = {}
        self._crowded: set[tuple[str, str]] = set()

    def contacts_on(self, cluster: str, address: str) -> list[Contact]:
        """Return the live contacts on a connection."""
        return list(self._contacts.get((cluster, address), ()))

    def note_left_out(self, cluster: str, connection: str) -> None:
        """Note that a contact that was left out shares the connection of others: its end would say too little."""
        if (cluster, connection) in self._contacts:
            self._crowded.add((cluster, connection))

    def is_crowded(self, cluster: str, address: str) -> bool:
        """Return whether there is a contact on a connection that was left out."""
        return (cluster, address) in self._crowded

    def matching(self, event: DisconnectEvent, stamp: Stamp) -> list[Contact]:
        """Return the live contacts whose connection a node says has ended.

        Protocol, source and destination must match, and the node must be the one that holds the connection, as far as
        these are known. MI's socket is not compared: it is the advertised one.
        """
        return [
            contact
            for contact in self.contacts_on(stamp.cluster, event.address)
            if contact.transport == event.proto.lower()
            and contact.holder in ("", stamp.node)
            and _is_on(contact.registration.socket, event.socket)
        ]

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
            self._crowded.discard(key)
        return True


def _is_on(socket: str, destination: str) -> bool:
    near, listening = parse_socket(destination), parse_socket(socket)
    return near is None or listening is None or listening.accepts(*near)
