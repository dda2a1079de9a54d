"""Share what both transports of events need: passing an object on, and the error of a failed bind."""

import errno
from collections.abc import Callable

from companion import log, metrics
from companion.config.address import Address
from companion.errors import UnavailableError

Receive = Callable[[bytes], bytes | None]
"""Takes the bytes of one JSON object, in the event loop, and returns a reply for the sender or None.

Only a stream carries replies, to a request with an id (event_stream in reliable_mode)."""


def deliver(receive: Receive, data: bytes, where: str, episodes: log.Episodes) -> bytes | None:
    """Call `receive`; an exception in it loses this one object, is counted, and logged with its traceback."""
    try:
        return receive(data)
    except Exception:  # noqa: BLE001 - the transport must survive any error
        metrics.INVALID.labels(where, "error").inc()
        episodes.warn("an event could not be handled", where=where, exc_info=True)
        return None


def can_not_listen(address: Address, error: OSError, setting: str) -> UnavailableError:
    """Return the error for a failed bind or look-up of [bridge] `setting`, with a remedy."""
    what = "SIP messages" if setting == "hep" else "events"
    remedy = f"change [bridge] {setting}, and the address OpenSIPS sends its {what} to"
    if error.errno == errno.EADDRINUSE:
        remedy = f"end the program that listens there, or {remedy}"
    return UnavailableError(f"can not listen on {address}: {error.strerror or error}; {remedy}")
