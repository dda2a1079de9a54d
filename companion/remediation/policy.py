"""Decide what to do with a contact that stopped answering, from its record, the settings and the clock. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

from companion import sip
from companion.config import RemediationSection, Rule
from companion.opensips.events import LOST_PING_US, Registration
from companion.opensips.mi_contact import MiContact
from companion.text import is_exact
from companion.usrloc.contact import Binding, Contact
from companion.usrloc.ghosts import is_ghost

Reason = Literal["lost-pings", "disconnected", "ghost", "doubted"]
Action = Literal["push", "remove", "keep", "wait"]

BACKOFF: Final = 2
"""Each push waits this many times as long for an answer as the one before."""


@dataclass(frozen=True, slots=True)
class Push:
    """Hold the pushes to a contact. `since` is the time of the first one, epoch ms, 0 = none was sent."""

    since: int = 0
    attempts: int = 0
    last_at: int = 0
    today: int = 0


class Candidate(NamedTuple):
    """Hold a contact that may be acted on, why, and since when (epoch ms).

    `lost_by_reaching` tells that a node that can reach it lost pings of it after it failed.
    """

    contact: Contact
    reason: Reason
    since: int
    lost_by_reaching: bool = True


class Decision(NamedTuple):
    """Hold what to do, and why in words for the audit."""

    action: Action
    why: str


def find_candidate(contact: Contact, settings: RemediationSection, lost_after: int, now: int) -> Candidate | None:
    """Return a contact as a candidate if it may be acted on at all. Silence never makes one.

    Losses count only of nodes that can reach the contact and got an answer from it. Lost pings of other nodes only
    raise a doubt. Life after the failure makes no candidate: a record may be read while it is being written. Nor does a
    contact that MI can not name.
    """
    if _is_over(contact, now) or not _has_mi_name(contact.binding):
        return None
    if contact.disconnected_at:
        return _after_disconnect(contact, settings, lost_after, now)
    if count_lost(contact) >= lost_after:
        return _after_losses(contact, settings, lost_after, now)
    if contact.doubts >= lost_after and _has_answered_holder(contact):
        return Candidate(contact, "doubted", contact.doubted_at, lost_by_reaching=False)
    return None


def _has_mi_name(binding: Binding) -> bool:
    """Return whether MI can name a contact: its table, AOR and URI are there, and their text is exact."""
    return all((binding.domain, binding.aor, binding.uri)) and is_exact("".join(binding))


def count_lost(contact: Contact) -> int:
    """Return how many pings in a row every node that can reach the contact lost.

    Only nodes count that got an answer from this phone at its present address: some phones ignore OPTIONS, and some
    networks drop them. While its holder is unknown each of these nodes may be the one.
    """
    nodes = contact.evidence.items()
    runs = (own.lost for node, own in nodes if own.answered_at and contact.reach(node) == "yes")
    return min(runs, default=0)


def _has_answered_holder(contact: Contact) -> bool:
    """Return whether its holder ever got an answer: else it may ignore OPTIONS, and a question would prove nothing."""
    own = contact.evidence.get(contact.holder)
    return own is not None and bool(own.answered_at)


def _after_disconnect(contact: Contact, settings: RemediationSection, lost_after: int, now: int) -> Candidate | None:
    ghost = is_ghost(contact, lost_after)
    grace_ms = 1000 * (settings.ghost_grace if ghost else settings.disconnect_grace)
    if now - contact.disconnected_at < grace_ms:
        return None
    lost = count_lost(contact) > 0 and contact.last_lost_at > contact.disconnected_at
    return Candidate(contact, "ghost" if ghost else "disconnected", contact.disconnected_at, lost)


def _after_losses(contact: Contact, settings: RemediationSection, lost_after: int, now: int) -> Candidate | None:
    if not is_ghost(contact, lost_after):
        return Candidate(contact, "lost-pings", contact.lost_since)
    is_due = now - max(contact.superseded_at, contact.lost_since) >= 1000 * settings.ghost_grace
    return Candidate(contact, "ghost", contact.lost_since) if is_due else None


def _is_over(contact: Contact, now: int) -> bool:
    """Return whether it ended, shows life since it failed, or failed in the future, before a clock was set."""
    ended = contact.ended_at or 0 < contact.expires_at <= now
    since = failing_since(contact)
    return bool(ended or contact.alive_at > since or since > now)


def failing_since(contact: Contact) -> int:
    """Return when its connection died or its run of lost pings began (epoch ms), 0 = it does not fail."""
    return contact.disconnected_at or contact.lost_since or contact.doubted_at


def begins_to_fail(contact: Contact, since: int) -> bool:
    """Return whether it may soon be a candidate: it answered once, and has failed only since then (epoch ms).

    Lost pings of a node that can not reach it are no failure.
    """
    has_failed = contact.disconnected_at or count_lost(contact)
    return bool(has_failed and not contact.ended_at and failing_since(contact) >= since)


def reaching_node(contact: Contact) -> str:
    """Return the node that can reach a contact: its holder, else the one with the latest answer; "" when unknown."""
    if contact.holder or not contact.evidence:
        return contact.holder
    node = max(contact.evidence, key=lambda name: contact.evidence[name].answered_at)
    return node if contact.evidence[node].answered_at else ""


class Wake(NamedTuple):
    """Hold what speaks for waking a candidate.

    `registrar_wakes` tells that OpenSIPS itself can wake it (MI `Flags & 4`). `replacement` is the newer contact of a
    ghost.
    """

    push: Push = Push()
    registrar_wakes: bool = False
    replacement: Contact | None = None


def decide(candidate: Candidate, settings: RemediationSection, wake: Wake, now: int) -> Decision:
    """Return what the first rule that fits says; `auto` wakes a contact that can be woken and removes the rest.

    A ghost that can be woken in any way is woken first, unless its replacement registered with the same push token: two
    phones may share a SIP instance.
    """
    contact = candidate.contact
    action = next((rule.action for rule in settings.rules if _fits(rule, contact)), "auto")
    if action == "keep":
        return Decision("keep", "a rule keeps it")
    if action == "remove":
        return Decision("remove", "a rule removes it")
    if candidate.reason == "ghost" and _is_replaced(contact, wake.replacement):
        return Decision("remove", "its device answers elsewhere")
    if action == "push" or wake.registrar_wakes or can_be_woken(contact, settings):
        return _wake(candidate, settings, wake.push, now)
    if sip.has_push_params(contact.binding.uri):
        return Decision("keep", "it may sleep: its push parameters are incomplete")
    return Decision("remove", "its device answers elsewhere" if candidate.reason == "ghost" else "it can not be woken")


def _is_replaced(contact: Contact, replacement: Contact | None) -> bool:
    """Return whether a ghost's device certainly is on its newer contact: both have the same push token."""
    return replacement is not None and bool(contact.push_token) and replacement.push_token == contact.push_token


def _wake(candidate: Candidate, settings: RemediationSection, push: Push, now: int) -> Decision:
    if candidate.reason == "doubted":
        return Decision("keep", "it may sleep, and only a node that can not reach it lost its pings")
    return _push(settings, push, now)


def _push(settings: RemediationSection, push: Push, now: int) -> Decision:
    if push.attempts >= settings.push_attempts:
        if now < push_due_at(settings, push):
            return Decision("wait", "the last push may still be answered")
        return Decision(settings.push_fallback, f"{push.attempts} pushes were not answered")
    if push.today >= settings.push_per_day:
        return Decision("wait", "it had its pushes for today")
    if now < push_due_at(settings, push):
        return Decision("wait", "a push is under way")
    return Decision("push", f"attempt {push.attempts + 1} of {settings.push_attempts}")


def push_due_at(settings: RemediationSection, push: Push) -> int:
    """Return when the next push may go out (epoch ms): the grace, twice as long after each attempt."""
    if not push.attempts:
        return 0
    waits_ms: int = round(1000 * settings.push_grace) * BACKOFF ** (push.attempts - 1)
    return push.last_at + waits_ms


def can_be_woken(contact: Contact, settings: RemediationSection) -> bool:
    """Return whether push parameters of its URI, or `push_attr` in its `attr`, say that it can be woken."""
    if contact.push_provider:
        return True
    return bool(settings.push_attr and re.search(settings.push_attr, contact.registration.attr))


def _fits(rule: Rule, contact: Contact) -> bool:
    binding = contact.binding
    values = {
        "domain": binding.domain,
        "aor": binding.aor,
        "user_agent": contact.registration.user_agent,
        "node": contact.node,
    }
    return all(fnmatchcase(value, getattr(rule, name)) for name, value in values.items())


Look = Literal["as-known", "already-gone", "came-back", "not-alone"]


def compare(candidate: Candidate, node: str, records: Sequence[MiContact]) -> Look:
    """Compare a candidate with the records that a node's MI has of its URI.

    ul_rm_contact removes by URI: a phone that registered the same URI a moment ago would go too.
    """
    active = [record for record in records if record.state == "active"]
    if not active:
        return "already-gone"
    return _compare(candidate, node, active[0]) if len(active) == 1 else "not-alone"


def _compare(candidate: Candidate, node: str, record: MiContact) -> Look:
    if _is_newer(candidate.contact.registration, record) or _answered_since(candidate.contact, node, record):
        return "came-back"
    return "as-known"


def _is_newer(registration: Registration, record: MiContact) -> bool:
    """Return whether MI has another registration, unless it is an older one: a node may miss a replication."""
    if record.callid == registration.callid and record.cseq != registration.cseq:
        return record.cseq > registration.cseq
    return (record.callid, record.received) != (registration.callid, registration.received)


def _answered_since(contact: Contact, node: str, record: MiContact) -> bool:
    """Return whether MI shows an answer that no event brought.

    MI's latency has no time. After losses of this node the last ping must still be a lost one. Otherwise the value must
    be the last that events brought: another node keeps an old value for ever.
    """
    own = contact.evidence.get(node)
    if own is not None and own.lost:
        return record.latency_us != LOST_PING_US
    if record.latency_us in (None, LOST_PING_US):
        return False
    latency_ms = round((record.latency_us or 0) / 1000)
    return own is not None and own.answered_at == contact.last_latency_at and latency_ms != contact.last_latency_ms
