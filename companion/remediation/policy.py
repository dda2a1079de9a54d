"""What is to be done with a contact that stopped answering, from its record, the settings and the clock. No I/O."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

from companion.config import RemediationSection, Rule
from companion.opensips.events import LOST_PING_US
from companion.opensips.mi_contact import MiContact
from companion.usrloc.contact import Contact, is_ghost

Reason = Literal["lost-pings", "disconnected", "ghost"]
Action = Literal["push", "remove", "keep", "wait"]

BACKOFF: Final = 2
"""Each push waits this many times as long for an answer as the one before."""


@dataclass(frozen=True, slots=True)
class Push:
    """What is known of the pushes to a contact; `since` is the first one's time, in epoch ms, 0 = none was sent."""

    since: int = 0
    attempts: int = 0
    last_at: int = 0
    today: int = 0


class Candidate(NamedTuple):
    """A contact that may be acted on, why, and since when (epoch ms) it has been so."""

    contact: Contact
    reason: Reason
    since: int


class Decision(NamedTuple):
    """What to do and the reason in words, for the audit."""

    action: Action
    why: str


def candidate(contact: Contact, settings: RemediationSection, lost_after: int, now: int) -> Candidate | None:
    """Whether a contact may be acted on at all. Silence never makes one.

    Losses count only of contacts that ever answered a ping: some phones ignore OPTIONS. Life later than the failure
    makes none either: a record may be read while it is being written.
    """
    if _is_over(contact, now):
        return None
    if contact.disconnected_at:
        ghost = is_ghost(contact, lost_after)
        grace_ms = 1000 * (settings.ghost_grace if ghost else settings.disconnect_grace)
        if now - contact.disconnected_at < grace_ms:
            return None
        return Candidate(contact, "ghost" if ghost else "disconnected", contact.disconnected_at)
    if contact.consecutive_lost < lost_after or not contact.last_latency_at:
        return None
    if is_ghost(contact, lost_after):
        waited = now - max(contact.superseded_at, contact.lost_since) >= 1000 * settings.ghost_grace
        return Candidate(contact, "ghost", contact.lost_since) if waited else None
    return Candidate(contact, "lost-pings", contact.lost_since)


def _is_over(contact: Contact, now: int) -> bool:
    """Whether it ended, or shows life since it failed; or was to fail in the future, before a clock was set."""
    ended = contact.ended_at or 0 < contact.registration.expires_at <= now
    since = failing_since(contact)
    return bool(ended or contact.alive_at > since or since > now)


def failing_since(contact: Contact) -> int:
    """When its connection died or its run of lost pings began (epoch ms), 0 = it does not fail."""
    return contact.disconnected_at or contact.lost_since


def begins_to_fail(contact: Contact, since: int) -> bool:
    """Whether it may soon be one more candidate: it has been failing since then at most, after it had answered."""
    alive_once = contact.last_latency_at or contact.disconnected_at
    return bool(alive_once and not contact.ended_at and failing_since(contact) >= since)


def decide(
    found: Candidate, settings: RemediationSection, push: Push, now: int, *, registrar_wakes: bool = False
) -> Decision:
    """The first rule that fits says what to do; `auto` wakes who can be woken and removes the rest.

    A ghost's device is there already, on another contact: nothing is to be woken. `registrar_wakes` tells that OpenSIPS
    itself counts the contact among those (MI `Flags & 4`).
    """
    contact = found.contact
    action = next((rule.action for rule in settings.rules if _fits(rule, contact)), "auto")
    if action == "keep":
        return Decision("keep", "a rule keeps it")
    if action == "remove" or found.reason == "ghost":
        return Decision("remove", "a rule removes it" if action == "remove" else "its device answers elsewhere")
    if action == "push" or registrar_wakes or can_be_woken(contact, settings):
        return _push(settings, push, now)
    return Decision("remove", "it can not be woken")


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
    """When the next push may go out (epoch ms): the grace, twice as long after each attempt."""
    if not push.attempts:
        return 0
    waits_ms: int = round(1000 * settings.push_grace) * BACKOFF ** (push.attempts - 1)
    return push.last_at + waits_ms


def can_be_woken(contact: Contact, settings: RemediationSection) -> bool:
    """By RFC 8599 parameters in its URI, or as `push_attr` finds in what the operator put into `attr`."""
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


Sight = Literal["as-known", "already-gone", "came-back", "not-alone"]


def compare(found: Candidate, seen: Sequence[MiContact]) -> Sight:
    """Whether OpenSIPS still holds the contact just as we know it, given those with its URI; only then it may go.

    ul_rm_contact removes by URI: a device that registered the same URI a moment ago would go too.
    """
    active = [contact for contact in seen if contact.state == "active"]
    if not active:
        return "already-gone"
    return _compare(found, active[0]) if len(active) == 1 else "not-alone"


def _compare(found: Candidate, seen: MiContact) -> Sight:
    known = found.contact.registration
    if (seen.callid, seen.cseq) != (known.callid, known.cseq):
        return "came-back"
    if seen.latency_us == LOST_PING_US:
        return "as-known" if found.reason == "lost-pings" or seen.received == known.received else "came-back"
    if found.reason == "lost-pings":
        return "came-back"
    latency_ms = None if seen.latency_us is None else round(seen.latency_us / 1000)
    unchanged = seen.received == known.received and latency_ms == found.contact.last_latency_ms
    return "as-known" if unchanged else "came-back"
