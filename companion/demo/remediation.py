"""Decide in the past of the demo as a sweep decides, and write it down: policy, breakers and audit are the same.

Where a sweep would ask a phone, the simulated phone is looked at.
"""

from collections import Counter
from collections.abc import Mapping

from companion.config import Config
from companion.remediation import audit, push
from companion.remediation.audit import AuditEntry, Outcome
from companion.remediation.breaker import NETWORK, Group, collect_failures, groups_of, update_breaker
from companion.remediation.policy import Candidate, Decision, Push, Wake, decide, find_candidate
from companion.remediation.sweep import make_woken_entry
from companion.simulator.node import Node
from companion.store.breakers import BreakerState, save_breaker
from companion.store.store import Store
from companion.store.sweeps import save_sweep
from companion.usrloc.contact import Contact
from companion.usrloc.picture import Usrloc


class PastRemediation:
    """Keep breakers, pushes and decisions while the past goes by. Times are epoch ms."""

    def __init__(self, config: Config, store: Store, usrloc: Usrloc, nodes: Mapping[str, Node]) -> None:
        self._config = config
        self._settings = config.remediation
        self._store = store
        self._usrloc = usrloc
        self._nodes = nodes
        self._breakers: dict[str, BreakerState] = {}
        self._pushes: dict[Contact, Push] = {}
        self._marks: dict[Contact, str] = {}
        self._written_at = 0
        self._candidates = 0

    def sweep(self, now: int) -> None:
        """Look once at all contacts, and act on those that fail."""
        self._note_woken(now)
        contacts = [
            contact
            for device in self._usrloc.devices.by_id.values()
            for contact in device.contacts
            if not contact.ended_at
        ]
        lost_after = self._config.pings.lost_after
        candidates = [
            candidate
            for contact in contacts
            if contact.failing and (candidate := find_candidate(contact, self._settings, lost_after, now))
        ]
        self._candidates = len(candidates)
        held = self._check_breakers(candidates, contacts, now)
        for candidate in candidates:
            if not held.intersection(groups_of(candidate.contact)):
                self._act(candidate, now)

    def report(self, now: int) -> None:
        """Store what a sweep stores in the end, for those who want to know what is held back."""
        opened = sorted(name for name, state in self._breakers.items() if state.opened_at)
        nodes = [name for name in opened if name in self._nodes]
        fields = {
            "at": now,
            "mode": self._settings.mode,
            "candidates": self._candidates,
            "acted": 0,
            "waiting": "",
            "troubles": "; ".join(f"{node}: the breaker is open: too many at once" for node in nodes),
            "networks": " ".join(name for name in opened if name.startswith(NETWORK)),
        }
        save_sweep(self._store, fields)

    def _check_breakers(self, candidates: list[Candidate], contacts: list[Contact], now: int) -> set[str]:
        """Return the groups whose breakers are open."""
        undecided = [
            candidate.contact
            for candidate in candidates
            if not audit.is_decided(self._marks.get(candidate.contact, ""), candidate, self._settings.mode)
        ]
        failures = collect_failures(undecided)
        names = failures.keys() | {name for name, state in self._breakers.items() if state.opened_at}
        totals = Counter(group for contact in contacts for group in groups_of(contact)) if names else Counter[str]()
        for name in sorted(names):
            state = self._breakers.get(name, BreakerState())
            group = Group(failures.get(name, ()), totals[name], can_ask=self._can_ask(name))
            self._breakers[name] = update_breaker(state, group, self._settings, now)
            if self._breakers[name] != state:
                save_breaker(self._store, name, self._breakers[name])
        return {name for name in names if self._breakers[name].opened_at}

    def _can_ask(self, group: str) -> bool:
        tables = [table for table in self._config.opensips if table.node in group]
        return not group.startswith(NETWORK) and all(table.probe_url for table in tables)

    def _act(self, candidate: Candidate, now: int) -> None:
        contact = candidate.contact
        decision = decide(candidate, self._settings, Wake(self._pushes.get(contact, Push())), now)
        is_done = audit.is_done(self._marks.get(contact, ""), candidate, decision, self._settings.mode)
        if decision.action == "wait" or is_done:
            return
        if decision.action == "push":
            self._push(candidate, decision, now)
        elif decision.action == "remove":
            self._remove(candidate, decision, now)
        else:
            self._write_down(candidate, decision, Outcome("kept"), now)

    def _push(self, candidate: Candidate, decision: Decision, now: int) -> None:
        contact = candidate.contact
        earlier = self._pushes.get(contact, Push())
        attempt = earlier.attempts + 1
        self._pushes[contact] = Push(earlier.since or now, attempt, now)
        self._write_down(candidate, decision, Outcome("pushed", "OK", attempt=attempt), now)
        self._nodes[contact.node].push(contact.binding.aor, contact.binding.uri)

    def _remove(self, candidate: Candidate, decision: Decision, now: int) -> None:
        contact = candidate.contact
        node = self._nodes[contact.node]
        binding = node.usrloc.find(contact.binding.aor, contact.binding.uri)
        if binding is None:
            return
        does_answer = node.reaches(binding)
        evidence = audit.describe_evidence(contact, {}, f"its phone {'answered' if does_answer else 'did not answer'}")
        if does_answer:
            self._keep_alive(candidate, decision, evidence, now)
            return
        self._write_down(candidate, decision, Outcome("removed", "OK", evidence=evidence), now)
        self._usrloc.ends.own_removals.add(contact.id)
        node.usrloc.delete(binding, release=True)

    def _keep_alive(self, candidate: Candidate, decision: Decision, evidence: str, now: int) -> None:
        """Write down once in a run of failure that the phone answered when asked."""
        mark = audit.read_mark(self._marks.get(candidate.contact, ""))
        if (mark.since, mark.result) != (candidate.since, "answered"):
            self._write_down(candidate, decision, Outcome("answered", "200 OK", evidence=evidence), now)

    def _note_woken(self, now: int) -> None:
        for contact, pushes in list(self._pushes.items()):
            woken = push.find_woken(contact, self._usrloc.devices.by_id[contact.device], pushes, now)
            if woken is None:
                continue
            del self._pushes[contact]
            if woken.after_ms is not None:
                outcome = Outcome("woken", attempt=woken.attempts, after_ms=woken.after_ms)
                marked = woken._replace(decided=self._marks[contact])
                self._record(make_woken_entry(marked, outcome, self._settings.mode), now)

    def _write_down(self, candidate: Candidate, decision: Decision, outcome: Outcome, now: int) -> None:
        self._record(AuditEntry(candidate, decision, outcome, self._settings.mode), now)

    def _record(self, entry: AuditEntry, now: int) -> None:
        """Write an entry down. No two have the same time: it is what they are sorted by."""
        self._written_at = max(now, self._written_at + 1)
        self._marks[entry.candidate.contact] = audit.make_mark(entry)
        audit.record(self._store, entry, self._written_at)
