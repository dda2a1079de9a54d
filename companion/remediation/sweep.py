"""Sweep in turns: find what stopped answering, decide, act once, and write it down."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from companion import log, metrics
from companion.config import Config
from companion.errors import MiCallError, MiError, MiRefusedError
from companion.remediation import audit, policy, push, suspects
from companion.remediation.audit import AuditEntry, Outcome
from companion.remediation.breaker import NETWORK, groups_of
from companion.remediation.candidates import Fleet, Sweep, collect_fleet
from companion.remediation.lost_nodes import LostNodes
from companion.remediation.node_access import NodeAccess
from companion.remediation.policy import Candidate, Decision
from companion.remediation.removal import Remover, RestWaitsError
from companion.remediation.retries import Retries
from companion.remediation.safety import ClockWatch
from companion.remediation.task_pool import TaskPool
from companion.remediation.troubles import Troubles
from companion.store.locks import HeldLock
from companion.store.nodes import load_feeds
from companion.store.pushes import CareState
from companion.store.store import Store
from companion.store.sweeps import acquire_turn, count_action, save_sweep
from companion.times import now_ms

AT_ONCE: Final = 50
"""The number of contacts of one node that are asked at once."""
RENEW_SECONDS: Final = 3.0
MOST_DOUBLINGS: Final = 2
"""How often the wait for another question doubles after an answer."""
MOST_REASONS: Final = 5
"""The number of reasons to wait that the report of a sweep names."""
DOUBTED_SHARE: Final = 4
"""One action in so many may go to contacts that are only doubted: in `cooperation` they may be half of the fleet."""

logger = log.get(__name__)


class Sweeper:
    """Sweep in turns with the sweepers of other companions."""

    def __init__(self, config: Config, store: Store, access: NodeAccess | None = None) -> None:
        self._config = config
        self._settings = config.remediation
        self._store = store
        self._access = access or NodeAccess(config)
        self._clock = ClockWatch()
        self._lost_nodes = LostNodes(config, self._access)
        self._troubles = Troubles(config, store, self._access, self._clock)
        self._remover = Remover(config, store, self._access, self._troubles)
        self._retries = Retries()
        self._waiting: Counter[str] = Counter()

    async def run(self) -> None:
        """Sweep once; do nothing when it is another companion's turn."""
        turn = await asyncio.to_thread(acquire_turn, self._store)
        if turn is None:
            return
        renewal = asyncio.create_task(_renew(turn))
        try:
            await self._sweep(turn)
        finally:
            renewal.cancel()
            await self._access.aclose()
            await asyncio.to_thread(turn.release)

    async def _sweep(self, turn: HeldLock) -> None:
        mode = await asyncio.to_thread(self._troubles.read_mode)
        await asyncio.to_thread(self._clear_woken, mode)
        await asyncio.to_thread(suspects.find_suspects, self._store, mode, now_ms())
        feeds, now = await asyncio.to_thread(load_feeds, self._store), now_ms()
        sweep = Sweep(turn, now, mode, feeds, await self._lost_nodes.find(feeds, now))
        fleet = await asyncio.to_thread(collect_fleet, self._config, self._store, sweep)
        await asyncio.to_thread(self._troubles.find, fleet)
        self._remover.begin()
        self._waiting.clear()
        self._retries.keep(candidate for group in fleet.candidates.values() for candidate in group)
        acted = await self._act_on_all(fleet)
        await asyncio.to_thread(self._report, fleet, acted)

    async def _act_on_all(self, fleet: Fleet) -> int:
        """Act on the candidates of all nodes, and return on how many: nodes share the sweep, the few ones first."""
        acted = 0
        groups = [(node, group) for node, group in fleet.candidates.items() if node not in fleet.troubles]
        for index, (node, group) in enumerate(sorted(groups, key=lambda pair: len(pair[1]))):
            share = -(-(self._settings.max_per_sweep - acted) // (len(groups) - index))
            acted += await self._act_on(node, group, fleet, share)
        return acted

    def _clear_woken(self, mode: str) -> None:
        for woken in push.clear_woken(self._store, now_ms()):
            if woken.after_ms is None:
                continue
            metrics.WOKEN_SECONDS.observe(woken.after_ms / 1000)
            outcome = Outcome("woken", attempt=woken.attempts, after_ms=woken.after_ms)
            audit.record(self._store, make_woken_entry(woken, outcome, mode))

    async def _act_on(self, node: str, candidates: Sequence[Candidate], fleet: Fleet, room: int) -> int:
        """Act on the candidates of one node, some at once; return on how many."""
        cluster = self._config.cluster(node)
        started, pool = 0, TaskPool(AT_ONCE if self._access.can_ask(cluster) else 1)
        doubted_room = max(1, room // DOUBTED_SHARE)
        for candidate in sorted(candidates, key=lambda candidate: self._priority(candidate, fleet)):
            decision = self._decide(candidate, fleet)
            if decision is None:
                continue
            if started >= (doubted_room if candidate.reason == "doubted" else room):
                logger.info("the rest waits for the next sweep", acted=started)
                break
            await pool.wait_for_room()
            if decision.action != "keep" and not await asyncio.to_thread(self._may_go_on, node, fleet):
                break
            started += decision.action != "keep"
            pool.start(self._handle(node, candidate, decision, fleet))
        await pool.finish()
        return started

    def _priority(self, candidate: Candidate, fleet: Fleet) -> tuple[bool, bool, bool, int]:
        """Put contacts that are only doubted last, before them those that failed at MI, and the latest tried last.

        Among the doubted those come first that left a question without answer: their next one must follow soon.
        """
        state, is_doubted = fleet.states[candidate.contact.id], candidate.reason == "doubted"
        has_answered = not (state.probe_lost and state.probe_since == candidate.since)
        tried_at = self._retries.tried_at(candidate)
        return is_doubted, audit.failed_before(state.decided), is_doubted and has_answered, tried_at

    def _decide(self, candidate: Candidate, fleet: Fleet) -> Decision | None:
        """Return what is to be done now, None when nothing is."""
        state, mark = fleet.states[candidate.contact.id], fleet.states[candidate.contact.id].decided
        if any(group in fleet.held_groups for group in groups_of(candidate.contact)):
            return None
        if not self._retries.is_due(candidate, fleet.now):
            return None
        is_known_to_wake = bool(state.push_attempts) or audit.was_to_be_woken(mark, candidate)
        wake = fleet.wake(candidate, registrar_wakes=is_known_to_wake)
        decision = policy.decide(candidate, self._settings, wake, fleet.now)
        if decision.action == "wait" or audit.is_done(mark, candidate, decision, fleet.mode):
            return None
        return None if decision.action == "remove" and self._was_asked_lately(candidate, state, fleet.now) else decision

    def _was_asked_lately(self, candidate: Candidate, state: CareState, now: int) -> bool:
        """Return whether a question of this run of failure is too fresh for another.

        After silence the next one comes an interval later, as a ping would. Each answer doubles the wait.
        """
        if state.probe_since != candidate.since:
            return False
        wait_ms = self._config.pings.interval_ms
        if not state.probe_lost:
            wait_ms *= self._config.pings.lost_after * 2 ** min(state.probe_answers - 1, MOST_DOUBLINGS)
        return 0 <= now - state.probe_at < wait_ms

    def _may_go_on(self, node: str, fleet: Fleet) -> bool:
        if self._remover.has_given_up(node):
            logger.warning("MI fails; the rest waits for the next sweep", node=node)
            return False
        change = self._troubles.find_change(node, fleet)
        if change:
            logger.warning("the sweep ends early", node=node, because=change)
            return False
        if count_action(self._store, now_ms()) > self._settings.max_per_minute:
            logger.warning("the limit of actions in a minute is reached", max_per_minute=self._settings.max_per_minute)
            return False
        return True

    async def _handle(self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet) -> None:
        started = time.monotonic()
        decision, outcome = await self._do(node, candidate, decision, fleet)
        if decision.action == "wait":
            return
        if outcome.result not in audit.PROVISIONAL:
            self._retries.forget(candidate)
        outcome = replace(outcome, duration_ms=round((time.monotonic() - started) * 1000))
        await self._write_down(candidate, decision, outcome, fleet)

    async def _write_down(self, candidate: Candidate, decision: Decision, outcome: Outcome, fleet: Fleet) -> None:
        metrics.REMEDIATIONS.labels(candidate.contact.node, decision.action, outcome.result).inc()
        entry = AuditEntry(candidate, decision, outcome, fleet.mode, fleet.turn.fence)
        # the log has it also where Redis goes away before it is written down
        logger.info("remediation", device=candidate.contact.device, action=decision.action, result=outcome.result)
        mark = fleet.states[candidate.contact.id].decided
        is_retry = audit.is_failure(outcome.result) or outcome.result in audit.PROVISIONAL - {"answered"}
        if not (is_retry and audit.is_repeated(entry, mark)):
            await asyncio.to_thread(audit.record, self._store, entry)

    async def _do(self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet) -> tuple[Decision, Outcome]:
        if decision.action == "remove":
            decision, outcome = await self._remove(node, candidate, decision, fleet)
            if decision.action != "push":
                return decision, outcome
        if decision.action == "push":
            return decision, await self._push(candidate, fleet)
        return decision, Outcome("kept")

    async def _remove(
        self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet
    ) -> tuple[Decision, Outcome]:
        if not self._access.tables(candidate.contact.binding.cluster):
            return decision, Outcome("observed" if fleet.mode == "observe" else "mi-missing")
        try:
            decision, outcome = await self._remover.remove(node, candidate, decision, fleet)
        except RestWaitsError:
            self._waiting["MI fails"] += 1
            return Decision("wait", "MI fails"), Outcome("kept")
        except MiError as error:
            return decision, _failure(error)
        interval_ms = self._config.pings.interval_ms
        if decision.action == "wait":
            self._retries.note(candidate, fleet.now, interval_ms // 2, decision.why)
        elif outcome.result in audit.PROVISIONAL:
            self._retries.note(candidate, fleet.now, interval_ms)
        return decision, outcome

    async def _push(self, candidate: Candidate, fleet: Fleet) -> Outcome:
        state, tables = fleet.states[candidate.contact.id], self._access.tables(candidate.contact.binding.cluster)
        if fleet.mode == "observe":
            return Outcome("observed", attempt=state.push_attempts + 1)
        attempt = await asyncio.to_thread(push.flag, self._store, candidate, state, now_ms())
        if not tables:
            return Outcome("offered", "no mi_url for this node: on the push stream only", attempt=attempt)
        mi = self._access.mi(next((table for table in tables if table.node == candidate.contact.node), tables[0]))
        try:
            await mi.raise_event(self._settings.push_event, push.event_params(candidate, attempt))
        except MiError as error:
            if not isinstance(error, MiCallError):  # that is quick, others wait long
                self._remover.count_failure(candidate.contact.node)
            return Outcome("offered", str(error)[:200], attempt=attempt)
        return Outcome("pushed", "OK", attempt=attempt)

    def _report(self, fleet: Fleet, acted: int) -> None:
        """Store how the sweep went."""
        for node in fleet.feeds:
            metrics.CANDIDATES.labels(node).set(len(fleet.candidates.get(node, ())))
        waiting = self._waiting + self._retries.count_reasons()
        fields = {
            "at": fleet.now,
            "mode": fleet.mode,
            "candidates": sum(map(len, fleet.candidates.values())),
            "acted": acted,
            "waiting": "; ".join(f"{count}: {why}" for why, count in waiting.most_common(MOST_REASONS)),
            "troubles": "; ".join(f"{node}: {why}" for node, why in fleet.troubles.items()),
            "networks": " ".join(group for group in fleet.open_breakers if group.startswith(NETWORK)),
        }
        save_sweep(self._store, fields)


def make_woken_entry(woken: push.Woken, outcome: Outcome, mode: str) -> AuditEntry:
    """Return the entry of a waking, with the failure that its pushes were for: the contact's record has it no more.

    A contact whose device came back elsewhere still fails, so its record tells.
    """
    mark = audit.read_mark(woken.decided)
    since = policy.failing_since(woken.contact) if woken.elsewhere else mark.since or woken.since
    candidate = Candidate(woken.contact, mark.reason, since)
    lost = None if woken.elsewhere else mark.lost
    return AuditEntry(candidate, Decision("push", "it came back"), outcome, mode, lost=lost)


async def _renew(turn: HeldLock) -> None:
    """Keep the turn while phones take their time to answer."""
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        await asyncio.to_thread(turn.renew)


def _failure(error: MiError) -> Outcome:
    if isinstance(error, MiRefusedError):
        return Outcome("mi-refused", str(error)[:200])
    if isinstance(error, MiCallError):
        return Outcome("mi-error", str(error)[:200])
    return Outcome("mi-unreachable", str(error)[:200])
