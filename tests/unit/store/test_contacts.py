"""Test the records of contacts and devices: read as they were written."""

import json
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from companion.store.contacts import decode_contact, encode_answer, encode_contact
from companion.store.devices import encode_device
from companion.usrloc.contact import Contact, Device
from companion.usrloc.evidence import NodeEvidence
from tests.unit.store.contacts import NOW, contacts, some_contact


def state(contact: Contact) -> dict[str, Any]:
    return {name: getattr(contact, name) for name in Contact.__struct_fields__}


@given(contacts)
def test_contact_there_and_back(contact: Contact) -> None:
    """A contact read from Redis is the one that was written, in every field."""
    assert state(contact) == state(decode_contact(contact.id, encode_contact(contact)))


@given(contacts, st.integers(1, NOW), st.integers(0, 600_000))
def test_later_answer(contact: Contact, later_ms: int, latency_ms: int) -> None:
    """The answers hash knows of later pings than the contact's own record."""
    assume(contact.node and contact.node not in contact.evidence)
    record = encode_contact(contact)
    contact.last_latency_at += later_ms
    contact.last_latency_ms = latency_ms
    contact.changed_at = max(contact.changed_at, contact.last_latency_at)
    if contact.last_latency_at > contact.address_since:
        contact.evidence[contact.node] = NodeEvidence(contact.last_latency_at)
    assert state(contact) == state(decode_contact(contact.id, record, encode_answer(contact)))


def test_older_answer() -> None:
    """An answer that is older than what the contact's own record says does not go before it."""
    contact = some_contact(last_latency_at=NOW, last_latency_ms=40, changed_at=NOW)
    decoded = decode_contact(contact.id, encode_contact(contact), f"{NOW - 1} 99")
    assert (decoded.last_latency_ms, decoded.last_latency_at) == (40, NOW)


def test_record_of_a_contact() -> None:
    """A record is JSON with the names of the fields, without those that are empty or follow from others."""
    contact = some_contact(registered_at=NOW, evidence={"n": NodeEvidence(NOW)})
    assert json.loads(encode_contact(contact)) == {
        "device": "alice/x",
        "cluster": "c",
        "uri": "sip:alice@192.0.2.1",
        "node": "n",
        "user_agent": "sip:alice@192.0.2.1",
        "evidence": {"n": [NOW, 0, 0, 0]},
        "registered_at": NOW,
    }


def test_record_of_a_device() -> None:
    """A device's record names its contacts, oldest first."""
    device = Device("alice/x", "alice", "x", NOW, [some_contact("sip:a@1"), some_contact("sip:a@2")])
    ids = [contact.id for contact in device.contacts]
    assert json.loads(encode_device(device)) == {"first_seen_at": NOW, "contacts": ids, "has_instance": True}
