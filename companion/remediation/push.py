"""Flags for push: who is to be woken, the stream a push gateway reads, and how long a wake-up took."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from companion import sip
from companion.remediation.policy import Candidate, Push
from companion.store.connection import Command
from companion.store.devices import load_devices_of_contacts
from companion.store.store import Store
from companion.usrloc.contact import Contact, Device

KEEPALIVE: Final = "keepalive"
"""Why we push. A gateway must not spend a VoIP (PushKit) push on it: iOS ends an app that gets one without a call."""
MAX_STREAM: Final = 100_000
DAY_MS: Final = 86_400_000
_FIELDS: Final = ("push_pending_since", "push_attempts", "push_last_at", "decided")


class State(NamedTuple):
    """What remediation itself noted of a contact: its pushes, and the mark of its last decision."""

    push: Push
    decided: str


class Woken(NamedTuple):
    """A contact whose flag was cleared; `after_ms` from the first push to the device's answer, None when it ended."""

    contact: Contact
    since: int
    attempts: int
    after_ms: int | None
    elsewhere: bool = False
    """Its device answered from a contact that is new since the push: this one goes on failing."""


def read_states(store: Store, contacts: Sequence[Contact], now: int) -> dict[str, State]:
    """The state of each contact, by id."""
    commands: list[Command] = []
    for contact in contacts:
        commands.append(("HMGET", store.keys.contact(contact.binding.aor, contact.id), *_FIELDS))
        commands.append(("GET", store.keys.pushes(contact.device, _day(now))))
    replies = store.connection.pipeline(commands)
    return {
        contact.id: _state(noted, today)
        for contact, noted, today in zip(contacts, replies[::2], replies[1::2], strict=True)
    }


def _state(noted: Sequence[str | None], today: str | None) -> State:
    since, attempts, last_at, decided = noted
    return State(Push(int(since or 0), int(attempts or 0), int(last_at or 0), int(today or 0)), decided or "")


def flag(store: Store, found: Candidate, push: Push, now: int) -> int:
    """Note one more push on contact and device, and offer it to whoever reads the stream; which attempt it is."""
    contact, keys = found.contact, store.keys
    attempt, since = push.attempts + 1, push.since or now
    noted = ("push_pending_since", since, "push_attempts", attempt, "push_last_at", now)
    pushes = keys.pushes(contact.device, _day(now))
    offer = [part for pair in offered(found, attempt).items() for part in pair]
    store.connection.pipeline(
        [
            ("HSET", keys.contact(contact.binding.aor, contact.id), *noted),
            ("HSET", keys.device(contact.device), *noted),
            ("ZADD", keys.pushing(keys.shard(contact.binding.aor)), since, f"{contact.id} {contact.binding.aor}"),
            ("INCR", pushes),
            ("PEXPIRE", pushes, 2 * DAY_MS),
            ("XADD", keys.push(), "MAXLEN", "~", MAX_STREAM, "*", *offer),
            ("PEXPIRE", keys.push(), store.retention_ms),
        ]
    )
    return attempt


def offered(found: Candidate, attempt: int) -> dict[str, Any]:
    """What a push gateway gets to know; the URI holds the credentials it needs (RFC 8599 pn-prid, pn-param)."""
    contact = found.contact
    return {**named_params(found, attempt), "node": contact.node, "provider": sip.push_provider(contact.binding.uri)}


def named_params(found: Candidate, attempt: int) -> dict[str, str | int]:
    """The parameters of the event raised on OpenSIPS."""
    binding = found.contact.binding
    named: dict[str, str | int] = {"domain": binding.domain, "aor": binding.aor, "uri": binding.uri}
    return {**named, "device": found.contact.device, "reason": KEEPALIVE, "attempt": attempt}


def clear_woken(store: Store, now: int) -> list[Woken]:
    """Take the flags off those who came back, ended, or were left alone for a day."""
    refs = [
        ref
        for shard in range(store.keys.shards)
        for ref in store.connection.call("ZRANGE", store.keys.pushing(shard), 0, -1)
    ]
    devices = {device.id: device for device in load_devices_of_contacts(store, refs)}
    contacts = {contact.id: contact for device in devices.values() for contact in device.contacts}
    pending = [contacts[ref.partition(" ")[0]] for ref in refs if ref.partition(" ")[0] in contacts]
    states = read_states(store, pending, now)
    cleared = []
    for contact in pending:
        woken = _woken(contact, devices[contact.device], states[contact.id].push, now)
        if woken:
            cleared.append(woken)
    gone = [ref for ref in refs if ref.partition(" ")[0] not in contacts]
    store.connection.pipeline([*_clearing(store, cleared), *_forgetting(store, gone)])
    return cleared


def _woken(contact: Contact, device: Device, push: Push, now: int) -> Woken | None:
    if contact.alive_at > push.since:
        return Woken(contact, push.since, push.attempts, contact.alive_at - push.since)
    new = [
        other.registered_at for other in device.contacts if other is not contact and other.registered_at > push.since
    ]
    if new:
        return Woken(contact, push.since, push.attempts, min(new) - push.since, elsewhere=True)
    if contact.ended_at or now - push.last_at > DAY_MS:
        return Woken(contact, push.since, push.attempts, None)
    return None


def _clearing(store: Store, cleared: Sequence[Woken]) -> list[Command]:
    keys = store.keys
    commands: list[Command] = []
    for contact, *_ in cleared:
        aor = contact.binding.aor
        commands.append(("HDEL", keys.contact(aor, contact.id), *_FIELDS[:3]))
        commands.append(("HDEL", keys.device(contact.device), *_FIELDS[:3]))
        commands.append(("ZREM", keys.pushing(keys.shard(aor)), f"{contact.id} {aor}"))
    return commands


def _forgetting(store: Store, refs: Sequence[str]) -> list[Command]:
    shard = store.keys.shard
    return [("ZREM", store.keys.pushing(shard(ref.partition(" ")[2])), ref) for ref in refs]


def _day(now: int) -> str:
    return datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%d")
