"""Hold the nodes that this consumer records: take them over, share them with other consumers, hand them over."""

import asyncio
import contextlib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from companion import log, metrics
from companion.bus.envelope import Heartbeat
from companion.config import Config
from companion.consumer.memory import RecorderMemory
from companion.consumer.retry import GaveUpError, RedisRetry
from companion.consumer.shares import Shares
from companion.consumer.standby import MAX_NODES
from companion.store.connection import ResponseError, Unreachable
from companion.store.consumers import ConsumerReport, forget_consumer, save_consumer
from companion.store.leases import RENEW_SECONDS, Leases, load_cluster_holders
from companion.store.nodes import Feed, load_feed
from companion.store.redis_errors import RedisError
from companion.store.store import Store

logger = log.get(__name__)


class Tenure:
    """Hold the leases of our nodes, whose feeds are in memory."""

    def __init__(self, config: Config, store: Store, retry: RedisRetry, memory: RecorderMemory) -> None:
        self._store = store
        self._retry = retry
        self._memory = memory
        self.leases = Leases(store, cluster_of=config.cluster)
        self._shares = Shares(self.leases.owner, config.cluster)
        self._unheard: set[str] = set()
        self._unheld: AbstractSet[str] = frozenset()
        """The nodes that we hear and do not hold."""
        self._leaving: AbstractSet[str] = frozenset()
        """Clusters of which we take no more, and which are released when what was taken is stored."""

    @property
    def held(self) -> AbstractSet[str]:
        """Return the nodes that we hold."""
        return self._memory.feeds.held.keys()

    @property
    def leaving(self) -> AbstractSet[str]:
        """Return those of them that are to be handed over."""
        if not self._leaving:
            return frozenset()
        return {node for node, feed in self._memory.feeds.held.items() if feed.cluster in self._leaving}

    @property
    def is_leaving(self) -> bool:
        """Return whether clusters are to be handed over, also such of which no node is in memory."""
        return bool(self._leaving)

    def hear(self, node: str, heartbeat: Heartbeat) -> None:
        """Note that a node's bridge lives."""
        self._shares.hear(node, heartbeat)
        self._unheld |= {node} - self.held

    def nodes(self) -> tuple[str, ...]:
        """Return the nodes that we hear and could record."""
        held = self.held
        return tuple(sorted(node for node in self._shares.nodes() if node in held or len(held) < MAX_NODES))

    # Taking over

    def is_due(self) -> bool:
        """Return whether it is time to try for a lease that we do not hold."""
        return bool(self.leases.select_due(self._unheld))

    async def take_over(self, others: AbstractSet[str]) -> bool:
        """Take over what is free of these nodes and of all others that we hear, when it is time to try."""
        others |= self._unheld
        if not self.leases.select_due(others):
            return False
        feeds = await self._retry.run(lambda: self._try_to_hold(others - self.held))
        for feed, seqs in feeds:
            self._memory.take_over(feed, seqs)
        if feeds:
            self._unheld -= self.held
        return bool(feeds)

    def _try_to_hold(self, others: Iterable[str]) -> list[tuple[Feed, dict[str, int]]]:
        """Take over the nodes that have no other holder, and return their feeds and seqs.

        Whether we still hold the rest, the next write checks.
        """
        room = MAX_NODES - len(self.held)
        return [load_feed(self._store, node) for node in self.leases.hold_all(sorted(others)[: max(0, room)])]

    async def keep(self) -> None:
        """Renew our leases until cancelled: on a busy machine, or with a busy Redis, one write may outlast a lease."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(*Unreachable, ResponseError):  # the next write says so
                await self._retry.run_once(self.leases.renew)

    # Sharing

    async def report(self, report: ConsumerReport) -> None:
        """Store how we are, and learn how others are. Whether it succeeds does not matter: the next one comes soon."""
        with contextlib.suppress(RedisError):
            reports, holders = await self._retry.run_once(lambda: self._exchange(report))
            self._shares.update(report, reports, holders)
            self.leases.shares_of_others = self._shares.of_others
            self._unheld = self._shares.nodes() - self.held
            self._warn_of_unheard()

    def _exchange(self, report: ConsumerReport) -> tuple[dict[str, ConsumerReport], dict[str, str]]:
        reports = save_consumer(self._store, self.leases.owner, report)
        nodes = {node for one in (report, *reports.values()) for node in one.nodes}
        return reports, load_cluster_holders(self._store, self._shares.count_nodes(nodes))

    def _warn_of_unheard(self) -> None:
        """Warn of nodes that nobody records, once until it is over."""
        unheard = self._shares.unheard()
        for node in sorted(unheard - self._unheard):
            metrics.UNHEARD.labels(node).inc()
            logger.warning(
                "nobody records a node: the consumer of its cluster does not hear it",
                node=node,
                remedy="[consumer] subscribe must name every node of a cluster in each consumer",
            )
        self._unheard = unheard

    # Handing over

    def surplus(self) -> AbstractSet[str]:
        """Return the clusters that we hold and another consumer is to have."""
        return self._shares.surplus()

    def leave(self, clusters: AbstractSet[str]) -> None:
        """Take no more of these clusters, in place of those before."""
        self._leaving = clusters

    async def release_leaving(self) -> None:
        """Release the clusters whose last events are stored by now.

        The other consumer goes on from the stored seqs with what it kept. It hears of a free lease when it tries.
        """
        leaving, self._leaving = self._leaving, frozenset()
        logger.info("handing over to another consumer", clusters=sorted(leaving))
        self._memory.hand_over(leaving)
        self._shares.hand_over(leaving)
        self.leases.shares_of_others = self._shares.of_others
        with contextlib.suppress(RedisError):  # then the leases run out
            await self._retry.run_once(lambda: self.leases.give_up(leaving))

    async def close(self) -> None:
        """Release our leases, so that the next consumer need not wait for their end."""
        try:
            await self._retry.run(self._release)
        except GaveUpError:
            logger.warning("the leases could not be released; another consumer takes over when they run out")

    def _release(self) -> None:
        self.leases.release()
        forget_consumer(self._store, self.leases.owner)
