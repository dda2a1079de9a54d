"""Name a phone on each listening socket that answered lately: a question to it shows that the way to ask works."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from companion.store.connection import Command
from companion.store.contacts import ContactRef, format_ref, parse_ref
from companion.store.keys import Keys
from companion.store.store import Store
from companion.usrloc.contact import Contact

MAX_LISTENERS: Final = 1000
"""Listening sockets of all nodes; beyond, events name sockets that no OpenSIPS has, and all begins anew."""
_BOUND: Final = "return redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) and redis.call('DEL', KEYS[1]) or 0"
SAMPLE: Final = 64
"""How many contacts of a batch are looked at: each listener has its turn sooner or later."""


def prepare_witnesses(keys: Keys, answered: Iterable[Contact], ttl_ms: int) -> list[Command]:
    """Prepare to name the contacts of a batch that answered, one for each node and socket."""
    witnesses = {
        f"{contact.node} {contact.registration.socket}": format_ref(contact)
        for contact in islice(answered, SAMPLE)
        if contact.registration.socket and not contact.registration.path
    }
    if not witnesses:
        return []
    flat = [part for pair in witnesses.items() for part in pair]
    bound = ("EVAL", _BOUND, 1, keys.witnesses(), MAX_LISTENERS)
    return [bound, ("HSET", keys.witnesses(), *flat), ("PEXPIRE", keys.witnesses(), ttl_ms)]


def load_witness(store: Store, node: str, socket: str) -> ContactRef | None:
    """Return the phone that last answered a node's ping over a socket, None when none did."""
    ref = store.connection.call("HGET", store.keys.witnesses(), f"{node} {socket}")
    return parse_ref(ref) if ref else None
