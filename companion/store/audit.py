"""Append decisions of remediation to the audit, and read them."""

from collections.abc import Mapping
from typing import Any, Final

from companion.store.contacts import ContactRef
from companion.store.store import Store

MAX_ENTRIES: Final = 200_000
MAX_DEVICE_ENTRIES: Final = 200
_BRIEF: Final = ("contact", "result", "reason", "mode", "attempt")

AuditRow = tuple[str, dict[str, str]]
"""(id, fields) of one decision."""


def append_decision(store: Store, fields: Mapping[str, Any], ref: ContactRef, mark: str) -> None:
    """Append a decision to the audit and to its device's timeline, and mark the contact as decided."""
    keys, retention_ms, device = store.keys, store.retention_ms, str(fields["device"])
    brief = {name: fields[name] for name in _BRIEF} | ({"after_ms": fields["after_ms"]} if fields["after_ms"] else {})
    entry = {"event": f"companion-{fields['action']}", **brief}
    store.connection.pipeline(
        [
            ("XADD", keys.remediations(), "MAXLEN", "~", MAX_ENTRIES, "*", *_flat(fields)),
            ("PEXPIRE", keys.remediations(), retention_ms),
            ("XADD", keys.care(device), "MAXLEN", "~", MAX_DEVICE_ENTRIES, "*", *_flat(entry)),
            ("PEXPIRE", keys.care(device), retention_ms),
            ("HSET", keys.contact(*ref), "decided", mark),
        ]
    )


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
