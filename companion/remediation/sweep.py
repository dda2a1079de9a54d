"""The sweep: who stopped answering, may we act, what is to be done, is it still so, do it once, write it down."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from companion import log, metrics
from companion.config import Config
from companion.errors import MiCallError, MiError, MiRefusedError
from companion.opensips.mi import Mi, open_mi
from companion.remediation import audit, policy, push, safety
from companion.remediation.audit import Outcome
from companion.remediation.policy import Candidate, Decision
from companion.remediation.safety import Breaker, ClockWatch, Turn
from companion.store.contacts import iterate_failing_contacts
from companion.store.devices import load_clusters
from companion.store.nodes import Feed, load_feed, load_feeds
from companion.store.store import Store
from companion.store.summary import count_registered, load_summary

MI_TRIES: Final = 3
"""So many failures of a node's MI in a row, and the rest of its contacts waits for the next sweep."""

logger = log.get(__name__)


@dataclass(slots=True)
class Look:
    """What one sweep starts from: the feeds, who may be acted on by node, and what was noted of them.

    `beginning` counts the contacts of each node that only began to fail: in a mass event they come soon.
    """

    turn: Turn
    now: int
    feeds: dict[str, Feed]
    candidates: dict[str, list[Candidate]]
    beginning: Mapping[str, int]
    states: dict[str, push.State]
    contacts: dict[str, int] | None
    troubles: dict[str, str] = field(default_factory=dict)
    open_breakers: list[str] = field(default_factory=list)


class Sweeper:
    """Sweeps in turns with the sweepers of other companions."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._settings = config.remediation
        self._store = store
        self._breaker = Breaker(store, config.remediation)
        self._clock = ClockWatch()
        self._mi: dict[str, Mi] = {}
        self._failures: Counter[str] = Counter()

    async def run(self) -> None:
        """One sweep; nothing when it is another's turn."""
        turn = await asyncio.to_thread(safety.take_turn, self._store)
        if turn is None:
            return
        try:
            await self._sweep(turn)
        finally:
            for mi in self._mi.values():
                await mi.aclose()
            self._mi.clear()
            self._failures.clear()
            await asyncio.to_thread(turn.end)

    async def _sweep(self, turn: Turn) -> None:
        await asyncio.to_thread(self._clear_woken)
        look = await asyncio.to_thread(self._look, turn)
        await asyncio.to_thread(self._find_troubles, look)
        acted = 0
        for node, candidates in look.candidates.items():
            if node not in look.troubles:
                acted += await self._act_on(candidates, look, self._settings.max_per_sweep - acted)
        await asyncio.to_thread(self._report, look, acted)

    # What there is

    def _look(self, turn: Turn) -> Look:
        """Read what is failing: the cost is that of the candidates, never of the fleet."""
        store, now, pings = self._store, _now(), self._config.pings
        found: dict[str, list[Candidate]] = defaultdict(list)
        beginning: Counter[str] = Counter()
        feeds = load_feeds(store)
        for contact in iterate_failing_contacts(store):
            candidate = policy.candidate(contact, self._settings, pings.lost_after, now)
            if candidate and self._is_certain(candidate, feeds):
                found[contact.node].append(candidate)
            elif policy.begins_to_fail(contact, now - (pings.lost_after + 1) * pings.interval_ms):
                beginning[contact.node] += 1
        contacts = [candidate.contact for candidates in found.values() for candidate in candidates]
        states = push.read_states(store, contacts, now)
        counted = load_summary(store)
        counts = count_registered(counted) if counted else None
        return Look(turn, now, feeds, dict(found), beginning, states, counts)

    def _is_certain(self, found: Candidate, feeds: Mapping[str, Feed]) -> bool:
        """Whether enough of its losses came since events of its cluster were last missing: one may have been an answer.

        A loss later than what its feed tells of was stored just now, and what was missing before it perhaps not yet.
        """
        contact = found.contact
        if contact.disconnected_at or contact.node not in feeds:
            return True  # a dead connection is no matter of counting, and without a feed nothing is done
        if contact.last_lost_at > feeds[contact.node].last_event_at:
            return False
        near = [feed.steady_since for feed in feeds.values() if feed.cluster == contact.binding.cluster]
        steady_since = max(near, default=feeds[contact.node].steady_since)
        if contact.lost_since >= steady_since:
            return True
        if contact.last_lost_at < steady_since:
            return False
        key = self._store.keys.lost(contact.device)
        lost = self._store.series.read(self._store.connection, key, steady_since, contact.last_lost_at)
        return sum(number == contact.number for _, number in lost) >= self._config.pings.lost_after

    def _clear_woken(self) -> None:
        for woken in push.clear_woken(self._store, _now()):
            if woken.after_ms is None:
                continue
            metrics.WOKEN_SECONDS.observe(woken.after_ms / 1000)
            since = policy.failing_since(woken.contact) if woken.elsewhere else woken.since
            found = Candidate(woken.contact, "lost-pings", since)
            outcome = Outcome("woken", attempt=woken.attempts, after_ms=woken.after_ms)
            audit.record(
                self._store, audit.Entry(found, Decision("push", "it came back"), outcome, self._settings.mode)
            )

    # Whether to act

    def _find_troubles(self, look: Look) -> None:
        """Of all nodes, also of those where nobody fails: who looks wants to know, and a breaker closes by itself."""
        for node in look.feeds.keys() | look.candidates.keys():
            is_open = self._is_breaker_open(node, look)
            trouble = self._present_trouble(look.feeds.get(node), _now())
            if look.contacts is None:
                trouble = trouble or "the fleet has not been counted yet"
            if is_open:
                look.open_breakers.append(node)
                trouble = trouble or "the breaker is open: too many at once"
            if trouble:
                look.troubles[node] = trouble
            if trouble and node in look.candidates:
                logger.info("nothing is done", node=node, because=trouble, candidates=len(look.candidates[node]))

    def _present_trouble(self, feed: Feed | None, now: int) -> str:
        settings, pings = self._settings, self._config.pings
        if safety.paused_ms(self._store):
            return "remediation is paused"
        if self._clock.distrusts(settings.warm_up or safety.TRUSTED_INTERVALS * pings.interval):
            return "the clock was set"
        return safety.trouble(feed, settings, pings, now)

    def _is_breaker_open(self, node: str, look: Look) -> bool:
        mode, states = self._settings.mode, look.states
        undecided = sum(
            not audit.is_decided(states[found.contact.id].decided, found, mode)
            for found in look.candidates.get(node, ())
        )
        failing = undecided + look.beginning.get(node, 0) if undecided else 0
        contacts = None if look.contacts is None else look.contacts.get(node, 0)
        return self._breaker.check(node, failing, contacts, look.now)

    def _changed(self, node: str, look: Look) -> str:
        """What no longer is as when the sweep began, which may be minutes ago; "" when all that counts still is."""
        if not look.turn.goes_on():
            return "the turn was lost to another companion"
        feed, _ = load_feed(self._store, node)
        if feed.steady_since != look.feeds[node].steady_since:
            return "events are missing"
        return self._present_trouble(feed, _now())

    # Acting

    async def _act_on(self, candidates: Sequence[Candidate], look: Look, room: int) -> int:
        acted, states = 0, look.states
        for found in sorted(candidates, key=lambda found: audit.failed_before(states[found.contact.id].decided)):
            state, node = states[found.contact.id], found.contact.node
            known_to_wake = bool(state.push.attempts) or audit.was_to_be_woken(state.decided, found)
            decision = policy.decide(found, self._settings, state.push, look.now, registrar_wakes=known_to_wake)
            if decision.action == "wait" or audit.stands(state.decided, found, decision, self._settings.mode):
                continue
            if acted >= room:
                logger.info("the rest waits for the next sweep", acted=acted)
                break
            if decision.action != "keep" and not await asyncio.to_thread(self._may_go_on, node, look):
                break
            await self._handle(found, decision, state, look)
            acted += decision.action != "keep"
        return acted

    def _may_go_on(self, node: str, look: Look) -> bool:
        if self._failures[node] >= MI_TRIES:
            logger.warning("MI fails; the rest waits for the next sweep", node=node)
            return False
        changed = self._changed(node, look)
        if changed:
            logger.warning("the sweep ends early", node=node, because=changed)
            return False
        if not safety.may_act(self._store, self._settings, _now()):
            logger.warning("enough for this minute", max_per_minute=self._settings.max_per_minute)
            return False
        return True

    def _mode_for(self, found: Candidate, look: Look) -> str:
        """Return the mode for a candidate: where evidence may mislead, removals and pushes are only observed."""
        if self._settings.mode == "observe":
            return "observe"
        binding = found.contact.binding
        shared = len(load_clusters(self._store, binding.aor) | {binding.cluster}) > 1
        uncertain = shared or safety.observed_only(self._config, look.feeds, found.contact.node)
        return "observe" if uncertain else self._settings.mode

    async def _handle(self, found: Candidate, decision: Decision, state: push.State, look: Look) -> None:
        started = time.monotonic()
        mode = await asyncio.to_thread(self._mode_for, found, look)
        if audit.stands(state.decided, found, decision, mode):
            return
        decision, outcome = await self._do(found, decision, state, look, mode)
        if decision.action == "wait":
            return
        duration_ms = round((time.monotonic() - started) * 1000)
        outcome = Outcome(outcome.result, outcome.answer, duration_ms, outcome.attempt)
        metrics.REMEDIATIONS.labels(found.contact.node, decision.action, outcome.result).inc()
        entry = audit.Entry(found, decision, outcome, mode, look.turn.fence)
        # the log has it also where Redis goes away before it is written down
        logger.info("remediation", device=found.contact.device, action=decision.action, result=outcome.result)
        if not (audit.failed(outcome.result) and audit.note(entry) == state.decided):
            await asyncio.to_thread(audit.record, self._store, entry)

    async def _do(
        self, found: Candidate, decision: Decision, state: push.State, look: Look, mode: str
    ) -> tuple[Decision, Outcome]:
        if decision.action == "keep":
            return decision, Outcome("kept")
        if decision.action == "push":
            return decision, await self._push(found, state, mode)
        node = found.contact.node
        mi = self._open_mi(node)
        if mi is None:
            return decision, Outcome("observed" if mode == "observe" else "mi-missing")
        try:
            done = await self._remove(found, decision, state, look, mode)
        except MiError as error:
            self._failures[node] += 1
            return decision, _failed(error)
        del self._failures[node]
        return done

    async def _push(self, found: Candidate, state: push.State, mode: str) -> Outcome:
        if mode == "observe":
            return Outcome("observed", attempt=state.push.attempts + 1)
        attempt = await asyncio.to_thread(push.flag, self._store, found, state.push, _now())
        mi = self._open_mi(found.contact.node)
        if mi is None:
            return Outcome("offered", "no mi_url for this node: on the push stream only", attempt=attempt)
        try:
            await mi.raise_event(self._settings.push_event, push.named_params(found, attempt))
        except MiError as error:
            self._failures[found.contact.node] += not isinstance(error, MiCallError)  # which is quick, others wait long
            return Outcome("offered", str(error)[:200], attempt=attempt)
        return Outcome("pushed", "OK", attempt=attempt)

    async def _remove(
        self, found: Candidate, decision: Decision, state: push.State, look: Look, mode: str
    ) -> tuple[Decision, Outcome]:
        """Look first; act only if it is what we knew and nothing came back; act once."""
        mi = self._open_mi(found.contact.node)
        assert mi is not None  # noqa: S101 - the caller asked
        binding = found.contact.binding
        seen = [each for each in await mi.show_contact(binding.domain, binding.aor) if each.uri == binding.uri]
        sight = policy.compare(found, seen)
        if sight != "as-known":
            return decision, Outcome(sight)
        if any(each.push for each in seen):
            other = policy.decide(found, self._settings, state.push, look.now, registrar_wakes=True)
            if other.action != "remove":
                return other, await self._push(found, state, mode) if other.action == "push" else Outcome("kept")
        if mode == "observe":
            return decision, Outcome("observed")
        changed = await asyncio.to_thread(self._changed, found.contact.node, look)
        if changed:
            return Decision("wait", changed), Outcome("held-back")
        return decision, Outcome(await mi.remove_contact(binding.domain, binding.aor, binding.uri), "OK")

    def _open_mi(self, node: str) -> Mi | None:
        """MI of the node, or of another one of its cluster: they share usrloc."""
        cluster = self._config.cluster(node)
        tables = sorted(self._config.opensips, key=lambda table: table.node != node)
        table = next((table for table in tables if self._config.cluster(table.node) == cluster), None)
        if table is None:
            return None
        if table.node not in self._mi:
            self._mi[table.node] = open_mi(table)
        return self._mi[table.node]

    def _report(self, look: Look, acted: int) -> None:
        """Leave behind how it went, for who looks."""
        for node in look.feeds:
            metrics.CANDIDATES.labels(node).set(len(look.candidates.get(node, ())))
        fields = {
            "at": look.now,
            "mode": self._settings.mode,
            "candidates": sum(map(len, look.candidates.values())),
            "acted": acted,
            "troubles": "; ".join(f"{node}: {why}" for node, why in look.troubles.items()),
        }
        key = self._store.keys.sweep()
        noted = [part for pair in fields.items() for part in pair]
        self._store.connection.pipeline([("HSET", key, *noted), ("PEXPIRE", key, self._store.retention_ms)])


def _now() -> int:
    return int(time.time() * 1000)


def _failed(error: MiError) -> Outcome:
    if isinstance(error, MiRefusedError):
        return Outcome("mi-refused", str(error)[:200])
    if isinstance(error, MiCallError):
        return Outcome("mi-error", str(error)[:200])
    return Outcome("mi-unreachable", str(error)[:200])
