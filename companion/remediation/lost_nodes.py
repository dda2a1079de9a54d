"""Tell which nodes are gone: no feed and no MI for longer than `node_lost_after`.

Such a node no longer holds back the others of its cluster. It may be alive and only cut off from us, so nothing is
removed that it may still reach.
"""

from collections.abc import Mapping

from companion.config import Config, OpensipsSection
from companion.errors import MiError
from companion.remediation.node_access import NodeAccess
from companion.store.nodes import Feed


class LostNodes:
    """Remember since when the MI of each silent node does not answer. Times are epoch ms."""

    def __init__(self, config: Config, access: NodeAccess) -> None:
        self._config = config
        self._access = access
        self._mi_gone_since: dict[str, int] = {}

    async def find(self, feeds: Mapping[str, Feed], now: int) -> frozenset[str]:
        """Return the nodes that are lost."""
        lost = set()
        for node, feed in feeds.items():
            if feed.is_alive(now):
                self._mi_gone_since.pop(node, None)
            elif await self._is_lost(node, feed, now):
                lost.add(node)
        return frozenset(lost)

    async def _is_lost(self, node: str, feed: Feed, now: int) -> bool:
        table = next((table for table in self._config.opensips if table.node == node), None)
        if table is not None and await self._answers(table):
            self._mi_gone_since.pop(node, None)
            return False
        since = self._mi_gone_since.setdefault(node, now)
        return now - max(since, feed.heartbeat_at) >= self._config.remediation.node_lost_after * 1000

    async def _answers(self, table: OpensipsSection) -> bool:
        try:
            await self._access.mi(table).uptime_seconds()
        except MiError:
            return False
        return True
