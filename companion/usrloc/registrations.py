"""Compare registrations of a contact: which REGISTER is the same, which is older, which node took it. No I/O."""

from companion.opensips.events import Registration
from companion.opensips.sockets import parse_socket
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Contact


def is_same_register(one: Registration, other: Registration) -> bool:
    """Return whether two nodes tell of the same REGISTER."""
    return (one.callid, one.cseq, one.expires_at) == (other.callid, other.cseq, other.expires_at)


def is_same_registration(one: Registration, other: Registration) -> bool:
    """Return whether both are of one REGISTER, by what events and MI both tell exactly."""
    return (one.callid, one.cseq, one.received, one.path) == (other.callid, other.cseq, other.received, other.path)


def is_other_phone(one: Registration, other: Registration) -> bool:
    """Return whether another phone took over the URI. One that restarts makes a new Call-ID, but stays its model."""
    return one.callid != other.callid and one.user_agent != other.user_agent


def is_overtaken(contact: Contact, registration: Registration, stamp: Stamp) -> bool:
    """Return whether another node's event is of an older REGISTER than the latest."""
    latest = contact.registration
    return stamp.node != contact.node and latest.callid == registration.callid and registration.cseq < latest.cseq


def is_older_binding(contact: Contact, registration: Registration) -> bool:
    """Return whether an event is of an older binding of the same URI: `matching_mode` 1 keeps one for each Call-ID."""
    return registration.callid in contact.older_callids


def may_be_older_binding(contact: Contact, registration: Registration) -> bool:
    """Return whether an event is of another Call-ID and may be of an older binding, whose REGISTER we do not know."""
    latest = contact.registration
    if latest.callid == registration.callid:
        return False
    is_later = registration.expires_at > latest.expires_at > 0 or (latest.expires_at and not registration.expires_at)
    return is_older_binding(contact, registration) or not is_later


def holder(registration: Registration, node: str) -> str:
    """Return the node if its own listening socket is the one that the registration names, "" if not certain.

    A replica names no socket, for the socket is another machine's. A wildcard socket (0.0.0.0) exists on every node.
    """
    socket = parse_socket(registration.socket)
    return "" if socket is None or socket.is_wildcard else node


def with_own_socket(contact: Contact, registration: Registration, stamp: Stamp) -> Registration:
    """Return a registration as a ping tells it, with the socket that a replica does not know."""
    if not registration.socket and stamp.node != contact.holder:
        return registration._replace(socket=contact.registration.socket)
    return registration
