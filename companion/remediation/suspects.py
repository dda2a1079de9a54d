"""Recognise suspect removals: the phone registers again soon after its contact was removed."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from companion import log, metrics
from companion.remediation import audit
from companion.remediation.audit import AuditEntry, Outcome
from companion.remediation.policy import Candidate, Decision
from companion.store.devices import load_devices, load_ids_of
from companion.store.removals import (
    append_removal,
    append_suspect,
    count_removals,
    count_suspects,
    forget_removals,
    load_removals,
)
from companion.store.store import Store
from companion.text import Json
from companion.usrloc.contact import Contact

WATCH_MS: Final = 60_000
"""A phone that registers within this time after its removal was alive. A laptop that wakes up later was not."""
LATE_MS: Final = 60_000
"""A REGISTER may be stored, and a sweep may run, so much later."""
SHARE: Final = 0.05
"""Up to this share of all removals may come back: there are always some that return by chance."""

logger = log.get(__name__)


def watch_removal(store: Store, candidate: Candidate, now: int) -> Json:
    """Remember, and return, what tells that this phone came back."""
    contact = candidate.contact
    registration = contact.registration
    removal: Json = {
        "aor": contact.binding.aor,
        "cluster": contact.binding.cluster,
        "contact": contact.id,
        "callid": registration.callid,
        "cseq": registration.cseq,
        "address": contact.address if registration.received else "",
        "reason": candidate.reason,
    }
    append_removal(store, now, removal)
    return removal


def find_suspects(store: Store, mode: str, now: int) -> int:
    """Count the watched removals whose phone came back, and write them into the audit."""
    suspects = []
    for at, removal in load_removals(store, now - WATCH_MS - LATE_MS):
        contact = next(_returned(_load_contacts(store, removal["aor"]), at, removal), None)
        if contact is not None:
            _report(store, contact, removal, mode, now)
            suspects.append(removal)
    forget_removals(store, suspects)
    return len(suspects)


def has_too_many(store: Store, limit: int, now: int) -> bool:
    """Return whether more AORs than `limit` had a suspect removal in the last hour, and they are not a few of many."""
    suspects = count_suspects(store, now)
    return suspects > limit and are_too_many(suspects, count_removals(store, now) + suspects)


def are_too_many(suspects: int, removals: int) -> bool:
    """Return whether suspect removals are more than a small share of all removals."""
    return suspects > SHARE * removals


def _load_contacts(store: Store, aor: str) -> list[Contact]:
    (ids,) = load_ids_of(store, instances=(), aors=[aor])
    return [contact for device in load_devices(store, sorted(ids)) for contact in device.contacts]


def _returned(contacts: Iterable[Contact], at: int, removal: Mapping[str, Any]) -> Iterator[Contact]:
    for contact in contacts:
        registration = contact.registration
        is_newer = at < max(contact.registered_at, contact.last_register_at) <= at + WATCH_MS
        is_same_call = registration.callid == removal["callid"] and registration.cseq > removal["cseq"]
        is_same_address = bool(removal["address"]) and contact.address == removal["address"]
        if contact.binding.cluster == removal["cluster"] and is_newer and (is_same_call or is_same_address):
            yield contact


def _report(store: Store, contact: Contact, removal: Mapping[str, Any], mode: str, now: int) -> None:
    metrics.SUSPECT_REMOVALS.labels(contact.node).inc()
    logger.warning("a phone came back right after its removal", device=contact.device, reason=removal["reason"])
    append_suspect(store, now, removal["cluster"], removal["aor"])
    candidate = Candidate(contact, removal["reason"], now)
    entry = AuditEntry(candidate, Decision("remove", "it registered again after its removal"), Outcome("suspect"), mode)
    audit.record(store, entry)
