"""Watch whether the companion is ready: read the situation, judge them, and log each change."""

import asyncio
import time
from typing import Final, NamedTuple

from companion import log
from companion.config import Config
from companion.errors import ShardingError, StoreFormatError
from companion.http.monitoring.evictions import Evictions
from companion.http.monitoring.single_read import SingleRead
from companion.query.now import View, load_view
from companion.query.readiness import Reason, Situation, find_reasons
from companion.store.consumers import load_consumers
from companion.store.format import check_format
from companion.store.jobs import load_job_runs
from companion.store.redis_errors import RedisError, explain, find_remedy
from companion.store.server import read_state
from companion.store.shards import check_shards
from companion.store.store import Store

PATIENCE_SECONDS: Final = 0.5
"""A probe waits no longer for Redis: it has an answer within a second."""
AWAY_SECONDS: Final = 5.0
"""For so long the last judgement holds while Redis does not answer: a pause of Redis does not come and go."""
POLL_SECONDS: Final = 2.0
START_SECONDS: Final = 20.0
"""Until so long after its start a companion may still become ready without a word in the log."""

logger = log.get(__name__)


class Readiness(NamedTuple):
    """Hold why the companion is not ready, and the view that this was derived from (None without Redis)."""

    reasons: list[Reason]
    view: View | None = None


class Watch:
    """Judge on request and, while it runs, every POLL_SECONDS, in a thread and with a patience of its own."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._evictions = Evictions()
        self._read = SingleRead("readiness", self._judge, PATIENCE_SECONDS)
        self._last: Readiness | None = None
        self._last_at = float("-inf")
        self._names: frozenset[str] = frozenset()
        self._started_at = time.monotonic()
        self._was_ready = False
        self._episodes = log.Episodes(logger)

    async def run(self, *, logs_changes: bool = True) -> None:
        """Judge again and again, so that evictions and changes are noticed when nobody asks."""
        while True:
            try:
                judgement = await self.judge()
                if logs_changes:
                    self._log_change(judgement)
            except Exception as error:  # noqa: BLE001 - the next turn may succeed
                self._episodes.warn("readiness could not be judged", exc_info=error)
            await asyncio.sleep(POLL_SECONDS)

    async def judge(self) -> Readiness:
        """Return why the companion is not ready, within a second."""
        try:
            return await self._read.wait_async()
        except (RedisError, OSError, TimeoutError) as error:
            return self._judge_without_redis(error)

    def judge_in_thread(self) -> Readiness:
        """Return the same to a caller without an event loop."""
        try:
            return self._read.wait()
        except (RedisError, OSError, TimeoutError) as error:
            return self._judge_without_redis(error)

    def start(self) -> None:
        """Begin to read, for a caller that has something else to wait for first."""
        self._read.start()

    def _judge(self) -> Readiness:
        view = load_view(self._config, self._store)
        server = read_state(self._store)
        if server:
            self._evictions.observe(server, view.clock.now)
        situation = Situation(
            now=view.clock.now,
            feeds=view.feeds,
            consumers=load_consumers(self._store),
            jobs=load_job_runs(self._store),
            server=server,
            evicted_at=self._evictions.at,
            format_error=_read_format_error(self._store),
        )
        self._last, self._last_at = Readiness(find_reasons(situation), view), time.monotonic()
        return self._last

    def _judge_without_redis(self, error: Exception) -> Readiness:
        self._episodes.warn("Redis does not answer readers", **explain(error))
        if self._last and time.monotonic() - self._last_at < AWAY_SECONDS:
            return self._last
        text = f"Redis does not answer: {type(error).__name__}; {find_remedy(error)}"
        return Readiness([Reason("redis-away", text)])

    def _log_change(self, judgement: Readiness) -> None:
        names = frozenset(reason.name for reason in judgement.reasons)
        self._was_ready |= not names
        is_starting = not self._was_ready and time.monotonic() - self._started_at < START_SECONDS
        if names != self._names and not is_starting:
            self._names = names
            if names:
                logger.warning("not ready", reasons=[reason.text for reason in judgement.reasons])
            else:
                logger.info("ready")


def _read_format_error(store: Store) -> str:
    """Return why we can not read the data, which may have been migrated or moved to other shards since our start."""
    try:
        check_format(store.connection, store.keys)
        check_shards(store.connection, store.keys)
    except (StoreFormatError, ShardingError) as error:
        return str(error)
    return ""
