"""Share the clusters among the consumers that hear them. No I/O.

Each consumer computes the same from the same reports, so nobody has to decide for all.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from collections.abc import Set as AbstractSet
from typing import Final

from companion.bus.envelope import Heartbeat
from companion.store.consumers import ConsumerReport

Hearing = Mapping[str, Mapping[str, int]]
"""How many nodes of each cluster a consumer hears: by consumer, then by cluster."""

SILENT_SECONDS: Final = 10.0
"""A node without a heartbeat for so long is not heard."""
LIVE_SECONDS: Final = 5.0
"""A consumer whose report did not change for so long is gone. Its leases run out later than that."""
STEADY_SECONDS: Final = 10.0
"""How long a cluster must be another one's before it is handed over: meanwhile that one keeps what comes."""
BEHIND_MS: Final = 10_000


def share(hearing: Hearing, holders: Mapping[str, str]) -> dict[str, str]:
    """Return which consumer is to hold each cluster that anybody hears.

    Whoever hears most of a cluster's nodes may hold it. Among these a holder keeps what it has, as long as nobody has
    two clusters less.

    Args:
        hearing: What each consumer hears.
        holders: The consumer that holds each cluster now; the clusters that nobody holds are left out.

    """
    choices = _find_choices(hearing)
    targets = {cluster: holders[cluster] for cluster in choices if holders.get(cluster) in choices[cluster]}
    loads = Counter(targets.values())
    for cluster in sorted(choices.keys() - targets.keys()):
        targets[cluster] = _least_loaded(choices[cluster], loads)
        loads[targets[cluster]] += 1
    while _move_one(targets, loads, choices):
        pass
    return targets


def _find_choices(hearing: Hearing) -> dict[str, list[str]]:
    """Return the consumers that hear most nodes of each cluster."""
    most: Counter[str] = Counter()
    for clusters in hearing.values():
        for cluster, count in clusters.items():
            most[cluster] = max(most[cluster], count)
    return {
        cluster: [consumer for consumer in sorted(hearing) if hearing[consumer].get(cluster) == count]
        for cluster, count in most.items()
        if count
    }


def _move_one(targets: MutableMapping[str, str], loads: Counter[str], choices: Mapping[str, Collection[str]]) -> bool:
    """Move a cluster to a consumer with two clusters less; False where there is none: the loads are even then."""
    for cluster in sorted(targets, reverse=True):
        target, other = targets[cluster], _least_loaded(choices[cluster], loads)
        if loads[target] - loads[other] > 1:
            targets[cluster] = other
            loads[target] -= 1
            loads[other] += 1
            return True
    return False


def _least_loaded(consumers: Iterable[str], loads: Mapping[str, int]) -> str:
    return min(consumers, key=lambda consumer: (loads[consumer], consumer))


class Shares:
    """Follow what consumers report, and tell what of ours others are to have, and what of theirs is not ours."""

    def __init__(
        self, owner: str, cluster_of: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._owner = owner
        self._cluster_of = cluster_of
        self._clock = clock
        self._beats: dict[str, float] = {}
        """When the last heartbeat of each node came."""
        self._reports: dict[str, tuple[ConsumerReport, float]] = {}
        """The last report of each other consumer, and when it came."""
        self._surplus_since: dict[str, float] = {}
        self._unheard_since: dict[str, float] = {}
        self.of_others: AbstractSet[str] = frozenset()
        """Clusters that another consumer is to take when they get free."""

    def hear(self, node: str, heartbeat: Heartbeat) -> None:
        """Note that a bridge lives."""
        if heartbeat.end:
            self._beats.pop(node, None)
        else:
            self._beats[node] = self._clock()

    def nodes(self) -> set[str]:
        """Return the nodes that we hear."""
        now = self._clock()
        self._beats = {node: at for node, at in self._beats.items() if now - at <= SILENT_SECONDS}
        return set(self._beats)

    def update(self, own: ConsumerReport, reports: Mapping[str, ConsumerReport], holders: Mapping[str, str]) -> None:
        """Take in our report, those of all other consumers, and who holds each cluster by the clusters' leases."""
        now = self._clock()
        self._take_reports(reports, now)
        live = {name: report for name, (report, at) in self._reports.items() if now - at <= LIVE_SECONDS}
        hearing = {name: self.count_nodes(report.nodes) for name, report in {**live, self._owner: own}.items()}
        targets = share(hearing, holders)
        others = {cluster for cluster, target in targets.items() if target != self._owner}
        self.of_others = {one for one in others if targets[one] != holders.get(one)}
        surplus = {one for one in others if holders.get(one) == self._owner}
        is_calm = not any(map(_is_behind, (own, *live.values())))
        self._surplus_since = _follow(self._surplus_since, surplus if is_calm else (), now)
        unheard = {node for node in own.nodes if self._is_unheard(node, targets, holders, live)}
        self._unheard_since = _follow(self._unheard_since, unheard, now)

    def surplus(self) -> set[str]:
        """Return the clusters that we hold and another consumer is to have, for long enough."""
        return _select_steady(self._surplus_since, self._clock())

    def hand_over(self, clusters: AbstractSet[str]) -> None:
        """Note that these clusters are released: the next reports tell who has them."""
        self._surplus_since = {one: at for one, at in self._surplus_since.items() if one not in clusters}
        self.of_others |= clusters

    def unheard(self) -> set[str]:
        """Return the nodes that we hear, but not the consumer that holds their cluster: nobody stores their events."""
        return _select_steady(self._unheard_since, self._clock())

    def _take_reports(self, reports: Mapping[str, ConsumerReport], now: float) -> None:
        """Keep when a report last changed, by our clock: those of other machines may differ."""
        before, self._reports = self._reports, {}
        for name, report in reports.items():
            last, at = before.get(name, (None, now))
            self._reports[name] = (report, at if last and last.at == report.at else now)

    def count_nodes(self, nodes: Iterable[str]) -> Counter[str]:
        """Return how many of these nodes each cluster has."""
        return Counter(map(self._cluster_of, nodes))

    def _is_unheard(
        self, node: str, targets: Mapping[str, str], holders: Mapping[str, str], live: Mapping[str, ConsumerReport]
    ) -> bool:
        holder = holders.get(self._cluster_of(node), "")
        return holder in live and node not in live[holder].nodes and targets[self._cluster_of(node)] == holder


def _is_behind(report: ConsumerReport) -> bool:
    """Return whether a consumer has enough to do, or can not write: nothing is to move now."""
    return bool(report.error) or report.at - report.behind_at < BEHIND_MS


def _follow(since: Mapping[str, float], present: Iterable[str], now: float) -> dict[str, float]:
    return {one: since.get(one, now) for one in present}


def _select_steady(since: Mapping[str, float], now: float) -> set[str]:
    return {one for one, at in since.items() if now - at >= STEADY_SECONDS}
