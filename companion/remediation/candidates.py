"""Collect what a sweep starts from: the feeds, the contacts that fail, and what is stored of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from companion.config import Config
from companion.remediation import policy, push
from companion.remediation.policy import Candidate
from companion.store.contacts import ContactRef, iterate_failing_contacts, load_contacts
from companion.store.locks import HeldLock
from companion.store.nodes import Feed, load_feeds
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
    `node_lost_after`. `contacts` counts those registered, by node, None before the first census.
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

    def cluster_nodes(self, cluster: str) -> list[str]:
        """Return the nodes of a cluster whose feeds exist and that are not lost."""
        return [node for node, feed in self.feeds.items() if feed.cluster == cluster and node not in self.lost_nodes]


def collect_fleet(config: Config, store: Store, turn: HeldLock, now: int, mode: str) -> Fleet:
    """Read what is failing: the cost is that of the candidates, never of the fleet."""
    feeds = load_feeds(store)
    candidates: defaultdict[str, list[Candidate]] = defaultdict(list)
    beginning: list[Contact] = []
    for contact in iterate_failing_contacts(store):
        candidate = policy.find_candidate(contact, config.remediation, config.pings.lost_after, now)
        if candidate and _is_certain(config, store, candidate, feeds):
            candidates[_home(contact, feeds)].append(candidate)
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
    )


def _home(contact: Contact, feeds: Mapping[str, Feed]) -> str:
    """Return the node under which a contact is handled: the one that can reach it, where its feed exists."""
    node = policy.reaching_node(contact)
    return node if node in feeds else contact.node


def _load_replacements(store: Store, candidates: Mapping[str, Sequence[Candidate]]) -> dict[str, Contact]:
    ghosts = [each.contact for group in candidates.values() for each in group if each.reason == "ghost"]
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
