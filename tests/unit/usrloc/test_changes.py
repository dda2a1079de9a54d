"""The changes of a batch of events, and how the writer takes them away."""

from companion.opensips.events import Registration
from companion.usrloc.changes import Changes
from companion.usrloc.contact import Binding, Contact, Device

CONTACT = Contact(
    Binding("c", "location", "alice", "sip:alice@192.0.2.1"),
    "id",
    "alice/alice",
    "n",
    Registration("", "", "", "", 0, 0, "", 0, ""),
)


def test_take() -> None:
    """A batch that was taken away stays as it is while the next one is collected."""
    changes = Changes()
    changes.note(CONTACT, 1, "lost")
    changes.contacts[CONTACT] = None
    batch = changes.take()
    assert changes == Changes()
    changes.note(CONTACT, 2, "recovered")
    assert ([entry.event for entry in batch.entries], list(batch.contacts)) == (["lost"], [CONTACT])
    assert [entry.event for entry in changes.entries] == ["recovered"]


def test_what_is_being_written() -> None:
    """A batch counts as not stored until it is: its devices stay in memory, and those removed are not read back."""
    changes = Changes(contacts={CONTACT: None}, removed={"gone": Device("gone", "bob", "", 1)})
    changes.take()
    assert (changes.aors(), changes.removals()) == ({"alice"}, {"gone"})
    changes.settle()
    assert (changes.aors(), changes.removals()) == (set(), set())
