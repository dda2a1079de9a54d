"""Keep the traces of all OpenSIPS in line with the recordings: renew them, end them on time, stop what was left."""

import asyncio
import time
from typing import Final

from companion import log, metrics
from companion.config import Config
from companion.recording.audit import record_end
from companion.recording.nodes import load_recorded, update_nodes
from companion.recording.plan import NodePlan, plan_traces
from companion.store.recordings import delete_recording, load_recordings
from companion.store.store import Store
from companion.times import now_ms

EVERY_SECONDS: Final = 1.0
"""A page reload brings a new contact: its trace must be there before the next request to it."""
CHECK_SECONDS: Final = 5.0
"""How often the traces of OpenSIPS are compared while something is recorded: it may have restarted."""
IDLE_CHECK_SECONDS: Final = 60.0
"""How often they are while nothing is: a companion that died may have left some."""

logger = log.get(__name__)


class RecordingJob:
    """Run periodically; several companions may do so at once."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._plan: dict[str, NodePlan] = {}
        self._ours: set[str] = set()
        self._checked_at = float("-inf")
        self._episodes = log.Episodes(logger)
        self._can_record = bool(config.bridge.hep or any(table.hep_to for table in config.opensips))

    async def run(self) -> None:
        """End what is over, and update the nodes when something changed or a check is due."""
        if not self._can_record or not self._config.opensips:
            return
        ended = await asyncio.to_thread(end_overdue, self._store)
        recorded = await asyncio.to_thread(load_recorded, self._store)
        plan = plan_traces(recorded, self._config)
        self._ours |= {*ended, *(one.device.id for one in recorded)}
        if plan == self._plan and time.monotonic() - self._checked_at < self._pause(plan):
            return
        failures = await update_nodes(self._config, self._store, self._ours)
        self._plan, self._checked_at = plan, time.monotonic()
        if failures and recorded:
            self._episodes.warn("traces can not be started or stopped", failures=failures)
        if not failures:
            self._ours = {one.device.id for one in recorded}

    def _pause(self, plan: dict[str, NodePlan]) -> float:
        return CHECK_SECONDS if any(plan.values()) or self._ours else IDLE_CHECK_SECONDS


def end_overdue(store: Store) -> list[str]:
    """Delete the recordings that are over, and return their devices."""
    now = now_ms()
    over = [one for one in load_recordings(store).values() if one.is_over(now)]
    for recording in over:
        if delete_recording(store, recording.device):
            record_end(store, recording)
            metrics.RECORDINGS.labels("ended").inc()
            logger.info("a recording has ended", device=recording.device)
    return [one.device for one in over]
