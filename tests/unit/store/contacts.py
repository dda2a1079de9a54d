"""Make contacts for tests: any at all, and a plain one."""

from typing import Any

from hypothesis import strategies as st

from companion.opensips.events import MAX_EXPIRES, Registration
from companion.usrloc.contact import Binding, Contact, contact_id
from companion.usrloc.evidence import NodeEvidence

NOW = 1_795_452_109_605
UNSET = Registration("", "", "", "", 0, 0, "", 0, "")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.just(0) | st.integers(0, MAX_EXPIRES * 1000)
registrations = st.builds(
    Registration, *[texts] * 4, st.integers(0, 1 << 52), times, texts, st.integers(0, 1 << 52), texts
)
contacts = st.builds(
    Contact,
    st.builds(Binding, *[texts] * 4),
    texts,
    texts,
    texts,
    registrations,
    evidence=st.dictionaries(texts, st.builds(NodeEvidence, times, st.integers(0, 1 << 40), times, times), max_size=2),
    registered_at=times,
    last_register_at=times,
    last_latency_ms=st.none() | st.integers(0, 600_000),
    last_latency_at=times,
    consecutive_lost=st.integers(0, 1 << 40),
    lost_since=times,
    last_lost_at=times,
    disconnected_at=times,
    superseded_at=times,
    ended_at=times,
    ended_by=texts,
    changed_at=times,
    run=st.integers(0, (1 << 64) - 1),
)


def some_contact(uri: str = "sip:alice@192.0.2.1", *, expires_at: int = 0, **fields: Any) -> Contact:
    binding = Binding("c", "location", "alice", uri)
    registration = UNSET._replace(expires_at=expires_at, user_agent=uri)
    return Contact(binding, contact_id(binding), "alice/x", "n", registration, **fields)
