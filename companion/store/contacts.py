"""Contacts and devices as Redis hashes: there and back. Values are plain text that an operator can read."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from companion.opensips.events import Registration
from companion.store.connection import Command, Connection
from companion.store.keys import Keys
from companion.usrloc.contact import Binding, Contact, Device, Span

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
Ref = tuple[str, str]
"""What leads to a contact's key: (AOR, contact id)."""


def encode_contact(contact: Contact) -> dict[str, str | int]:
    """A contact as the fields of its hash; what is not known is ""."""
    return {
        **contact.binding._asdict(),
        "id": contact.id,
        "device": contact.device,
        "node": contact.node,
        **contact.registration._asdict(),
        "last_latency_ms": "" if contact.last_latency_ms is None else contact.last_latency_ms,
        **{name: getattr(contact, name) for name in _NUMBERS},
        "ended_by": contact.ended_by,
        "was_ghost": " ".join(f"{since}-{until}" for since, until in contact.was_ghost),
    }


def decode_contact(fields: Mapping[str, str], answer: str | None = None) -> Contact:
    """The way back; `answer` is its entry in the `answers` hash, which knows of later pings than its own."""
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
        **{name: int(fields[name]) for name in _NUMBERS},
    )
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


def encode_answer(contact: Contact) -> str:
    """The last answered ping: `ts latency`, both in ms."""
    return f"{contact.last_latency_at} {contact.last_latency_ms}"


def _add_answer(contact: Contact, answer: str) -> None:
    at, latency = map(int, answer.split())
    if at > contact.last_latency_at:
        contact.last_latency_at, contact.last_latency_ms = at, latency
        contact.changed_at = max(contact.changed_at, at)


def encode_device(device: Device) -> dict[str, str | int]:
    return {
        "id": device.id,
        "aor": device.aor,
        "instance": device.instance,
        "first_seen_at": device.first_seen_at,
        "contacts": " ".join(contact.id for contact in device.contacts),
    }


def load_devices(connection: Connection, keys: Keys, ids: Sequence[str]) -> list[Device]:
    """The stored ones of these devices, each with all its contacts; two round trips however many they are."""
    replies = connection.pipeline(("HGETALL", keys.device(device)) for device in ids)
    found = [fields for fields in replies if fields]
    refs = [(fields["aor"], contact) for fields in found for contact in fields["contacts"].split()]
    contacts = load_contacts(connection, keys, refs)
    return [_decode_device(fields, contacts) for fields in found]


def _decode_device(fields: Mapping[str, str], contacts: Mapping[str, Contact]) -> Device:
    return Device(
        fields["id"],
        fields["aor"],
        fields["instance"],
        int(fields["first_seen_at"]),
        [contacts[contact] for contact in fields["contacts"].split() if contact in contacts],
    )


def load_contacts(connection: Connection, keys: Keys, refs: Sequence[Ref]) -> dict[str, Contact]:
    """The stored ones of these contacts, by id."""
    commands: list[Command] = []
    for aor, contact in refs:
        commands += ("HGETALL", keys.contact(aor, contact)), ("HGET", keys.answers(keys.shard(aor)), contact)
    replies = connection.pipeline(commands)
    pairs = zip(replies[::2], replies[1::2], strict=True)
    return {fields["id"]: decode_contact(fields, answer) for fields, answer in pairs if "id" in fields}


_GLANCED = (
    "node",
    "uri",
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


def load_glanced(connection: Connection, keys: Keys, ids: Sequence[str]) -> list[Device]:
    """As `load_devices`, but of each contact only what its status and a glance depend on: twice as fast."""
    replies = connection.pipeline(("HMGET", keys.device(device), "id", "aor", "contacts") for device in ids)
    found = [(device, aor, refs.split()) for device, aor, refs in replies if device]
    refs = [(aor, contact) for _, aor, contacts in found for contact in contacts]
    contacts = zip(refs, _load_glanced_contacts(connection, keys, refs), strict=True)
    by_id = {contact: known for (_, contact), known in contacts if known}
    return [Device(device, aor, "", 0, [by_id[ref] for ref in refs if ref in by_id]) for device, aor, refs in found]


def _load_glanced_contacts(connection: Connection, keys: Keys, refs: Sequence[Ref]) -> list[Contact | None]:
    replies = connection.pipeline(("HMGET", keys.contact(aor, contact), *_GLANCED) for aor, contact in refs)
    answers = _load_answers(connection, keys, refs)
    return [
        _decode_glanced(ref, values, answers.get(ref[1])) if values[0] is not None else None
        for ref, values in zip(refs, replies, strict=True)
    ]


def _load_answers(connection: Connection, keys: Keys, refs: Sequence[Ref]) -> dict[str, str | None]:
    """The last answers of these contacts, a command a shard."""
    by_shard: dict[int, list[str]] = defaultdict(list)
    for aor, contact in refs:
        by_shard[keys.shard(aor)].append(contact)
    replies = connection.pipeline(("HMGET", keys.answers(shard), *ids) for shard, ids in by_shard.items())
    return {
        contact: answer
        for ids, found in zip(by_shard.values(), replies, strict=True)
        for contact, answer in zip(ids, found, strict=True)
    }


def _decode_glanced(ref: Ref, values: Sequence[str], answer: str | None) -> Contact:
    node, uri, user_agent, expires_at, register_at, latency_ms, latency_at, lost, lost_at, gone_at, ended_at = values
    aor, contact_id = ref
    contact = Contact(
        Binding("", "", aor, uri),
        contact_id,
        "",
        node,
        Registration("", "", user_agent, "", 0, int(expires_at), "", 0, ""),
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
