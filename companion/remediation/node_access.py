"""Open the MI and the prober of each configured node, and close them after a sweep."""

from companion.config import Config, OpensipsSection
from companion.opensips.mi import Mi, open_mi
from companion.opensips.probe import Prober


class NodeAccess:
    """Hold the open clients, one of each kind for a node."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._mi: dict[str, Mi] = {}
        self._probers: dict[str, Prober] = {}

    def tables(self, cluster: str) -> list[OpensipsSection]:
        """Return the configured nodes of a cluster."""
        return [table for table in self._config.opensips if self._config.cluster(table.node) == cluster]

    def mi(self, table: OpensipsSection) -> Mi:
        """Return the MI client of a node."""
        if table.node not in self._mi:
            self._mi[table.node] = open_mi(table)
        return self._mi[table.node]

    def prober(self, table: OpensipsSection) -> Prober | None:
        """Return the prober of a node, None where it has no `probe_url`."""
        if not table.probe_url:
            return None
        if table.node not in self._probers:
            self._probers[table.node] = Prober(table.probe_url, table.node)
        return self._probers[table.node]

    def can_ask(self, cluster: str) -> bool:
        """Return whether phones of a cluster can be asked through each of its nodes."""
        tables = self.tables(cluster)
        return bool(tables) and all(table.probe_url for table in tables)

    async def aclose(self) -> None:
        """Close all clients."""
        for mi in self._mi.values():
            await mi.aclose()
        for prober in self._probers.values():
            await prober.aclose()
        self._mi.clear()
        self._probers.clear()
