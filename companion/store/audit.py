"""Append decisions of remediation, and what people asked for, to the audit, and read it."""

from collections.abc import Mapping
from typing import Any, Final

from companion.store.connection import Command
from companion.store.contacts import ContactRef
from companion.store.store import Store
from companion.store.timeline import prepare_care_entry

MAX_ENTRIES: Final = 200_000
_BRIEF: Final = ("contact", "result", "reason", "mode", "attempt")

AuditRow = tuple[str, dict[str, str]]
"""(id, fields) of one entry."""


def append_decision(store: Store, fields: Mapping[str, Any], ref: ContactRef, mark: str, at: int | None = None) -> None:
    """Append a decision to the audit and to its device's timeline, and mark the contact as decided.

    `at` (epoch ms) is now by default. It must be later than that of the last entry.
    """
    brief = {name: fields[name] for name in _BRIEF} | ({"after_ms": fields["after_ms"]} if fields["after_ms"] else {})
    state = store.keys.care_state(*ref)
    decided = [("HSET", state, "decided", mark), ("PEXPIRE", state, store.ttl_ms)]
    entry = _prepare_entry(store, fields, f"companion-{fields['action']}", brief, at)
    store.connection.pipeline([*entry, *decided])


def append_audit_entry(
    store: Store, fields: Mapping[str, Any], event: str, brief: Mapping[str, str | int], at: int | None = None
) -> None:
    """Append what is no decision about a contact to the audit, and an entry to the timeline of its device."""
    store.connection.pipeline(_prepare_entry(store, fields, event, brief, at))


def _prepare_entry(
    store: Store, fields: Mapping[str, Any], event: str, brief: Mapping[str, str | int], at: int | None
) -> list[Command]:
    audit, entry_id = store.keys.remediations(), "*" if at is None else at
    return [
        ("XADD", audit, "MAXLEN", "~", MAX_ENTRIES, entry_id, *_flat(fields)),
        ("PEXPIRE", audit, store.retention_ms),
        *prepare_care_entry(store, str(fields["device"]), event, brief, at),
    ]


def load_decisions(store: Store, since: str = "-", count: int = 1000) -> list[AuditRow]:
    """Return the newest `count` decisions after an id, oldest first."""
    start = since if since == "-" else f"({since}"
    rows: list[AuditRow] = store.connection.call("XREVRANGE", store.keys.remediations(), "+", start, "COUNT", count)
    return rows[::-1]


def load_decisions_before(store: Store, before: str, count: int) -> list[AuditRow]:
    """Return the newest `count` decisions older than an id ("" = all), newest first."""
    end = f"({before}" if before else "+"
    rows: list[AuditRow] = store.connection.call("XREVRANGE", store.keys.remediations(), end, "-", "COUNT", count)
    return rows


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
