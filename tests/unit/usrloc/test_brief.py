"""Test contacts in brief."""

from hypothesis import given
from hypothesis import strategies as st

from companion import sip
from companion.usrloc.brief import abridge, find_network
from companion.usrloc.contact import Contact, Device
from tests.unit.store.contacts import contacts

hosts = st.ip_addresses(v=4).map(str) | st.sampled_from(["phone.invalid", "[2001:db8::1]", "999.1.1.1", "1.2.3"])
uris = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["sip:", "sips:", "SIP:", "tel:", "<sip:", ""]),
    st.sampled_from(["", "alice@", "a%40b@", "pn-prid=x;a@", "alice:secret@"]),
    hosts,
    st.sampled_from(["", ":5060", ":65535", ":65536", ":0", ":99999", ":08080"]),
    st.sampled_from(["", ";transport=ws", ";ob;x=1.2", ";x=%41", "?a=b", ">"]),
)


@given(st.just("") | uris, uris)
def test_networks(received: str, uri: str) -> None:
    """The short way to the network of a usual address leads where the long one does."""
    assert find_network(received, uri) == sip.network_prefix(sip.network_address(received, uri).rpartition(":")[0])


@given(contacts)
def test_in_brief(contact: Contact) -> None:
    """A contact in brief is alive and expires as the contact itself."""
    device = abridge(Device("alice/x", "alice", "x", 0, [contact]))
    assert (device.aor, device.contacts[0].alive_at, device.contacts[0].expires_at) == (
        "alice",
        contact.alive_at,
        contact.expires_at,
    )
