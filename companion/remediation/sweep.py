"""The sweep: who stopped answering, may we act, what is to be done, is it still so, do it once, write it down."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from companion import log, metrics
from companion.config import Config
from companion.errors import MiCallError, MiError, MiRefusedError
from companion.mi import Mi, open_mi
from companion.mi_contact import MiContact
from companion.remediation import audit, policy, push, safety
from companion.remediation.audit import Outcome
from companion.remediation.policy import Candidate, Decision
from companion.remediation.safety import Breaker, ClockWatch, Turn
from companion.store import summary
from companion.store.nodes import Feed
from companion.store.store import Store

logger = log.get(__name__)


@dataclass(slots=True)
class Look:
    """What one sweep starts from: the feeds, who may be acted on by node, and what was noted of them."""

    now: int
    paused: bool
    feeds: dict[str, Feed]
    candidates: dict[str, list[Candidate]]
    states: dict[str, push.State]
    contacts: dict[str, int]
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
            await asyncio.to_thread(turn.end)

    async def _sweep(self, turn: Turn) -> None:
        await asyncio.to_thread(self._clear_woken)
        look = await asyncio.to_thread(self._look)
        acted = 0
        for node, candidates in look.candidates.items():
            if self._may_act_on(node, look):
                acted += await self._act_on(candidates, look, turn, self._settings.max_per_sweep - acted)
        await asyncio.to_thread(self._report, look, acted)

    # What there is

    def _look(self) -> Look:
        """Read what is failing: the cost is that of the candidates, never of the fleet."""
        store, now = self._store, int(time.time() * 1000)
        found: dict[str, list[Candidate]] = defaultdict(list)
        feeds = store.feeds()
        for contact in store.failing():
            candidate = policy.candidate(contact, self._settings, self._config.pings.lost_after, now)
            if candidate and self._is_certain(candidate, feeds.get(contact.node)):
                found[contact.node].append(candidate)
        contacts = [candidate.contact for candidates in found.values() for candidate in candidates]
        states = push.read_states(store, contacts, now)
        counts = (summary.load(store) or {}).get("contacts_by_node", {})
        return Look(now, safety.paused_ms(store) > 0, feeds, dict(found), states, counts)

    def _is_certain(self, found: Candidate, feed: Feed | None) -> bool:
        """Whether enough of its losses came since events were last missing: an answer may be among those."""
        if feed is None or found.reason == "disconnected" or found.contact.disconnected_at:
            return True
        if found.contact.lost_since >= feed.steady_since:
            return True
        key = self._store.keys.lost(found.contact.device)
        lost = self._store.series.read(self._store.connection, key, feed.steady_since, found.contact.last_lost_at)
        of_this = sum(number == found.contact.number for _, number in lost)
        return of_this >= self._config.pings.lost_after

    def _clear_woken(self) -> None:
        for woken in push.clear_woken(self._store, int(time.time() * 1000)):
            if woken.after_ms is None:
                continue
            metrics.WOKEN_SECONDS.observe(woken.after_ms / 1000)
            found = Candidate(woken.contact, "lost-pings", woken.since)
            outcome = Outcome("woken", attempt=woken.attempts, after_ms=woken.after_ms)
            audit.record(
                self._store, audit.Entry(found, Decision("push", "it came back"), outcome, self._settings.mode)
            )

    # Whether to act

    def _may_act_on(self, node: str, look: Look) -> bool:
        trouble = self._trouble(node, look)
        if trouble:
            look.troubles[node] = trouble
            logger.info("nothing is done", node=node, because=trouble, candidates=len(look.candidates[node]))
        return not trouble

    def _trouble(self, node: str, look: Look) -> str:
        settings, pings = self._settings, self._config.pings
        if look.paused:
            return "remediation is paused"
        if self._clock.distrusts(settings.warm_up or safety.TRUSTED_INTERVALS * pings.interval):
            return "the clock was set"
        trouble = safety.trouble(look.feeds.get(node), settings, pings, look.now)
        if trouble:
            return trouble
        if node not in look.contacts:
            return "the fleet has not been counted yet"
        undecided = [
            found
            for found in look.candidates[node]
            if not audit.is_decided(look.states[found.contact.id].decided, found, settings.mode)
        ]
        if self._breaker.check(node, len(undecided), look.contacts[node], look.now):
            look.open_breakers.append(node)
            return "the breaker is open: too many at once"
        return ""

    # Acting

    async def _act_on(self, candidates: Sequence[Candidate], look: Look, turn: Turn, room: int) -> int:
        acted = 0
        for found in candidates:
            state = look.states[found.contact.id]
            decision = policy.decide(found, self._settings, state.push, look.now)
            if decision.action == "wait" or audit.stands(state.decided, found, decision, self._settings.mode):
                continue
            if acted >= room:
                logger.info("the rest waits for the next sweep", acted=acted)
                break
            if decision.action != "keep" and not await self._allowed(turn):
                break
            await self._handle(found, decision, state, look, turn)
            acted += decision.action != "keep"
        return acted

    async def _allowed(self, turn: Turn) -> bool:
        if not await asyncio.to_thread(turn.goes_on):
            logger.warning("the sweep lost its turn")
            return False
        if not await asyncio.to_thread(safety.may_act, self._store, self._settings, int(time.time() * 1000)):
            logger.warning("enough for this minute", max_per_minute=self._settings.max_per_minute)
            return False
        return True

    async def _handle(self, found: Candidate, decision: Decision, state: push.State, look: Look, turn: Turn) -> None:
        started = time.monotonic()
        decision, outcome = await self._do(found, decision, state, look.now)
        duration_ms = round((time.monotonic() - started) * 1000)
        outcome = Outcome(outcome.result, outcome.answer, duration_ms, outcome.attempt)
        metrics.REMEDIATIONS.labels(found.contact.node, decision.action, outcome.result).inc()
        entry = audit.Entry(found, decision, outcome, self._settings.mode, turn.fence)
        await asyncio.to_thread(audit.record, self._store, entry)

    async def _do(self, found: Candidate, decision: Decision, state: push.State, now: int) -> tuple[Decision, Outcome]:
        if decision.action == "keep":
            return decision, Outcome("kept")
        if decision.action == "push":
            return decision, await self._push(found, state, now)
        mi = self._open_mi(found.contact.node)
        if mi is None:
            return decision, Outcome("observed" if self._settings.mode == "observe" else "mi-missing")
        try:
            return await self._remove(mi, found, decision, state, now)
        except MiError as error:
            return decision, _failed(error)

    async def _push(self, found: Candidate, state: push.State, now: int) -> Outcome:
        if self._settings.mode == "observe":
            return Outcome("observed", attempt=state.push.attempts + 1)
        attempt = await asyncio.to_thread(push.flag, self._store, found, state.push, now)
        mi = self._open_mi(found.contact.node)
        if mi is None:
            return Outcome("offered", "no mi_url for this node: on the push stream only", attempt=attempt)
        try:
            await mi.raise_event(self._settings.push_event, push.named_params(found, attempt))
        except MiError as error:
            return Outcome("offered", str(error)[:200], attempt=attempt)
        return Outcome("pushed", "OK", attempt=attempt)

    async def _remove(
        self, mi: Mi, found: Candidate, decision: Decision, state: push.State, now: int
    ) -> tuple[Decision, Outcome]:
        """Look first; act only if it is what we knew and nothing came back; act once."""
        binding = found.contact.binding
        seen = _same(await mi.show_contact(binding.domain, binding.aor), binding.uri)
        sight = policy.compare(found, seen)
        if sight != "as-known":
            return decision, Outcome(sight)
        if seen and seen.push:
            other = policy.decide(found, self._settings, state.push, now, registrar_wakes=True)
            if other.action != "remove":
                return other, await self._push(found, state, now) if other.action == "push" else Outcome("kept")
        if self._settings.mode == "observe":
            return decision, Outcome("observed")
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
            metrics.BREAKER.labels(node).set(node in look.open_breakers)
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


def _same(contacts: Sequence[MiContact], uri: str) -> MiContact | None:
    return next((contact for contact in contacts if contact.uri == uri), None)


def _failed(error: MiError) -> Outcome:
    if isinstance(error, MiRefusedError):
        return Outcome("mi-refused", str(error)[:200])
    if isinstance(error, MiCallError):
        return Outcome("mi-error", str(error)[:200])
    return Outcome("mi-unreachable", str(error)[:200])
