"""Knows a ping by its bytes: most are the contact's last one again, but for the latency. No I/O.

To decode and check fifteen parameters costs ten times as much as to see that they are the same as before. A message's
bytes are cut at the last key `latency`: what is before it leads to the contact, what is behind the number must be as it
was. msgpack is read from front to back, so after the same bytes in front the number is read as the latency again.
"""

from typing import Final, NamedTuple

import msgspec

from companion.errors import InvalidEventError
from companion.opensips.events import LATENCY, LOST_PING_US, MAX_LATENCY_US, ContactEvent, Registration, decode
from companion.usrloc.contact import Contact

KNOWN_MAX: Final = 200_000
"""Pings known at once, about half a kilobyte each; half of them are forgotten when there are more."""

_KEY: Final = b"\xa7latency"
_OTHER_US: Final = 42
_SIZES: Final = [1] * 0x80 + [0] * 0x4C + [2, 3, 5] + [0] * 0x31
"""Bytes of a msgpack number, by its first one; 0 where it is none that a latency would have."""


class Known(NamedTuple):
    """Whose ping it is, the registration it tells of, and the bytes behind its latency."""

    contact: Contact
    registration: Registration
    rest: bytes


class Pings:
    """The pings of one node's contacts."""

    def __init__(self, known_max: int = KNOWN_MAX) -> None:
        self._generation_max = known_max // 2
        self._known: dict[bytes, Known] = {}
        self._older: dict[bytes, Known] = {}

    def find(self, params: bytes) -> tuple[Known, int] | None:
        """The ping these bytes are, and its latency in µs (LOST_PING_US when it was lost); None when unknown.

        The contact may have changed since it was learned: compare its registration.
        """
        head, _, tail = params.rpartition(_KEY)
        known = self._known.get(head) or self._recall(head)
        if known is None or not tail:
            return None
        size = _SIZES[tail[0]]
        if not size or tail[size:] != known.rest:
            return None
        latency_us = int.from_bytes(tail[1:size]) if size > 1 else tail[0]
        if latency_us > MAX_LATENCY_US and latency_us != LOST_PING_US:
            return None
        return known, latency_us

    def _recall(self, head: bytes) -> Known | None:
        known = self._older.pop(head, None)
        if known:
            self._keep(head, known)
        return known

    def learn(self, params: bytes, event: ContactEvent, contact: Contact) -> None:
        """Know these bytes, which were decoded to `event` and are `contact`'s, from now on."""
        head, _, tail = params.rpartition(_KEY)
        rest = tail[_SIZES[tail[0]] :] if tail else b""
        if contact.registration == event.registration and head and _is_read_there(head, rest, event):
            self._keep(head, Known(contact, contact.registration, rest))

    def _keep(self, head: bytes, known: Known) -> None:
        if len(self._known) >= self._generation_max:
            self._older, self._known = self._known, {}
        self._known[head] = known

    def forget(self) -> None:
        """Let go of all contacts."""
        self._known.clear()
        self._older.clear()


def _is_read_there(head: bytes, rest: bytes, event: ContactEvent) -> bool:
    """Whether another number at that place is read as another latency, and nothing else is."""
    try:
        other = decode(LATENCY, b"".join((head, _KEY, msgspec.msgpack.encode(_OTHER_US), rest)))
    except InvalidEventError:
        return False
    return other == event._replace(latency_us=_OTHER_US)
