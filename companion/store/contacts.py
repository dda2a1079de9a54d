"""Read and write contacts as Redis hashes. Values are plain text that an operator can read."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

from msgspec.structs import astuple

from companion.opensips.events import Registration
from companion.store.store import Store
from companion.usrloc.contact import Binding, Contact, Span
from companion.usrloc.evidence import NodeEvidence

_NUMBERS = (
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
CHUNK: Final = 1000
"""Contacts that are read at once."""
SCAN: Final = 500
"""Members of an index that one step of a scan goes over."""


class ContactRef(NamedTuple):
    """Name the key of a contact."""

    aor: str
    contact: str


def parse_ref(text: str) -> ContactRef:
    """Read a reference `ID AOR`, as index keys hold it."""
    contact, _, aor = text.partition(" ")
    return ContactRef(aor, contact)


def format_ref(contact: Contact) -> str:
    """Return the reference of a contact for index keys: `ID AOR`."""
    return f"{contact.id} {contact.binding.aor}"


def encode_contact(contact: Contact) -> dict[str, str | int]:
    """Return the fields of a contact's hash; an unknown one is ""."""
    return {
        **contact.binding._asdict(),
        "id": contact.id,
        "device": contact.device,
        "node": contact.node,
        **contact.registration._asdict(),
        "last_latency_ms": "" if contact.last_latency_ms is None else contact.last_latency_ms,
        **{name: getattr(contact, name) for name in _NUMBERS},
        **{name: getattr(contact, name) for name in (*_LATER_NUMBERS, *_LATER_TEXTS)},
        "evidence": encode_evidence(contact.evidence),
        "older_callids": json.dumps(contact.older_callids) if contact.older_callids else "",
        "ended_by": contact.ended_by,
        "was_ghost": " ".join(f"{since}-{until}" for since, until in contact.was_ghost),
    }


def decode_contact(fields: Mapping[str, str], answer: str | None = None) -> Contact:
    """Read a contact from its hash and its entry in the `answers` hash, which has later pings."""
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
    contact.evidence = decode_evidence(fields.get("evidence", ""))
    if answer:
        _add_answer(contact, answer)
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


def encode_evidence(evidence: Mapping[str, NodeEvidence]) -> str:
    """Return the evidence of each node as a JSON object of lists: answered_at, lost, lost_since, last_lost_at."""
    return json.dumps({node: astuple(own) for node, own in evidence.items()}, separators=(",", ":"))


def decode_evidence(text: str) -> dict[str, NodeEvidence]:
    """Read what `encode_evidence` wrote; a record of an earlier version has none."""
    return {node: NodeEvidence(*numbers) for node, numbers in json.loads(text or "{}").items()}


def encode_answer(contact: Contact) -> str:
    """Return the last answered ping: time (epoch ms), latency (ms) and the node that sent it."""
    return f"{contact.last_latency_at} {contact.last_latency_ms} {contact.node}"


def _add_answer(contact: Contact, answer: str) -> None:
    at, latency, node = [*answer.split(" ", 2), ""][:3]
    if int(at) > contact.last_latency_at:
        contact.last_latency_at, contact.last_latency_ms = int(at), int(latency)
        contact.changed_at = max(contact.changed_at, int(at))
    if node and int(at) > contact.address_since:
        evidence = contact.evidence.setdefault(node, NodeEvidence())
        evidence.answered_at = max(evidence.answered_at, int(at))


def load_contacts(store: Store, refs: Sequence[ContactRef]) -> dict[str, Contact]:
    """Return the stored ones of these contacts, by id."""
    keys = store.keys
    pairs = (
        (("HGETALL", keys.contact(aor, contact)), ("HGET", keys.answers(keys.shard(aor)), contact))
        for aor, contact in refs
    )
    replies = store.connection.pipeline(chain.from_iterable(pairs))
    rows = zip(replies[::2], replies[1::2], strict=True)
    return {fields["id"]: decode_contact(fields, answer) for fields, answer in rows if "id" in fields}


def iterate_failing_contacts(store: Store) -> Iterator[Contact]:
    """Return the contacts that lost pings or whose connection died: the cost is theirs, not the fleet's."""
    for shard in range(store.keys.shards):
        refs = store.connection.call("ZRANGE", store.keys.failing(shard), 0, -1)
        for start in range(0, len(refs), CHUNK):
            yield from load_contacts(store, list(map(parse_ref, refs[start : start + CHUNK]))).values()


def iterate_live_refs(store: Store) -> Iterator[list[ContactRef]]:
    """Return all contacts that did not end, of all clusters, some at a time; one may come twice."""
    for shard in range(store.keys.shards):
        cursor = -1
        while cursor:
            cursor, members = store.connection.call("ZSCAN", store.keys.expires(shard), max(0, cursor), "COUNT", SCAN)
            yield [parse_ref(member) for member, _ in members]


_BRIEF_FIELDS = (
    "node",
    "uri",
    "received",
    "user_agent",
    "expires_at",
    "last_register_at",
    "last_latency_ms",
    "last_latency_at",
    "consecutive_lost",
    "last_lost_at",
    "disconnected_at",
    "ended_at",
)


def load_brief_contacts(store: Store, refs: Sequence[ContactRef]) -> dict[str, Contact]:
    """Return the stored ones of these contacts, by id, with those fields that status and glance depend on."""
    rows = store.connection.pipeline(
        ("HMGET", store.keys.contact(aor, contact), *_BRIEF_FIELDS) for aor, contact in refs
    )
    answers = _load_answers(store, refs)
    return {
        ref.contact: _decode_brief_contact(ref, row, answers.get(ref.contact))
        for ref, row in zip(refs, rows, strict=True)
        if row[0] is not None
    }


def _load_answers(store: Store, refs: Sequence[ContactRef]) -> dict[str, str | None]:
    """Return the last answers of these contacts, read with a command a shard."""
    by_shard: dict[int, list[str]] = defaultdict(list)
    for aor, contact in refs:
        by_shard[store.keys.shard(aor)].append(contact)
    replies = store.connection.pipeline(("HMGET", store.keys.answers(shard), *ids) for shard, ids in by_shard.items())
    return dict(zip(chain.from_iterable(by_shard.values()), chain.from_iterable(replies), strict=True))


def _decode_brief_contact(ref: ContactRef, values: Sequence[str], answer: str | None) -> Contact:
    (
        node,
        uri,
        received,
        user_agent,
        expires_at,
        register_at,
        latency_ms,
        latency_at,
        lost,
        lost_at,
        gone_at,
        ended_at,
    ) = values
    aor, contact_id = ref
    contact = Contact(
        Binding("", "", aor, uri),
        contact_id,
        "",
        node,
        Registration(received, "", user_agent, "", 0, int(expires_at), "", 0, ""),
        last_register_at=int(register_at),
        last_latency_ms=int(latency_ms) if latency_ms else None,
        last_latency_at=int(latency_at),
        consecutive_lost=int(lost),
        last_lost_at=int(lost_at),
        disconnected_at=int(gone_at),
        ended_at=int(ended_at),
    )
    if answer:
        _add_answer(contact, answer)
    return contact
