"""Read what format 1 stored: contacts and devices as hashes, timelines as streams. No I/O."""

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from companion.opensips.events import Registration
from companion.usrloc.changes import TimelineEntry
from companion.usrloc.contact import Binding, Contact, Span
from companion.usrloc.evidence import NodeEvidence

_NUMBERS: Final = (
    "registered_at",
    "last_register_at",
    "last_latency_at",
    "consecutive_lost",
    "lost_since",
    "last_lost_at",
    "disconnected_at",
    "superseded_at",
    "ended_at",
    "changed_at",
    "run",
)
_LATER_NUMBERS: Final = ("doubts", "doubted_at", "address_since")
_LATER_TEXTS: Final = ("holder", "disconnected_by", "superseded_by", "advertised_socket", "mi_instance")
"""Fields that a record of an earlier version lacks."""
CARE_FIELDS: Final = (
    *("push_pending_since", "push_attempts", "push_last_at"),
    *("decided", "probe_since", "probe_at", "probe_lost", "probe_answers"),
)
"""Fields of the hash of a contact that remediation wrote."""


def decode_contact(fields: Mapping[str, str]) -> Contact:
    """Read a contact from its hash. Raises KeyError or ValueError where fields are missing or wrong."""
    latency = fields["last_latency_ms"]
    contact = Contact(
        Binding(*(fields[name] for name in Binding._fields)),
        fields["id"],
        fields["device"],
        fields["node"],
        _decode_registration(fields),
        last_latency_ms=int(latency) if latency else None,
        ended_by=fields["ended_by"],
        was_ghost=_decode_spans(fields.get("was_ghost", "")),
    )
    for name in (*_NUMBERS, *_LATER_NUMBERS):
        setattr(contact, name, int(fields.get(name, 0)))
    for name in _LATER_TEXTS:
        setattr(contact, name, fields.get(name, ""))
    contact.older_callids = tuple(json.loads(fields.get("older_callids") or "[]"))
    evidence: dict[str, list[int]] = json.loads(fields.get("evidence") or "{}")
    contact.evidence = {node: NodeEvidence(*numbers) for node, numbers in evidence.items()}
    return contact


def _decode_registration(fields: Mapping[str, str]) -> Registration:
    return Registration(
        received=fields["received"],
        path=fields["path"],
        user_agent=fields["user_agent"],
        socket=fields["socket"],
        bflags=int(fields["bflags"]),
        expires_at=int(fields["expires_at"]),
        callid=fields["callid"],
        cseq=int(fields["cseq"]),
        attr=fields["attr"],
    )


def _decode_spans(text: str) -> tuple[Span, ...]:
    pairs = (span.partition("-") for span in text.split())
    return tuple((int(since), int(until)) for since, _, until in pairs)


class StoredDevice(NamedTuple):
    """Hold what is stored of a device; `contacts` are ids."""

    first_seen_at: int
    contacts: list[str]
    has_instance: bool


def decode_device(fields: Mapping[str, str]) -> StoredDevice:
    """Read a device from its hash. Raises KeyError or ValueError as `decode_contact` does."""
    return StoredDevice(int(fields["first_seen_at"]), fields["contacts"].split(), bool(fields["instance"]))


def decode_entries(device: str, rows: Sequence[tuple[str, dict[str, str]]]) -> list[TimelineEntry]:
    """Read the entries of a timeline from the ids and fields of a stream."""
    entries = []
    for entry_id, fields in rows:
        rest: dict[str, str | int] = {**fields}
        event = str(rest.pop("event", ""))
        entries.append(TimelineEntry(device, int(entry_id.partition("-")[0]), event, rest))
    return entries
