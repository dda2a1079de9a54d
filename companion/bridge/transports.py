"""How events come in from OpenSIPS: addresses, and what a transport does with the bytes of one JSON object."""

import errno
from collections.abc import Callable

from companion import log, metrics
from companion.errors import UnavailableError
from companion.opensips.address import Address

Receive = Callable[[bytes], bytes | None]
"""Takes the bytes of ONE JSON object, in the event loop. Returns a reply for the sender (only a stream carries
one: a request with an id, OpenSIPS event_stream in reliable_mode) or None."""


def deliver(receive: Receive, data: bytes, where: str, episodes: log.Episodes) -> bytes | None:
    """Call `receive`. An exception in it costs this one object, is counted, and logged with its traceback."""
    try:
        return receive(data)
    except Exception:  # noqa: BLE001 - whatever it is, the transport goes on
        metrics.INVALID.labels(where, "error").inc()
        episodes.warn("an event could not be handled", where=where, exc_info=True)
        return None


def can_not_listen(address: Address, error: OSError) -> UnavailableError:
    """The error for a failed bind or look-up, with what to do about it."""
    setting = "datagram" if address.scheme == "udp" else "stream"
    remedy = f"change [bridge] {setting}, and the address OpenSIPS sends its events to"
    if error.errno == errno.EADDRINUSE:
        remedy = f"end the program that listens there, or {remedy}"
    return UnavailableError(f"can not listen on {address}: {error.strerror or error}; {remedy}")
