"""Find out that Redis evicts keys, by the counter of the server."""

from companion import log
from companion.store.server import ServerState

logger = log.get(__name__)


class Evictions:
    """Compare each state of the server with the one before. `at`: when it was last seen to evict, epoch ms."""

    def __init__(self) -> None:
        self.at = 0
        self._run_id = ""
        self._evicted = 0
        self._episodes = log.Episodes(logger)

    def observe(self, server: ServerState, now: int) -> None:
        """Compare the counter; that of another server, or after a restart, begins anew and is only remembered."""
        evicted = server.evicted_keys - self._evicted if server.run_id == self._run_id else 0
        self._run_id, self._evicted = server.run_id, server.evicted_keys
        if evicted > 0:
            self.at = now
            self._episodes.warn(
                "Redis evicts keys: devices and their history vanish",
                evicted=evicted,
                policy=server.policy,
                remedy="redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf; raise maxmemory",
            )
