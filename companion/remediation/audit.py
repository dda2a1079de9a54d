"""What remediation decided and did: a Redis stream for all, and a short one for each device's timeline."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from companion import sip
from companion.remediation.policy import Candidate, Decision
from companion.store.connection import Command
from companion.store.store import Store
from companion.times import iso

MAX_ENTRIES: Final = 200_000
MAX_DEVICE_ENTRIES: Final = 200
NUMBERS: Final = frozenset({"since", "lost", "duration_ms", "fence", "attempt", "after_ms"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision; `answer` is MI's, or the error's text."""

    result: str
    answer: str = ""
    duration_ms: int = 0
    attempt: int = 0
    after_ms: int = 0


class Entry(NamedTuple):
    """One line of the audit: what was decided of whom, what came of it, in which mode and whose turn."""

    found: Candidate
    decision: Decision
    outcome: Outcome
    mode: str
    fence: int = 0


def record(store: Store, entry: Entry) -> None:
    """Write a decision with its evidence down, and mark the contact as decided for this run of failure."""
    found, decision, outcome, mode, fence = entry
    contact = found.contact
    evidence: dict[str, Any] = {
        "device": contact.device,
        "aor": contact.binding.aor,
        "uri": sip.mask(contact.binding.uri),
        "contact": contact.id,
        "node": contact.node,
        "reason": found.reason,
        "since": found.since,
        "lost": contact.consecutive_lost,
        "action": decision.action,
        "why": decision.why,
        "mode": mode,
        "fence": fence,
        **asdict(outcome),
    }
    store.connection.pipeline([*_commands(store, contact.device, evidence), _mark(store, entry)])


def _commands(store: Store, device: str, evidence: Mapping[str, Any]) -> list[Command]:
    keys, retention_ms = store.keys, store.retention_ms
    fields = [part for pair in evidence.items() for part in pair]
    brief = [part for name in ("contact", "result", "reason", "mode", "attempt") for part in (name, evidence[name])]
    woken = ["after_ms", evidence["after_ms"]] if evidence["after_ms"] else []
    return [
        ("XADD", keys.remediations(), "MAXLEN", "~", MAX_ENTRIES, "*", *fields),
        ("PEXPIRE", keys.remediations(), retention_ms),
        (
            "XADD",
            keys.care(device),
            "MAXLEN",
            "~",
            MAX_DEVICE_ENTRIES,
            "*",
            "event",
            f"companion-{evidence['action']}",
            *brief,
            *woken,
        ),
        ("PEXPIRE", keys.care(device), retention_ms),
    ]


def _mark(store: Store, entry: Entry) -> Command:
    contact = entry.found.contact
    return ("HSET", store.keys.contact(contact.binding.aor, contact.id), "decided", note(entry))


def note(entry: Entry) -> str:
    """What the contact's hash keeps of a decision."""
    return f"{entry.found.since} {entry.mode} {entry.decision.action} {entry.outcome.result}"


def stands(mark: str, found: Candidate, decision: Decision, mode: str) -> bool:
    """Whether that was decided, and done, already. A further push is not; nor is what failed at MI."""
    since, marked_mode, action, result = _read_mark(mark)
    if (since, marked_mode) != (str(found.since), mode) or failed(result):
        return False
    return action == decision.action and (action != "push" or result in ("observed", "woken"))


def is_decided(mark: str, found: Candidate, mode: str) -> bool:
    """Whether this run of failure had its decision in this mode, whatever came of it."""
    return mark.startswith(f"{found.since} {mode} ")


def was_to_be_woken(mark: str, found: Candidate) -> bool:
    """Whether this run of failure was found to be one for a push, in whatever mode."""
    since, _, action, _ = _read_mark(mark)
    return (since, action) == (str(found.since), "push")


def failed(result: str) -> bool:
    """Whether MI failed us, so that it is to be tried again."""
    return result.startswith("mi-")


def failed_before(mark: str) -> bool:
    return failed(_read_mark(mark)[3])


def _read_mark(mark: str) -> list[str]:
    return [*mark.split(" ", 3), "", "", "", ""][:4]


def read(store: Store, since: str = "-", count: int = 1000) -> list[tuple[str, dict[str, Any]]]:
    """(id, entry) of the newest `count` decisions after the id `since`, oldest first; `at` is epoch ms."""
    start = since if since == "-" else f"({since}"
    rows = store.connection.call("XREVRANGE", store.keys.remediations(), "+", start, "COUNT", count)
    return [(entry_id, _decode(entry_id, fields)) for entry_id, fields in reversed(rows)]


def page(store: Store, before: str, count: int) -> list[tuple[str, dict[str, Any]]]:
    """(id, entry) of the newest `count` decisions older than the id `before` ("" = of all), newest first."""
    end = f"({before}" if before else "+"
    rows = store.connection.call("XREVRANGE", store.keys.remediations(), end, "-", "COUNT", count)
    return [(entry_id, _decode(entry_id, fields)) for entry_id, fields in rows]


def told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as people and machines read it: its times as ISO 8601."""
    return {**entry, "at": iso(entry["at"]), "since": iso(entry["since"])}


def _decode(entry_id: str, fields: Mapping[str, str]) -> dict[str, Any]:
    values = {name: int(value) if name in NUMBERS else value for name, value in fields.items()}
    return {"at": int(entry_id.partition("-")[0]), **values}
