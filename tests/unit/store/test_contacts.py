"""Test the hashes of contacts and devices: read as they were written."""

from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from companion.store.contacts import decode_contact, encode_answer, encode_contact
from companion.store.devices import encode_device
from companion.usrloc.contact import Contact, Device
from companion.usrloc.evidence import NodeEvidence
from tests.unit.store.contacts import NOW, contacts, some_contact


def stored(fields: dict[str, str | int]) -> dict[str, str]:
    """As Redis gives it back: all text."""
    return {name: str(value) for name, value in fields.items()}


def state(contact: Contact) -> dict[str, Any]:
    return {name: getattr(contact, name) for name in Contact.__struct_fields__}


@given(contacts)
def test_contact_there_and_back(contact: Contact) -> None:
    """A contact read from Redis is the one that was written, in every field."""
    assert state(contact) == state(decode_contact(stored(encode_contact(contact))))


@given(contacts, st.integers(1, NOW), st.integers(0, 600_000))
def test_later_answer(contact: Contact, later_ms: int, latency_ms: int) -> None:
    """The answers hash knows of later pings than the contact's own hash."""
    assume(contact.node)
    fields = stored(encode_contact(contact))
    contact.last_latency_at += later_ms
    contact.last_latency_ms = latency_ms
    contact.changed_at = max(contact.changed_at, contact.last_latency_at)
    if contact.last_latency_at > contact.address_since:
        contact.evidence[contact.node] = NodeEvidence(contact.last_latency_at)
    assert state(contact) == state(decode_contact(fields, encode_answer(contact)))


def test_older_answer() -> None:
    """An answer that is older than what the contact's own hash says does not go before it."""
    contact = some_contact(last_latency_at=NOW, last_latency_ms=40, changed_at=NOW)
    decoded = decode_contact(stored(encode_contact(contact)), f"{NOW - 1} 99")
    assert (decoded.last_latency_ms, decoded.last_latency_at) == (40, NOW)


def test_device_fields() -> None:
    """A device's hash names its contacts, oldest first."""
    device = Device("alice/x", "alice", "x", NOW, [some_contact("sip:a@1"), some_contact("sip:a@2")])
    ids = [contact.id for contact in device.contacts]
    expected = {"id": "alice/x", "aor": "alice", "instance": "x", "first_seen_at": NOW, "contacts": " ".join(ids)}
    assert expected == encode_device(device)
