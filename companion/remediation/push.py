"""Flag contacts for a push, and clear the flags of those that came back."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from companion import sip
from companion.remediation.policy import Candidate, Push
from companion.store.contacts import ContactRef
from companion.store.devices import load_devices_of_contacts
from companion.store.pushes import DAY_MS, CareState, clear_pushes, load_care, load_pushed, save_push
from companion.store.store import Store
from companion.usrloc.contact import Contact, Device

KEEPALIVE: Final = "keepalive"
"""Why we push. A gateway must not spend a VoIP (PushKit) push on it: iOS ends an app that gets one without a call."""


class Woken(NamedTuple):
    """Hold a contact whose flag was cleared. `after_ms` runs from the first push to the answer, None when it ended.

    `since` is the first push. `decided` is the mark of its last decision. `elsewhere`: its device answered from a
    contact that is new since the push. This one goes on failing.
    """

    contact: Contact
    since: int
    attempts: int
    after_ms: int | None
    elsewhere: bool = False
    decided: str = ""


def read_states(store: Store, contacts: Sequence[Contact], now: int) -> dict[str, CareState]:
    """Return the state of each contact, by id."""
    return load_care(store, contacts, _day(now))


def pushes_of(state: CareState) -> Push:
    """Return the pushes of a contact."""
    return Push(state.push_since, state.push_attempts, state.push_last_at, state.pushes_today)


def flag(store: Store, candidate: Candidate, state: CareState, now: int) -> int:
    """Note one more push, and offer it on the push stream; return which attempt it is."""
    attempt = state.push_attempts + 1
    pushed_state = state._replace(push_since=state.push_since or now, push_attempts=attempt, push_last_at=now)
    save_push(store, candidate.contact, pushed_state, _day(now), make_offer(candidate, attempt))
    return attempt


def make_offer(candidate: Candidate, attempt: int) -> dict[str, Any]:
    """Return what a push gateway gets. The URI holds the credentials that it needs (RFC 8599 pn-prid, pn-param)."""
    contact = candidate.contact
    provider = sip.push_provider(contact.binding.uri)
    return {**event_params(candidate, attempt), "node": contact.node, "provider": provider}


def event_params(candidate: Candidate, attempt: int) -> dict[str, str | int]:
    """Return the parameters of the event raised on OpenSIPS."""
    binding = candidate.contact.binding
    params: dict[str, str | int] = {"domain": binding.domain, "aor": binding.aor, "uri": binding.uri}
    return {**params, "device": candidate.contact.device, "reason": KEEPALIVE, "attempt": attempt}


def clear_woken(store: Store, now: int) -> list[Woken]:
    """Clear the flags of contacts that came back, ended, or had no push for a day."""
    refs = load_pushed(store)
    devices = {device.id: device for device in load_devices_of_contacts(store, [_text(ref) for ref in refs])}
    contacts = {contact.id: contact for device in devices.values() for contact in device.contacts}
    pending = [contacts[ref.contact] for ref in refs if ref.contact in contacts]
    states = read_states(store, pending, now)
    cleared = [
        woken._replace(decided=states[contact.id].decided)
        for contact in pending
        if (woken := find_woken(contact, devices[contact.device], pushes_of(states[contact.id]), now))
    ]
    vanished = [ref for ref in refs if ref.contact not in contacts]
    clear_pushes(store, [woken.contact for woken in cleared], vanished)
    return cleared


def _text(ref: ContactRef) -> str:
    return f"{ref.contact} {ref.aor}"


def find_woken(contact: Contact, device: Device, push: Push, now: int) -> Woken | None:
    """Return what came of the pushes to a contact; None while nothing did."""
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


def _day(now: int) -> str:
    return datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%d")
