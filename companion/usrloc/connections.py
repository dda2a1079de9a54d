"""Index live contacts by the connection they are on. No I/O."""

from collections.abc import Iterable
from typing import Final

from companion.opensips.events import DisconnectEvent
from companion.opensips.sockets import parse_socket
from companion.usrloc.changes import Changes, Stamp
from companion.usrloc.contact import Contact

Key = tuple[str, str]
"""(cluster, `ip:port` of the far end)"""
MAX_CROWDED: Final = 10_000
"""Connections of contacts that were left out; the one that was noted first is forgotten when there are more."""


class Connections:
    """Index live contacts by their connection."""

    def __init__(self) -> None:
        self._contacts: dict[Key, dict[Contact, None]] = {}
        self._keys: dict[Contact, Key] = {}
        self._crowded: dict[Key, None] = {}

    def contacts_on(self, cluster: str, address: str) -> list[Contact]:
        """Return the live contacts on a connection."""
        return list(self._contacts.get((cluster, address), ()))

    def note_left_out(self, cluster: str, connection: str) -> None:
        """Note the connection of a contact that was left out: its end would say too little of others on it.

        They need not be in memory now.
        """
        if not connection:
            return
        self._crowded.pop((cluster, connection), None)
        if len(self._crowded) >= MAX_CROWDED:
            del self._crowded[next(iter(self._crowded))]
        self._crowded[cluster, connection] = None

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
            if not contact.ended_at and (connection := contact.connection):
                key = contact.binding.cluster, connection
                self._keys[contact] = key
                self._contacts.setdefault(key, {})[contact] = None

    def connect(self, contact: Contact, changes: Changes) -> None:
        """Put a live contact on its connection."""
        self.index([contact])
        if contact in self._keys:
            changes.connected[contact] = self._keys[contact][1]

    def disconnect(self, contact: Contact, changes: Changes) -> None:
        """Take a contact off its connection."""
        key = self._keys.get(contact)
        if key:
            self.forget(contact)
            changes.connected.pop(contact, None)
            changes.disconnected.append((contact, key[1]))

    def forget(self, contact: Contact) -> None:
        """Drop a contact from memory only."""
        key = self._keys.pop(contact, None)
        if key:
            del self._contacts[key][contact]
            if not self._contacts[key]:
                del self._contacts[key]


def _is_on(socket: str, destination: str) -> bool:
    near, listening = parse_socket(destination), parse_socket(socket)
    return near is None or listening is None or listening.accepts(*near)
