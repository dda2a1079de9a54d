"""Read and write contacts: one record of JSON each, which an operator can read. Empty fields are not in it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import attrgetter
from sys import intern
from typing import Any, Final, NamedTuple

import msgspec

from companion.opensips.events import Registration
from companion.sip import push_provider
from companion.store.reading import Reading, check, read
from companion.store.records import decode_record, prepare_records
from companion.store.store import Store
from companion.usrloc.brief import BriefContact, find_network
from companion.usrloc.contact import Binding, Contact, Span
from companion.usrloc.evidence import NodeEvidence

CHUNK: Final = 1000
"""Contacts that are read at once."""
SCAN: Final = 500
"""Members of an index that one step of a scan goes over."""
DOMAIN: Final = "location"
"""The usual table of usrloc, which is not stored."""


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


class _ContactRecord(msgspec.Struct, omit_defaults=True, gc=False):
    """Hold what is stored of a contact. `aor` is there if it is not that of the device, `node` if not the cluster."""

    device: str
    cluster: str
    uri: str
    aor: str | None = None
    node: str | None = None
    domain: str = DOMAIN
    received: str = ""
    path: str = ""
    user_agent: str = ""
    socket: str = ""
    bflags: int = 0
    expires_at: int = 0
    callid: str = ""
    cseq: int = 0
    attr: str = ""
    evidence: dict[str, NodeEvidence] = {}
    registered_at: int = 0
    last_register_at: int = 0
    last_latency_ms: int | None = None
    last_latency_at: int = 0
    consecutive_lost: int = 0
    lost_since: int = 0
    last_lost_at: int = 0
    disconnected_at: int = 0
    disconnected_by: str = ""
    superseded_at: int = 0
    superseded_by: str = ""
    ended_at: int = 0
    ended_by: str = ""
    changed_at: int = 0
    run: int = 0
    holder: str = ""
    doubts: int = 0
    doubted_at: int = 0
    address_since: int = 0
    advertised_socket: str = ""
    older_callids: tuple[str, ...] = ()
    mi_instance: str = ""
    was_ghost: tuple[Span, ...] = ()


class _BriefRecord(msgspec.Struct, gc=False):
    """Hold those fields of a record that a contact in brief is made of."""

    device: str
    cluster: str
    uri: str
    node: str | None = None
    received: str = ""
    user_agent: str = ""
    expires_at: int = 0
    last_register_at: int = 0
    last_latency_ms: int | None = None
    last_latency_at: int = 0
    consecutive_lost: int = 0
    last_lost_at: int = 0
    disconnected_at: int = 0
    ended_at: int = 0


_STATE: Final = _ContactRecord.__struct_fields__[_ContactRecord.__struct_fields__.index("evidence") :]
"""Fields that have the same name, value and order in a record and, behind `registration`, in a contact."""
_read_state: Final = attrgetter(*_STATE)
_read_registration: Final = attrgetter(*Registration._fields)
_record: Final = msgspec.json.Decoder(_ContactRecord)
_brief_record: Final = msgspec.json.Decoder(_BriefRecord)


def encode_contact(contact: Contact) -> bytes:
    """Return the record of a contact."""
    cluster, domain, aor, uri = contact.binding
    device, node = contact.device, contact.node
    own_aor = None if aor_of(device) == aor else aor
    own_node = None if node == cluster else node
    names = device, cluster, uri, own_aor, own_node, domain
    values: tuple[Any, ...] = *names, *contact.registration, *_read_state(contact)
    return msgspec.json.encode(_ContactRecord(*values))


def decode_contact(contact_id: str, record: bytes | str, answer: str | None = None) -> Contact:
    """Read a contact from its record and its entry in the `answers` hash, which has later pings."""
    fields = decode_record(record, _record)
    aor = aor_of(fields.device) if fields.aor is None else fields.aor
    contact = Contact(
        Binding(fields.cluster, fields.domain, aor, fields.uri),
        contact_id,
        fields.device,
        fields.cluster if fields.node is None else fields.node,
        Registration(*_read_registration(fields)),
        *_read_state(fields),
    )
    if answer:
        _add_answer(contact, answer)
    return contact


class _Owner(msgspec.Struct, gc=False):
    device: str
    aor: str | None = None


_owner: Final = msgspec.json.Decoder(_Owner)


def read_aor(record: bytes | str) -> str:
    """Return the AOR of a contact from its record. Raises ValueError for one that can not be read."""
    owner = decode_record(record, _owner)
    return aor_of(owner.device) if owner.aor is None else owner.aor


def aor_of(device: str) -> str:
    """Return the AOR that the id of a device begins with."""
    return device.rpartition("/")[0]


def encode_answer(contact: Contact) -> str:
    """Return the last answered ping: time (epoch ms), latency (ms) and the node that sent it."""
    return f"{contact.last_latency_at} {contact.last_latency_ms} {contact.node}"


def decode_answer(answer: str) -> tuple[int, int]:
    """Return time (epoch ms) and latency (ms) of an answered ping."""
    at, latency, *_ = answer.split(" ", 2)
    return int(at), int(latency)


def _add_answer(contact: Contact, answer: str) -> None:
    at_text, latency_text, node = [*answer.split(" ", 2), ""][:3]
    at = int(at_text)
    if at > contact.last_latency_at:
        contact.last_latency_at, contact.last_latency_ms = at, int(latency_text)
        contact.changed_at = max(contact.changed_at, at)
    if node and at > contact.address_since:
        evidence = contact.evidence.setdefault(node, NodeEvidence())
        evidence.answered_at = max(evidence.answered_at, at)


def load_contacts(store: Store, refs: Sequence[ContactRef]) -> dict[str, Contact]:
    """Return the stored ones of these contacts, by id."""
    return read(store.connection, prepare_contacts(store, refs))


def prepare_contacts(store: Store, refs: Sequence[ContactRef]) -> Reading[dict[str, Contact]]:
    """Prepare to read contacts as `load_contacts` does."""

    def make(pair: tuple[list[str | None], dict[str, str | None]]) -> dict[str, Contact]:
        records, answers = pair
        return {
            ref.contact: decode_contact(ref.contact, record, answers.get(ref.contact))
            for ref, record in zip(refs, records, strict=True)
            if record is not None
        }

    return _prepare_records(store, refs).beside(_prepare_answers(store, refs)).then(make)


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


def load_brief_contacts(store: Store, refs: Sequence[ContactRef]) -> dict[str, BriefContact]:
    """Return the stored ones of these contacts in brief, by id."""
    records, answers = read(store.connection, _prepare_records(store, refs).beside(_prepare_answers(store, refs)))
    return {
        ref.contact: _decode_brief_contact(ref.contact, record, answers.get(ref.contact))
        for ref, record in zip(refs, records, strict=True)
        if record is not None
    }


def load_device_ids(store: Store, refs: Sequence[ContactRef]) -> set[str]:
    """Return the devices of the stored ones of these contacts."""
    records = read(store.connection, _prepare_records(store, refs))
    return {decode_record(record, _brief_record).device for record in records if record is not None}


def _prepare_records(store: Store, refs: Sequence[ContactRef]) -> Reading[list[str | None]]:
    return prepare_records(store, [store.keys.contact(*ref) for ref in refs])


def _prepare_answers(store: Store, refs: Sequence[ContactRef]) -> Reading[dict[str, str | None]]:
    """Prepare to read the last answers of these contacts with a command a shard."""
    by_shard: dict[int, list[str]] = defaultdict(list)
    for aor, contact in refs:
        by_shard[store.keys.shard(aor)].append(contact)

    def make(replies: Sequence[Any]) -> dict[str, str | None]:
        values = chain.from_iterable(map(check, replies))
        return dict(zip(chain.from_iterable(by_shard.values()), values, strict=True))

    return Reading([("HMGET", store.keys.answers(shard), *ids) for shard, ids in by_shard.items()], make)


def _decode_brief_contact(contact_id: str, record: str, answer: str | None) -> BriefContact:
    fields = decode_record(record, _brief_record)
    contact = BriefContact(
        contact_id,
        intern(fields.cluster if fields.node is None else fields.node),
        intern(fields.user_agent),
        find_network(fields.received, fields.uri),
        bool(push_provider(fields.uri)),
        fields.expires_at,
        fields.last_register_at,
        fields.last_latency_ms,
        fields.last_latency_at,
        fields.consecutive_lost,
        fields.last_lost_at,
        fields.disconnected_at,
        fields.ended_at,
    )
    if answer:
        at, latency_ms = decode_answer(answer)
        if at > contact.last_latency_at:
            contact.last_latency_at, contact.last_latency_ms = at, latency_ms
    return contact
