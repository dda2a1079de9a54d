"""Keep which devices are recorded, until when, and who asked for it."""

from typing import Final

import msgspec

from companion.store.locks import HeldLock, acquire_lock
from companion.store.store import Store

TRACER_SECONDS: Final = 30.0
"""How long the lock lasts that a process left which died: longer than the calls of MI for one change."""


class Recording(msgspec.Struct, frozen=True):
    """Hold one recording; times are epoch ms. `by` is who asked for it."""

    device: str
    by: str
    started_at: int
    ends_at: int

    def is_over(self, now: int) -> bool:
        return self.ends_at <= now


def load_recordings(store: Store) -> dict[str, Recording]:
    """Return all recordings by device, also those that are over and not ended yet."""
    rows: dict[str, str] = store.connection.call("HGETALL", store.keys.recordings())
    return {device: msgspec.json.decode(text, type=Recording) for device, text in rows.items()}


def save_recording(store: Store, recording: Recording, limit: int) -> bool:
    """Store a recording, in place of an earlier one of its device; False when there are `limit` of others.

    A recording that goes on may be renewed, however many there are.
    """
    key = store.keys.recordings()
    is_new = int(store.connection.call("HSET", key, recording.device, msgspec.json.encode(recording).decode()))
    if is_new and int(store.connection.call("HLEN", key)) > limit:
        store.connection.call("HDEL", key, recording.device)
        return False
    return True


def restore_recording(store: Store, device: str, earlier: Recording | None) -> None:
    """Put back the recording that a device had, or none, where a new one could not be started."""
    if earlier is None:
        delete_recording(store, device)
    else:
        store.connection.call("HSET", store.keys.recordings(), device, msgspec.json.encode(earlier).decode())


def delete_recording(store: Store, device: str) -> bool:
    """Delete the recording of a device; False when there is none: another companion was faster."""
    return bool(store.connection.call("HDEL", store.keys.recordings(), device))


def acquire_tracer(store: Store) -> HeldLock | None:
    """Take the lock to change the traces of OpenSIPS; None while another process does."""
    return acquire_lock(store, store.keys.tracer(), TRACER_SECONDS)


def save_spelling(store: Store, device: str, spelling: str) -> None:
    """Note how a device's messages write its AOR: OpenSIPS compares letter by letter."""
    store.connection.call("SET", store.keys.spelling(device), spelling, "PX", store.ttl_ms)


def load_spelling(store: Store, device: str) -> str:
    """Return how the last message of a device wrote its AOR, "" where that is as usrloc has it."""
    return str(store.connection.call("GET", store.keys.spelling(device)) or "")
