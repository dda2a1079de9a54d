"""Record what remediation decided and did: for all in one stream, for each device on its timeline."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, NamedTuple, cast

from msgspec import structs

from companion.credentials import mask, mask_all
from companion.remediation.policy import Candidate, Decision, Reason, count_lost, reaching_node
from companion.store.audit import AuditRow, append_decision, load_decisions, load_decisions_before
from companion.store.contacts import ContactRef
from companion.store.store import Store
from companion.times import iso
from companion.usrloc.contact import Contact

Result = Literal[
    "observed",
    "removed",
    "answered",
    "already-gone",
    "came-back",
    "not-alone",
    "suspect",
    "pushed",
    "offered",
    "woken",
    "kept",
    "mi-unreachable",
    "mi-refused",
    "mi-error",
    "mi-missing",
]
"""What came of a decision; docs/remediation.md has the table."""

PROVISIONAL: Final = frozenset({"answered", "came-back", "already-gone", "not-alone"})
"""Results that end no run of failure: only an event of life or of an end does."""

NUMBERS: Final = frozenset({"since", "lost", "duration_ms", "fence", "attempt", "after_ms", "minutes"})
_FREE_TEXTS: Final = frozenset({"uri", "answer"})
"""What is masked on reading as well: an older version masked less when it wrote."""

_DEFAULTS: Final = {
    **dict.fromkeys(("uri", "contact", "node", "mode", "answer", "evidence", "by"), ""),
    **dict.fromkeys(NUMBERS, 0),
}
"""Fields that an entry has none of: a recording has no contact, and a decision nobody who asked for it."""

Row = tuple[str, dict[str, Any]]
"""(id, fields) of one entry: a decision, or a recording that somebody asked for; `at` and `since` are epoch ms."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what came of a decision.

    `answer` is MI's, or the error's text. `evidence` is all that a removal rests on.
    """

    result: Result
    answer: str = ""
    duration_ms: int = 0
    attempt: int = 0
    after_ms: int = 0
    evidence: str = ""


class AuditEntry(NamedTuple):
    """Hold one decision, what came of it, in which mode and in which turn.

    `lost` is how many pings a run of failure lost that is over; None where the contact's record tells it.
    """

    candidate: Candidate
    decision: Decision
    outcome: Outcome
    mode: str
    fence: int = 0
    lost: int | None = None

    @property
    def lost_pings(self) -> int:
        return self.candidate.contact.consecutive_lost if self.lost is None else self.lost


class DecisionMark(NamedTuple):
    """Hold what a contact's hash keeps of its last decision. `since`, `reason` and `lost` tell of that failure."""

    since: int = 0
    mode: str = ""
    action: str = ""
    result: str = ""
    reason: Reason = "lost-pings"
    lost: int = 0


def record(store: Store, entry: AuditEntry, at: int | None = None) -> None:
    """Append a decision to the audit, and mark the contact as decided for this run of failure.

    `at` (epoch ms) is when it was made, by default now.
    """
    candidate, decision, outcome, mode, fence, _ = entry
    contact = candidate.contact
    fields: dict[str, Any] = {
        "device": contact.device,
        "aor": contact.binding.aor,
        "uri": mask(contact.binding.uri),
        "contact": contact.id,
        "node": contact.node,
        "reason": candidate.reason,
        "since": candidate.since,
        "lost": entry.lost_pings,
        "action": decision.action,
        "why": decision.why,
        "mode": mode,
        "fence": fence,
        **mask_all(asdict(outcome)),
    }
    append_decision(store, fields, ContactRef(contact.binding.aor, contact.id), make_mark(entry), at)


def describe_evidence(contact: Contact, answers: Mapping[str, Any], judgement: str) -> str:
    """Return what a judgement rests on as a JSON object: each node's evidence and answer, and the disconnect."""
    evidence = {
        "judgement": judgement,
        "reaching": reaching_node(contact),
        "answers": answers,
        "nodes": {node: structs.asdict(own) for node, own in contact.evidence.items()},
        "lost_by_reaching": count_lost(contact),
        "alive_at": contact.alive_at,
        "disconnected_at": contact.disconnected_at,
        "disconnected_by": contact.disconnected_by,
        "superseded_at": contact.superseded_at,
        "superseded_by": contact.superseded_by,
    }
    return json.dumps(mask_all(evidence), separators=(",", ":"))


def make_mark(entry: AuditEntry) -> str:
    """Return what the contact's hash keeps of a decision."""
    candidate = entry.candidate
    decided = f"{candidate.since} {entry.mode} {entry.decision.action} {entry.outcome.result}"
    return f"{decided} {candidate.reason} {entry.lost_pings}"


def read_mark(text: str) -> DecisionMark:
    """Read what `make_mark` wrote. Older marks have no reason and no count."""
    if not text:
        return DecisionMark()
    since, mode, action, result, *failure = text.split(" ")
    mark = DecisionMark(int(since), mode, action, result)
    return mark._replace(reason=cast("Reason", failure[0]), lost=int(failure[1])) if len(failure) > 1 else mark


def is_repeated(entry: AuditEntry, mark: str) -> bool:
    """Return whether the last decision was the same, however many pings were lost since then."""
    return read_mark(make_mark(entry))._replace(lost=0) == read_mark(mark)._replace(lost=0)


def is_done(mark: str, candidate: Candidate, decision: Decision, mode: str) -> bool:
    """Return whether that was decided, and done, already.

    A further push is not, nor is what failed at MI. A phone that answered may fall silent later in the same run. What
    MI showed may be outdated later: without life after it, the same failure goes on.
    """
    since, marked_mode, action, result, *_ = read_mark(mark)
    if (since, marked_mode) != (candidate.since, mode) or is_failure(result) or result in PROVISIONAL:
        return False
    return action == decision.action and (action != "push" or result in ("observed", "woken"))


def is_decided(mark: str, candidate: Candidate, mode: str) -> bool:
    """Return whether this run of failure had its decision in this mode, whatever came of it."""
    return mark.startswith(f"{candidate.since} {mode} ")


def was_to_be_woken(mark: str, candidate: Candidate) -> bool:
    """Return whether this run of failure was decided to be one for a push, in whatever mode."""
    since, _, action, *_ = read_mark(mark)
    return (since, action) == (candidate.since, "push")


def is_failure(result: str) -> bool:
    """Return whether MI failed us, so that it is to be tried again."""
    return result.startswith("mi-")


def failed_before(mark: str) -> bool:
    """Return whether the last try failed at MI."""
    return is_failure(read_mark(mark).result)


def read(store: Store, since: str = "-", count: int = 1000) -> list[Row]:
    """Return the newest `count` entries after an id, oldest first."""
    return list(map(_decode, load_decisions(store, since, count)))


def page(store: Store, before: str, count: int) -> list[Row]:
    """Return the newest `count` entries older than an id ("" = all), newest first."""
    return list(map(_decode, load_decisions_before(store, before, count)))


def render(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry as people and machines read it: its times as ISO 8601."""
    return {**fields, "at": iso(fields["at"]), "since": iso(fields["since"])}


def _decode(row: AuditRow) -> Row:
    entry_id, fields = row
    fields = fields | {name: mask(fields[name]) for name in _FREE_TEXTS & fields.keys()}
    values = {name: int(value) if name in NUMBERS else value for name, value in fields.items()}
    return entry_id, {**_DEFAULTS, "at": int(entry_id.partition("-")[0]), **values}
