"""Remove one contact: ask every node and the phone, judge, and act at once."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from companion.config import Config
from companion.errors import MiError
from companion.remediation import audit, policy, suspects
from companion.remediation.audit import Outcome
from companion.remediation.candidates import Fleet
from companion.remediation.node_access import NodeAccess
from companion.remediation.policy import Candidate, Decision
from companion.remediation.questions import Questioner, Records, can_wake, combine
from companion.remediation.rule import Evidence, Judgement, NodeAnswer, judge
from companion.remediation.troubles import Troubles
from companion.store.contacts import ContactRef, load_contacts
from companion.store.locks import acquire_dump_lock
from companion.store.pushes import CareState, save_probe
from companion.store.removals import forget_removals
from companion.store.store import Store
from companion.times import now_ms

MI_TRIES: Final = 3
"""After so many failures of a node's MI in a row, the rest of its contacts waits for the next sweep."""
LOCK_SECONDS: Final = 10.0
"""Longer than a removal takes. It stays for so long where the companion or Redis dies in the middle of one."""


class RestWaitsError(Exception):
    """Report that MI of a node failed too often in this sweep."""


class Remover:
    """Remove contacts of all nodes, those of one node one after the other."""

    def __init__(self, config: Config, store: Store, access: NodeAccess, troubles: Troubles) -> None:
        self._settings = config.remediation
        self._pings = config.pings
        self._store = store
        self._access = access
        self._troubles = troubles
        self.questioner = Questioner(store, access)
        self._failures: Counter[str] = Counter()
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def begin(self) -> None:
        """Begin a sweep: what failed in the last one is tried again."""
        self._failures.clear()
        self.questioner.begin()

    def has_given_up(self, node: str) -> bool:
        """Return whether MI of a node failed too often in this sweep."""
        return self._failures[node] >= MI_TRIES

    def count_failure(self, node: str) -> None:
        """Count a failure of a node's MI elsewhere."""
        self._failures[node] += 1

    async def remove(
        self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet
    ) -> tuple[Decision, Outcome]:
        """Ask the phone, then look at every node, judge, and act at once: a phone may register again meanwhile.

        When OpenSIPS itself can wake the contact, the decision that comes back is another one, not yet carried out.
        Raises MiError, and RestWaitsError after MI_TRIES of them.
        """
        probes = self.questioner.find_ways(candidate.contact)
        if "not-asked" in probes.values():
            async with self._looking[node]:
                records = await self._look(node, candidate, fleet)
            probes |= await self.questioner.ask(candidate, records)
        async with self._looking[node]:
            records = await self._look(node, candidate, fleet)
            if can_wake(records):
                wake = fleet.wake(candidate, registrar_wakes=True)
                other = policy.decide(candidate, self._settings, wake, fleet.now)
                if other.action != "remove":
                    return other, Outcome("kept")
            answers = combine(candidate, records, probes)
            judgement = await asyncio.to_thread(self._judge, candidate, answers, fleet)
            outcome = await self._carry_out(node, candidate, judgement, fleet)
        if isinstance(outcome, str):
            return Decision("wait", outcome), Outcome("kept")
        evidence = audit.describe_evidence(candidate.contact, _describe(answers), judgement.why)
        return decision, replace(outcome, evidence=evidence)

    async def _look(self, node: str, candidate: Candidate, fleet: Fleet) -> Records:
        """Read what MI of each node has. Raises MiError, for the last time when it failed too often."""
        if self.has_given_up(node):
            raise RestWaitsError
        try:
            records = await self.questioner.look(candidate, fleet.lost_nodes)
        except MiError:
            self._failures[node] += 1
            raise
        del self._failures[node]
        return records

    def _judge(self, candidate: Candidate, answers: Sequence[NodeAnswer], fleet: Fleet) -> Judgement:
        contact, state = candidate.contact, fleet.states[candidate.contact.id]
        stored = load_contacts(self._store, [ContactRef(contact.binding.aor, contact.id)]).get(contact.id)
        reaching = policy.reaching_node(contact)
        before = self._count_unanswered(candidate, state)
        evidence = Evidence(
            candidate,
            answers,
            reaching,
            reaching in fleet.lost_nodes,
            stored.alive_at if stored and not stored.ended_at else contact.alive_at,
            before,
            self._pings.lost_after,
        )
        self._note_probe(candidate, answers, state)
        return judge(evidence)

    def _count_unanswered(self, candidate: Candidate, state: CareState) -> int:
        """Return how many questions in a row the phone left without answer; an old one says nothing of today."""
        is_fresh = 0 <= now_ms() - state.probe_at <= self._pings.lost_after * self._pings.interval_ms
        return state.probe_lost if is_fresh and state.probe_since == candidate.since else 0

    def _note_probe(self, candidate: Candidate, answers: Sequence[NodeAnswer], state: CareState) -> None:
        probes = {answer.probe for answer in answers}
        if not {"answered", "unanswered"} & probes:
            return
        answered = state.probe_answers if state.probe_since == candidate.since else 0
        lost = 0 if "answered" in probes else self._count_unanswered(candidate, state) + 1
        probed_state = state._replace(
            probe_since=candidate.since,
            probe_at=now_ms(),
            probe_lost=lost,
            probe_answers=answered + ("answered" in probes),
        )
        save_probe(self._store, candidate.contact, probed_state)

    async def _carry_out(self, node: str, candidate: Candidate, judgement: Judgement, fleet: Fleet) -> Outcome | str:
        """Remove the contact if that is the judgement; return what came of it, or why it waits."""
        if judgement.outcome == "wait":
            return judgement.why
        if judgement.outcome != "remove":
            return Outcome(judgement.outcome)
        if fleet.mode == "observe":
            return Outcome("observed")
        if change := await asyncio.to_thread(self._troubles.find_change, node, fleet):
            return change
        # OpenSIPS serves one request at a time: behind a dump it would remove what registered again meanwhile
        lock = await asyncio.to_thread(acquire_dump_lock, self._store, candidate.contact.binding.cluster, LOCK_SECONDS)
        if lock is None:
            return "the contacts of its cluster are being compared with OpenSIPS"
        try:
            return await self._remove(node, candidate, fleet)
        finally:
            await asyncio.to_thread(lock.release)

    async def _remove(self, node: str, candidate: Candidate, fleet: Fleet) -> Outcome:
        binding = candidate.contact.binding
        tables = [table for table in self._access.tables(binding.cluster) if table.node not in fleet.lost_nodes]
        mi = self._access.mi(next((table for table in tables if table.node == node), tables[0]))
        # first, so that the recorder of the node knows the DELETE for our own
        removal = await asyncio.to_thread(suspects.watch_removal, self._store, candidate, now_ms())
        outcome = Outcome(await mi.remove_contact(binding.domain, binding.aor, binding.uri), "OK")
        if outcome.result != "removed":
            await asyncio.to_thread(forget_removals, self._store, [removal])
        return outcome


def _describe(answers: Sequence[NodeAnswer]) -> dict[str, dict[str, str | bool]]:
    return {answer.node: {"look": answer.look, "holds": answer.holds, "probe": answer.probe} for answer in answers}
