"""Collect what a sweep starts from: the feeds, the contacts that fail, and what is stored of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

from companion.config import Config
from companion.remediation import policy, push
from companion.remediation.policy import Candidate, Wake
from companion.store.contacts import ContactRef, iterate_failing_contacts, load_contacts
from companion.store.locks import HeldLock
from companion.store.nodes import Feed
from companion.store.pings import load_lost_pings
from companion.store.pushes import CareState
from companion.store.store import Store
from companion.store.summary import count_registered, load_summary
from companion.usrloc.contact import Contact


@dataclass(slots=True)
class Fleet:
    """Hold what one sweep starts from.

    `candidates` are by the node that can reach them. `beginning` only began to fail: in a mass event they soon are
    candidates, too. `replacements` are the newer contacts of ghosts, by id. `lost_nodes` have been gone for longer than
    `node_lost_after`. `contacts` counts those registered, by node, None before the first count.
    """

    turn: HeldLock
    now: int
    mode: str
    feeds: dict[str, Feed]
    candidates: dict[str, list[Candidate]]
    beginning: list[Contact]
    states: dict[str, CareState]
    replacements: dict[str, Contact]
    contacts: dict[str, int] | None
    lost_nodes: frozenset[str] = frozenset()
    troubles: dict[str, str] = field(default_factory=dict)
    held_groups: set[str] = field(default_factory=set)
    open_breakers: list[str] = field(default_factory=list)

    def wake(self, candidate: Candidate, *, registrar_wakes: bool) -> Wake:
        """Return what speaks for waking a candidate."""
        pushes = push.pushes_of(self.states[candidate.contact.id])
        return Wake(pushes, registrar_wakes, self.replacements.get(candidate.contact.superseded_by))

    def cluster_nodes(self, cluster: str) -> list[str]:
        """Return the nodes of a cluster whose feeds exist and that are not lost."""
        return [node for node, feed in self.feeds.items() if feed.cluster == cluster and node not in self.lost_nodes]


class Sweep(NamedTuple):
    """Hold the frame of one sweep: its turn, time (epoch ms) and mode, the feeds, and which nodes are lost."""

    turn: HeldLock
    now: int
    mode: str
    feeds: dict[str, Feed]
    lost_nodes: frozenset[str]


def collect_fleet(config: Config, store: Store, sweep: Sweep) -> Fleet:
    """Read what is failing: the cost is that of the candidates, never of the fleet."""
    turn, now, mode, feeds, lost_nodes = sweep
    candidates: defaultdict[str, list[Candidate]] = defaultdict(list)
    beginning: list[Contact] = []
    for contact in iterate_failing_contacts(store):
        candidate = policy.find_candidate(contact, config.remediation, config.pings.lost_after, now)
        if candidate and _is_certain(config, store, candidate, feeds):
            candidates[_home(contact, feeds, lost_nodes)].append(candidate)
        elif policy.begins_to_fail(contact, now - (config.pings.lost_after + 1) * config.pings.interval_ms):
            beginning.append(contact)
    contacts = [candidate.contact for group in candidates.values() for candidate in group]
    summary = load_summary(store)
    return Fleet(
        turn,
        now,
        mode,
        feeds,
        dict(candidates),
        beginning,
        push.read_states(store, contacts, now),
        _load_replacements(store, candidates),
        count_registered(summary) if summary else None,
        lost_nodes,
    )


def _home(contact: Contact, feeds: Mapping[str, Feed], lost_nodes: AbstractSet[str]) -> str:
    """Return the node under which a contact is handled: the one that can reach it, else another of its cluster."""
    cluster = contact.binding.cluster
    others = (node for node, feed in feeds.items() if feed.cluster == cluster)
    nodes = (policy.reaching_node(contact), contact.node, *others)
    return next((node for node in nodes if node in feeds and node not in lost_nodes), contact.node)


def _load_replacements(store: Store, candidates: Mapping[str, Sequence[Candidate]]) -> dict[str, Contact]:
    ghosts = [candidate.contact for group in candidates.values() for candidate in group if candidate.reason == "ghost"]
    refs = [ContactRef(ghost.binding.aor, ghost.superseded_by) for ghost in ghosts if ghost.superseded_by]
    return load_contacts(store, refs)


def _is_certain(config: Config, store: Store, candidate: Candidate, feeds: Mapping[str, Feed]) -> bool:
    """Return whether enough of its losses came since events of its cluster were last missing.

    One of the missing events may have been an answer. A loss later than the last event of its feed was stored just now,
    and what was missing before it perhaps not yet.
    """
    contact = candidate.contact
    if contact.disconnected_at or candidate.reason == "doubted" or contact.node not in feeds:
        return True  # a question decides, and without a feed nothing is done
    if contact.last_lost_at > feeds[contact.node].last_event_at:
        return False
    near = [feed.steady_since for feed in feeds.values() if feed.cluster == contact.binding.cluster]
    steady_since = max(near, default=feeds[contact.node].steady_since)
    if contact.lost_since >= steady_since:
        return True
    if contact.last_lost_at < steady_since:
        return False
    lost = load_lost_pings(store, contact.device, steady_since, contact.last_lost_at)
    return sum(number == contact.number for _, number in lost) >= config.pings.lost_after
