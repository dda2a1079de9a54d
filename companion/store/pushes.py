"""Keep what remediation itself knows of contacts: pushes under way, decisions, questions."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

from companion.store.contacts import ContactRef, format_ref, parse_ref
from companion.store.store import Store
from companion.usrloc.contact import Contact

MAX_STREAM: Final = 100_000
DAY_MS: Final = 86_400_000
_PUSH_FIELDS: Final = ("push_pending_since", "push_attempts", "push_last_at")
_FIELDS: Final = (*_PUSH_FIELDS, "decided", "probe_since", "probe_at", "probe_lost", "probe_answers")


class CareState(NamedTuple):
    """Hold what is stored of one contact. Times are epoch ms, 0 = never.

    `pushes_today` counts those to its device. `decided` is the mark of the last decision. `probe_since` names the run
    of failure that the counts of answered and unanswered questions belong to.
    """

    push_since: int
    push_attempts: int
    push_last_at: int
    pushes_today: int
    decided: str
    probe_since: int = 0
    probe_at: int = 0
    probe_lost: int = 0
    probe_answers: int = 0


def load_care(store: Store, contacts: Sequence[Contact], day: str) -> dict[str, CareState]:
    """Return the state of each contact, by id; `day` (YYYYMMDD) is the one whose pushes count."""
    pairs = (
        (("HMGET", store.keys.care_state(*_ref(contact)), *_FIELDS), ("GET", store.keys.pushes(contact.device, day)))
        for contact in contacts
    )
    replies = store.connection.pipeline(chain.from_iterable(pairs))
    return {
        contact.id: _decode_care(values, today)
        for contact, values, today in zip(contacts, replies[::2], replies[1::2], strict=True)
    }


def _decode_care(values: Sequence[str | None], today: str | None) -> CareState:
    since, attempts, last_at, decided, *probe = values
    push = int(since or 0), int(attempts or 0), int(last_at or 0), int(today or 0)
    return CareState(*push, decided or "", *(int(value or 0) for value in probe))


def save_probe(store: Store, contact: Contact, state: CareState) -> None:
    """Store how often a contact was asked in this run of failure, and what came of it."""
    fields = [part for name in _FIELDS[4:] for part in (name, getattr(state, name))]
    key = store.keys.care_state(*_ref(contact))
    store.connection.pipeline([("HSET", key, *fields), ("PEXPIRE", key, store.ttl_ms)])


def save_push(store: Store, contact: Contact, state: CareState, day: str, offer: Mapping[str, Any]) -> None:
    """Store one more push to a contact, and offer it on the push stream."""
    keys, state_key = store.keys, store.keys.care_state(*_ref(contact))
    push = [part for name, value in zip(_PUSH_FIELDS, state[:3], strict=True) for part in (name, value)]
    pushes = keys.pushes(contact.device, day)
    store.connection.pipeline(
        [
            ("HSET", state_key, *push),
            ("PEXPIRE", state_key, store.ttl_ms),
            ("ZADD", keys.pushing(keys.shard(contact.binding.aor)), state.push_since, format_ref(contact)),
            ("INCR", pushes),
            ("PEXPIRE", pushes, 2 * DAY_MS),
            ("XADD", keys.push(), "MAXLEN", "~", MAX_STREAM, "*", *(part for pair in offer.items() for part in pair)),
            ("PEXPIRE", keys.push(), store.retention_ms),
        ]
    )


def load_pushed(store: Store) -> list[ContactRef]:
    """Return the contacts with a push under way."""
    keys, call = store.keys, store.connection.call
    return [parse_ref(ref) for shard in range(keys.shards) for ref in call("ZRANGE", keys.pushing(shard), 0, -1)]


def clear_pushes(store: Store, contacts: Sequence[Contact], vanished: Sequence[ContactRef]) -> None:
    """Remove the push flags of contacts, and those of contacts that are no longer stored."""
    keys = store.keys
    flags = (
        (
            ("HDEL", keys.care_state(*_ref(contact)), *_PUSH_FIELDS),
            ("ZREM", keys.pushing(keys.shard(contact.binding.aor)), format_ref(contact)),
        )
        for contact in contacts
    )
    rest = [("ZREM", keys.pushing(keys.shard(ref.aor)), f"{ref.contact} {ref.aor}") for ref in vanished]
    store.connection.pipeline([*chain.from_iterable(flags), *rest])


def _ref(contact: Contact) -> ContactRef:
    return ContactRef(contact.binding.aor, contact.id)
