"""Ask every node of a cluster about a candidate: what MI shows, and what the phone says through that node."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from companion.config import OpensipsSection
from companion.opensips.mi_contact import MiContact
from companion.opensips.probe import Prober, Question
from companion.remediation import policy
from companion.remediation.node_access import NodeAccess
from companion.remediation.policy import Candidate
from companion.remediation.rule import NodeAnswer, Probe
from companion.store.contacts import load_contacts
from companion.store.store import Store
from companion.store.witnesses import load_witness
from companion.usrloc.contact import Contact

Records = list[tuple[OpensipsSection, list[MiContact]]]
"""Each node with the records that its MI has of a candidate's URI."""


VERIFIED_SECONDS: Final = 3600.0
"""For longer than this no question waits: earlier answers are forgotten."""


class Questioner:
    """Ask nodes about candidates, and remember when a phone last answered on each listener."""

    def __init__(self, store: Store, access: NodeAccess, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._store = store
        self._access = access
        self._verified_at: dict[tuple[str, str], float] = {}
        self._checks: dict[tuple[str, str], asyncio.Task[Probe]] = {}

    def begin(self) -> None:
        """Begin a sweep: a listener on which nobody answered may be tried again."""
        self._checks.clear()
        since = self._clock() - VERIFIED_SECONDS
        self._verified_at = {listener: at for listener, at in self._verified_at.items() if at >= since}

    async def look(self, candidate: Candidate, lost_nodes: frozenset[str]) -> Records:
        """Read what MI of each node of the cluster that is not lost has. Raises MiError when one does not answer."""
        cluster = candidate.contact.binding.cluster
        tables = [table for table in self._access.tables(cluster) if table.node not in lost_nodes]
        return [(table, await self._read_records(candidate, table)) for table in tables]

    def find_ways(self, contact: Contact) -> dict[str, Probe]:
        """Return whether a contact can be asked through each node of its cluster: `not-asked` yet, or `no-way`."""
        tables = self._access.tables(contact.binding.cluster)
        return {table.node: "not-asked" if self._prober(contact, table) else "no-way" for table in tables}

    async def ask(self, candidate: Candidate, node_records: Records) -> dict[str, Probe]:
        """Ask the phone through each node that has a listening socket for it; return its answers by node."""
        looks = {policy.compare(candidate, table.node, records) for table, records in node_records}
        if "as-known" not in looks or {"came-back", "not-alone"} & looks:
            return {}
        holders = [table for table, records in node_records if _holds(records)]
        probes = await asyncio.gather(*(self._probe(candidate.contact, table) for table in holders))
        return {table.node: probe for table, probe in zip(holders, probes, strict=True)}

    async def _read_records(self, candidate: Candidate, table: OpensipsSection) -> list[MiContact]:
        binding = candidate.contact.binding
        records = await self._access.mi(table).show_contact(binding.domain, binding.aor)
        return [record for record in records if record.uri == binding.uri]

    async def _probe(self, contact: Contact, table: OpensipsSection) -> Probe:
        """Ask the phone through one node, over the listening socket that events named."""
        result, asked_at = await self._ask_phone(contact, table)
        return await self._verify(contact, table, asked_at) if result == "unanswered" else result

    def _prober(self, contact: Contact, table: OpensipsSection) -> Prober | None:
        """Return what asks a contact through a node, None where nothing can: a proxy (Path) would answer itself."""
        return None if contact.registration.path else self._access.prober(table)

    async def _ask_phone(self, contact: Contact, table: OpensipsSection) -> tuple[Probe, float]:
        """Ask a phone; return its answer, and when the question was sent: it may have waited for others before."""
        prober, registration = self._prober(contact, table), contact.registration
        if prober is None:
            return "no-way", 0.0
        if not registration.socket:
            return "not-asked", 0.0
        reply = await prober.ask(Question(contact.binding.uri, registration.received, registration.socket))
        asked_at = self._clock() - reply.duration_ms / 1000
        if reply.result == "answered":
            self._note_answer((table.node, registration.socket), asked_at)
        return reply.result, asked_at

    def _note_answer(self, listener: tuple[str, str], asked_at: float) -> None:
        self._verified_at[listener] = max(asked_at, self._verified_at.get(listener, asked_at))

    async def _verify(self, contact: Contact, table: OpensipsSection, asked_at: float) -> Probe:
        """Return what silence is worth: another phone on the same listener must have answered a later question."""
        listener = table.node, contact.registration.socket
        if self._is_verified(listener, asked_at):
            return "unanswered"
        if listener not in self._checks:
            self._checks[listener] = asyncio.ensure_future(self._ask_witness(contact, table))
        result = await self._checks[listener]
        return "unverified" if result == "unanswered" and not self._is_verified(listener, asked_at) else result

    def _is_verified(self, listener: tuple[str, str], asked_at: float) -> bool:
        return self._verified_at.get(listener, float("-inf")) >= asked_at

    async def _ask_witness(self, contact: Contact, table: OpensipsSection) -> Probe:
        witness = await asyncio.to_thread(self._load_witness, contact, table.node)
        if witness is None:
            return "unwitnessed"
        result, _ = await self._ask_phone(witness, table)
        if result != "answered":
            return "unverified"
        self._checks.pop((table.node, contact.registration.socket), None)  # later silence needs a later answer
        return "unanswered"

    def _load_witness(self, contact: Contact, node: str) -> Contact | None:
        ref = load_witness(self._store, node, contact.registration.socket)
        if ref is None or ref.contact == contact.id:
            return None
        witness = load_contacts(self._store, [ref]).get(ref.contact)
        return witness if witness and is_witness(witness, contact, node) else None


def is_witness(other: Contact, contact: Contact, node: str) -> bool:
    """Return whether an answer of another contact shows that the way to this one works.

    It must be alive, on the same listening socket of the same node: since its last answer it may have moved.
    """
    is_live = not (other.ended_at or other.failing)
    is_near = other.node == node and other.holder in ("", node) and not other.registration.path
    return is_live and is_near and other.registration.socket == contact.registration.socket


def combine(candidate: Candidate, node_records: Records, probes: Mapping[str, Probe]) -> list[NodeAnswer]:
    """Return the answer of each node: what its MI has now, and what the phone said through it."""
    return [
        NodeAnswer(
            table.node,
            policy.compare(candidate, table.node, records),
            _holds(records),
            probes.get(table.node, "not-asked"),
        )
        for table, records in node_records
    ]


def can_wake(node_records: Records) -> bool:
    """Return whether the registrar of a node can wake the contact itself."""
    return any(record.push for _, records in node_records for record in records)


def _holds(records: Sequence[MiContact]) -> bool:
    return any(record.socket for record in records)
