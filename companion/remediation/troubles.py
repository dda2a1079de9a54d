"""Find what holds remediation back: pauses, feeds that can not be trusted, mass events."""

from companion import log
from companion.config import Config
from companion.remediation import audit, safety, suspects
from companion.remediation.breaker import NETWORK, Group, GroupTotals, collect_failures, count_group, update_breaker
from companion.remediation.candidates import Fleet
from companion.remediation.node_access import NodeAccess
from companion.remediation.safety import ClockWatch
from companion.store.breakers import load_breakers, save_breaker
from companion.store.networks import load_network_counts
from companion.store.nodes import Feed, load_feed
from companion.store.store import Store
from companion.store.sweeps import load_last_sweep, load_off_at, load_pause_ms
from companion.times import now_ms

logger = log.get(__name__)


class Troubles:
    """Find what speaks against acting, at the start of a sweep and again before each action."""

    def __init__(self, config: Config, store: Store, access: NodeAccess, clock: ClockWatch) -> None:
        self._config = config
        self._settings = config.remediation
        self._store = store
        self._access = access
        self._clock = clock

    def read_mode(self) -> str:
        """Return the mode that holds now: `companion remediation off` needs no restart."""
        return "observe" if load_off_at(self._store) else self._settings.mode

    def find(self, fleet: Fleet) -> None:
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

    def find_change(self, node: str, fleet: Fleet) -> str:
        """Return what changed since the sweep began, which may be minutes ago; "" when all that counts still holds."""
        if not fleet.turn.renew():
            return "the turn was lost to another companion"
        if self.read_mode() != fleet.mode:
            return "the mode was changed"
        for other in (node, *fleet.cluster_nodes(fleet.feeds[node].cluster)):
            if load_feed(self._store, other)[0].steady_since != fleet.feeds[other].steady_since:
                return "events are missing"
        return self._trouble(node, fleet, now_ms())

    def _trouble(self, node: str, fleet: Fleet, now: int) -> str:
        """Return what speaks against acting on a node's contacts: a trouble of any node of its cluster."""
        if load_pause_ms(self._store):
            return "remediation is paused"
        if self._clock.distrusts(self._settings.warm_up or safety.TRUSTED_INTERVALS * self._config.pings.interval):
            return "the clock was set"
        if suspects.has_too_many(self._store, self._settings.suspects_per_hour, now):
            return "too many removed phones came back at once"
        if node in fleet.lost_nodes or node not in fleet.feeds:
            return "its feed is silent"
        nodes = fleet.cluster_nodes(fleet.feeds[node].cluster)
        feeds = {other: load_feed(self._store, other)[0] for other in (node, *nodes)}
        contacts = fleet.contacts or {}
        troubles = {
            other: self._feed_trouble(feed, now, is_idle=other != node and safety.is_idle(feed, contacts.get(other, 0)))
            for other, feed in feeds.items()
        }
        others = (f"{why} ({other})" for other, why in troubles.items() if why and other != node)
        return troubles[node] or next(others, "")

    def _feed_trouble(self, feed: Feed, now: int, *, is_idle: bool) -> str:
        return safety.find_trouble(feed, self._settings, self._config.pings, now, is_idle=is_idle)

    def _check_breakers(self, fleet: Fleet) -> None:
        undecided = [
            candidate.contact
            for group in fleet.candidates.values()
            for candidate in group
            if candidate.reason != "doubted"
            and not audit.is_decided(fleet.states[candidate.contact.id].decided, candidate, fleet.mode)
        ]
        failures = collect_failures([*undecided, *(fleet.beginning if undecided else ())])
        groups = sorted({*failures, *fleet.feeds, *_load_open_networks(self._store)})
        networks = [name.removeprefix(NETWORK) for name in groups if name.startswith(NETWORK)]
        totals = GroupTotals(fleet.contacts or {}, load_network_counts(self._store, networks))
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
        """Return whether questions can tell dead phones of a group from a dead network: not within one network.

        The phone that shows that the way works may be in another one.
        """
        if group.startswith(NETWORK):
            return False
        clusters = {feed.cluster for feed in fleet.feeds.values()}
        if group in fleet.feeds:
            clusters = {fleet.feeds[group].cluster}
        return all(self._access.can_ask(cluster) for cluster in clusters)


def _load_open_networks(store: Store) -> list[str]:
    """Return the networks whose breakers were open after the last sweep."""
    return load_last_sweep(store).get("networks", "").split()
