"""Sweep: find what stopped answering, ask whether it may be acted on, ask the phone, act once, write it down."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Final

from companion import log, metrics
from companion.config import Config
from companion.errors import MiCallError, MiError, MiRefusedError
from companion.remediation import audit, policy, push, safety, suspects
from companion.remediation.audit import AuditEntry, Outcome
from companion.remediation.breaker import (
    NETWORK,
    Group,
    Totals,
    collect_failures,
    count_group,
    groups_of,
    update_breaker,
)
from companion.remediation.candidates import Fleet, collect_fleet
from companion.remediation.lost_nodes import LostNodes
from companion.remediation.node_access import NodeAccess
from companion.remediation.policy import Candidate, Decision, Wake
from companion.remediation.questions import Questioner, Records, can_wake, combine
from companion.remediation.rule import Evidence, Judgement, NodeAnswer, Probe, judge
from companion.remediation.safety import ClockWatch
from companion.store.breakers import load_breakers, save_breaker
from companion.store.census import load_network_counts
from companion.store.contacts import ContactRef, load_contacts
from companion.store.locks import HeldLock
from companion.store.nodes import Feed, load_feed
from companion.store.pushes import CareState, save_probe
from companion.store.removals import count_suspects
from companion.store.store import Store
from companion.store.sweeps import (
    acquire_turn,
    count_action,
    load_last_sweep,
    load_off_at,
    load_pause_ms,
    save_sweep,
)
from companion.times import now_ms

MI_TRIES: Final = 3
"""After so many failures of a node's MI in a row, the rest of its contacts waits for the next sweep."""
AT_ONCE: Final = 50
"""The number of contacts of one node that are asked at once."""
RENEW_SECONDS: Final = 3.0
MOST_DOUBLINGS: Final = 2
"""How often the wait for another question doubles after an answer."""
DOUBTED_SHARE: Final = 4
"""One action in so many may go to contacts that are only doubted: in `cooperation` they may be half of the fleet."""

logger = log.get(__name__)


class Sweeper:
    """Sweep in turns with the sweepers of other companions."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._settings = config.remediation
        self._store = store
        self._clock = ClockWatch()
        self._access = NodeAccess(config)
        self._questioner = Questioner(config, store, self._access)
        self._lost_nodes = LostNodes(config, self._access)
        self._failures: Counter[str] = Counter()
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

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
            self._failures.clear()
            await asyncio.to_thread(turn.release)

    async def _sweep(self, turn: HeldLock) -> None:
        mode = await asyncio.to_thread(self._mode)
        await asyncio.to_thread(self._clear_woken, mode)
        await asyncio.to_thread(suspects.find_suspects, self._store, mode, now_ms())
        fleet = await asyncio.to_thread(collect_fleet, self._config, self._store, turn, now_ms(), mode)
        fleet.lost_nodes = await self._lost_nodes.find(fleet.feeds, fleet.now)
        await asyncio.to_thread(self._find_troubles, fleet)
        self._questioner.begin()
        acted = 0
        for node, candidates in fleet.candidates.items():
            if node not in fleet.troubles:
                acted += await self._act_on(node, candidates, fleet, self._settings.max_per_sweep - acted)
        await asyncio.to_thread(self._report, fleet, acted)

    def _mode(self) -> str:
        """Return the mode that holds now: `companion remediation off` needs no restart."""
        return "observe" if load_off_at(self._store) else self._settings.mode

    def _clear_woken(self, mode: str) -> None:
        for woken in push.clear_woken(self._store, now_ms()):
            if woken.after_ms is None:
                continue
            metrics.WOKEN_SECONDS.observe(woken.after_ms / 1000)
            since = policy.failing_since(woken.contact) if woken.elsewhere else woken.since
            candidate = Candidate(woken.contact, "lost-pings", since)
            outcome = Outcome("woken", attempt=woken.attempts, after_ms=woken.after_ms)
            audit.record(self._store, AuditEntry(candidate, Decision("push", "it came back"), outcome, mode))

    # Whether to act

    def _find_troubles(self, fleet: Fleet) -> None:
        """Find what holds back each node, also those without candidates: people want to know, and breakers close."""
        self._check_breakers(fleet)
        for node in fleet.feeds.keys() | fleet.candidates.keys():
            trouble = self._trouble(node, fleet, now_ms())
            if fleet.contacts is None:
                trouble = trouble or "the fleet has not been counted yet"
            if node in fleet.held_groups:
                trouble = trouble or "the breaker is open: too many at once"
            if trouble:
                fleet.troubles[node] = trouble
            if trouble and node in fleet.candidates:
                logger.info("nothing is done", node=node, because=trouble, candidates=len(fleet.candidates[node]))

    def _trouble(self, node: str, fleet: Fleet, now: int) -> str:
        """Return what speaks against acting on a node's contacts: a trouble of any node of its cluster."""
        if load_pause_ms(self._store):
            return "remediation is paused"
        if self._clock.distrusts(self._settings.warm_up or safety.TRUSTED_INTERVALS * self._config.pings.interval):
            return "the clock was set"
        if count_suspects(self._store, now) > self._settings.suspects_per_hour:
            return "too many removed phones came back at once"
        if node in fleet.lost_nodes or node not in fleet.feeds:
            return "its feed is silent"
        nodes = fleet.cluster_nodes(fleet.feeds[node].cluster)
        troubles = {other: self._feed_trouble(load_feed(self._store, other)[0], now) for other in (node, *nodes)}
        others = (f"{why} ({other})" for other, why in troubles.items() if why and other != node)
        return troubles[node] or next(others, "")

    def _feed_trouble(self, feed: Feed, now: int) -> str:
        return safety.find_trouble(feed, self._settings, self._config.pings, now)

    def _check_breakers(self, fleet: Fleet) -> None:
        undecided = [
            candidate.contact
            for group in fleet.candidates.values()
            for candidate in group
            if candidate.reason != "doubted"
            and not audit.is_decided(fleet.states[candidate.contact.id].decided, candidate, fleet.mode)
        ]
        failures = collect_failures([*undecided, *(fleet.beginning if undecided else ())])
        groups = sorted({*failures, *fleet.feeds, *load_open_groups(self._store)})
        totals = Totals(
            fleet.contacts or {}, load_network_counts(self._store, [g for g in groups if g.startswith(NETWORK)])
        )
        clusters = {node: self._config.cluster(node) for node in totals.nodes}
        for name, state in load_breakers(self._store, groups).items():
            contacts = None if fleet.contacts is None else count_group(name, totals, clusters)
            group = Group(failures.get(name, ()), contacts, can_ask=self._can_ask(name, fleet))
            updated = update_breaker(state, group, self._settings, fleet.now)
            if updated != state:
                save_breaker(self._store, name, updated)
            if updated.opened_at:
                fleet.held_groups.add(name)
        fleet.open_breakers = sorted(fleet.held_groups)

    def _can_ask(self, group: str, fleet: Fleet) -> bool:
        clusters = {feed.cluster for feed in fleet.feeds.values()}
        if group in fleet.feeds:
            clusters = {fleet.feeds[group].cluster}
        return all(self._access.can_ask(cluster) for cluster in clusters)

    def _find_change(self, node: str, fleet: Fleet) -> str:
        """Return what changed since the sweep began, which may be minutes ago; "" when all that counts still holds."""
        if not fleet.turn.renew():
            return "the turn was lost to another companion"
        if self._mode() != fleet.mode:
            return "the mode was changed"
        for other in (node, *fleet.cluster_nodes(fleet.feeds[node].cluster)):
            if load_feed(self._store, other)[0].steady_since != fleet.feeds[other].steady_since:
                return "events are missing"
        return self._trouble(node, fleet, now_ms())

    # Acting

    async def _act_on(self, node: str, candidates: Sequence[Candidate], fleet: Fleet, room: int) -> int:
        """Act on the candidates of one node, some at once; return on how many."""
        cluster = self._config.cluster(node)
        states, started, pool = fleet.states, 0, _Pool(AT_ONCE if self._access.can_ask(cluster) else 1)
        doubted_room = max(1, room // DOUBTED_SHARE)
        for candidate in sorted(candidates, key=lambda each: _priority(each, states[each.contact.id])):
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

    def _decide(self, candidate: Candidate, fleet: Fleet) -> Decision | None:
        """Return what is to be done now, None when nothing is."""
        state, mark = fleet.states[candidate.contact.id], fleet.states[candidate.contact.id].decided
        if any(group in fleet.held_groups for group in groups_of(candidate.contact)):
            return None
        is_known_to_wake = bool(state.push_attempts) or audit.was_to_be_woken(mark, candidate)
        wake = self._wake(candidate, fleet, registrar_wakes=is_known_to_wake)
        decision = policy.decide(candidate, self._settings, wake, fleet.now)
        if decision.action == "wait" or audit.is_done(mark, candidate, decision, fleet.mode):
            return None
        return None if decision.action == "remove" and self._was_asked_lately(candidate, state, fleet.now) else decision

    def _wake(self, candidate: Candidate, fleet: Fleet, *, registrar_wakes: bool) -> Wake:
        pushes = push.pushes_of(fleet.states[candidate.contact.id])
        replacement = fleet.replacements.get(candidate.contact.superseded_by)
        return Wake(pushes, registrar_wakes, replacement)

    def _was_asked_lately(self, candidate: Candidate, state: CareState, now: int) -> bool:
        """Return whether a question of this run of failure is too fresh for another: each answer doubles the wait."""
        if state.probe_since != candidate.since:
            return False
        interval_ms = self._config.pings.interval_ms
        wait_ms = interval_ms * self._config.pings.lost_after * 2 ** min(state.probe_answers - 1, MOST_DOUBLINGS)
        return now - state.probe_at < (wait_ms if state.probe_answers else interval_ms // 2)

    def _may_go_on(self, node: str, fleet: Fleet) -> bool:
        if self._failures[node] >= MI_TRIES:
            logger.warning("MI fails; the rest waits for the next sweep", node=node)
            return False
        change = self._find_change(node, fleet)
        if change:
            logger.warning("the sweep ends early", node=node, because=change)
            return False
        if count_action(self._store, now_ms()) > self._settings.max_per_minute:
            logger.warning("enough for this minute", max_per_minute=self._settings.max_per_minute)
            return False
        return True

    async def _handle(self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet) -> None:
        started = time.monotonic()
        decision, outcome = await self._do(node, candidate, decision, fleet)
        if decision.action == "wait":
            return
        outcome = replace(outcome, duration_ms=round((time.monotonic() - started) * 1000))
        metrics.REMEDIATIONS.labels(candidate.contact.node, decision.action, outcome.result).inc()
        entry = AuditEntry(candidate, decision, outcome, fleet.mode, fleet.turn.fence)
        # the log has it also where Redis goes away before it is written down
        logger.info("remediation", device=candidate.contact.device, action=decision.action, result=outcome.result)
        mark = fleet.states[candidate.contact.id].decided
        if not (audit.is_failure(outcome.result) and audit.make_mark(entry) == mark):
            await asyncio.to_thread(audit.record, self._store, entry)

    async def _do(self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet) -> tuple[Decision, Outcome]:
        if decision.action == "keep":
            return decision, Outcome("kept")
        if decision.action == "push":
            return decision, await self._push(candidate, fleet)
        if not self._access.tables(candidate.contact.binding.cluster):
            return decision, Outcome("observed" if fleet.mode == "observe" else "mi-missing")
        try:
            decision, outcome = await self._remove(node, candidate, decision, fleet)
        except _RestWaitsError:
            return Decision("wait", "MI fails"), Outcome("held-back")
        except MiError as error:
            return decision, _failure(error)
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
            await mi.raise_event(self._settings.push_event, push.named_params(candidate, attempt))
        except MiError as error:
            self._failures[candidate.contact.node] += not isinstance(
                error, MiCallError
            )  # that is quick, others wait long
            return Outcome("offered", str(error)[:200], attempt=attempt)
        return Outcome("pushed", "OK", attempt=attempt)

    async def _remove(
        self, node: str, candidate: Candidate, decision: Decision, fleet: Fleet
    ) -> tuple[Decision, Outcome]:
        """Ask the phone, then look at every node, judge, and act at once: a phone may register again meanwhile."""
        probes: dict[str, Probe] = {}
        if self._access.can_ask(candidate.contact.binding.cluster):
            async with self._looking[node]:
                records = await self._look(node, candidate, fleet)
            probes = await self._questioner.ask(candidate, records)
        async with self._looking[node]:
            records = await self._look(node, candidate, fleet)
            if can_wake(records):
                wake = self._wake(candidate, fleet, registrar_wakes=True)
                other = policy.decide(candidate, self._settings, wake, fleet.now)
                if other.action != "remove":
                    return other, await self._push(candidate, fleet) if other.action == "push" else Outcome("kept")
            answers = combine(candidate, records, probes)
            judgement = await asyncio.to_thread(self._judge, candidate, answers, fleet)
            outcome = await self._carry_out(node, candidate, judgement, fleet)
        if outcome is None:
            return Decision("wait", judgement.why), Outcome("held-back")
        evidence = audit.describe_evidence(candidate.contact, _describe(answers), judgement.why)
        return decision, replace(outcome, evidence=evidence)

    async def _look(self, node: str, candidate: Candidate, fleet: Fleet) -> Records:
        """Read what MI of each node has. Raises MiError, for the last time when it failed too often."""
        if self._failures[node] >= MI_TRIES:
            raise _RestWaitsError
        try:
            records = await self._questioner.look(candidate, fleet.lost_nodes)
        except MiError:
            self._failures[node] += 1
            raise
        del self._failures[node]
        return records

    def _judge(self, candidate: Candidate, answers: Sequence[NodeAnswer], fleet: Fleet) -> Judgement:
        contact, state = candidate.contact, fleet.states[candidate.contact.id]
        stored = load_contacts(self._store, [ContactRef(contact.binding.aor, contact.id)]).get(contact.id)
        before = state.probe_lost if state.probe_since == candidate.since else 0
        reaching = policy.reaching_node(contact)
        evidence = Evidence(
            candidate,
            answers,
            reaching,
            reaching in fleet.lost_nodes,
            stored.alive_at if stored and not stored.ended_at else contact.alive_at,
            before,
        )
        self._note_probe(candidate, answers, state)
        return judge(evidence)

    def _note_probe(self, candidate: Candidate, answers: Sequence[NodeAnswer], state: CareState) -> None:
        probes = {answer.probe for answer in answers}
        if not {"answered", "unanswered"} & probes:
            return
        same = state.probe_since == candidate.since
        lost, answered = (state.probe_lost, state.probe_answers) if same else (0, 0)
        lost = 0 if "answered" in probes else lost + 1
        noted = state._replace(
            probe_since=candidate.since,
            probe_at=now_ms(),
            probe_lost=lost,
            probe_answers=answered + ("answered" in probes),
        )
        save_probe(self._store, candidate.contact, noted)

    async def _carry_out(self, node: str, candidate: Candidate, judgement: Judgement, fleet: Fleet) -> Outcome | None:
        """Remove the contact if that is the judgement; return what came of it, None when it waits."""
        if judgement.outcome == "wait":
            return None
        if judgement.outcome != "remove":
            return Outcome(judgement.outcome)
        if fleet.mode == "observe":
            return Outcome("observed")
        if await asyncio.to_thread(self._find_change, node, fleet):
            return None
        binding = candidate.contact.binding
        tables = [table for table in self._access.tables(binding.cluster) if table.node not in fleet.lost_nodes]
        mi = self._access.mi(next((table for table in tables if table.node == node), tables[0]))
        removed = Outcome(await mi.remove_contact(binding.domain, binding.aor, binding.uri), "OK")
        await asyncio.to_thread(suspects.watch_removal, self._store, candidate, now_ms())
        return removed

    def _report(self, fleet: Fleet, acted: int) -> None:
        """Store how the sweep went."""
        for node in fleet.feeds:
            metrics.CANDIDATES.labels(node).set(len(fleet.candidates.get(node, ())))
        fields = {
            "at": fleet.now,
            "mode": fleet.mode,
            "candidates": sum(map(len, fleet.candidates.values())),
            "acted": acted,
            "troubles": "; ".join(f"{node}: {why}" for node, why in fleet.troubles.items()),
            "networks": " ".join(group for group in fleet.open_breakers if group.startswith(NETWORK)),
        }
        save_sweep(self._store, fields)


def _priority(candidate: Candidate, state: CareState) -> tuple[bool, bool]:
    """Put contacts that are only doubted last, and before them those that failed at MI."""
    return candidate.reason == "doubted", audit.failed_before(state.decided)


class _RestWaitsError(Exception):
    """MI of a node failed too often in this sweep."""


class _Pool:
    """Run some tasks at once; the first error ends all of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: set[asyncio.Task[None]] = set()

    async def wait_for_room(self) -> None:
        """Wait until fewer tasks run than may. Raises what one of them raised."""
        while len(self._tasks) >= self._size:
            await self._wait(asyncio.FIRST_COMPLETED)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task."""
        self._tasks.add(asyncio.create_task(work))

    async def finish(self) -> None:
        """Wait for all tasks. Raises what one of them raised."""
        while self._tasks:
            await self._wait(asyncio.FIRST_EXCEPTION)

    async def _wait(self, until: str) -> None:
        done, self._tasks = await asyncio.wait(self._tasks, return_when=until)
        try:
            for task in done:
                task.result()
        except BaseException:
            await self._cancel()
            raise

    async def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = set()


async def _renew(turn: HeldLock) -> None:
    """Keep the turn while phones take their time to answer."""
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        await asyncio.to_thread(turn.renew)


def load_open_groups(store: Store) -> list[str]:
    """Return the networks whose breakers were open after the last sweep."""
    return load_last_sweep(store).get("networks", "").split()


def _describe(answers: Sequence[NodeAnswer]) -> dict[str, dict[str, str | bool]]:
    return {answer.node: {"look": answer.look, "holds": answer.holds, "probe": answer.probe} for answer in answers}


def _failure(error: MiError) -> Outcome:
    if isinstance(error, MiRefusedError):
        return Outcome("mi-refused", str(error)[:200])
    if isinstance(error, MiCallError):
        return Outcome("mi-error", str(error)[:200])
    return Outcome("mi-unreachable", str(error)[:200])
