"""Write batches as the holder of their nodes' leases, and write the last ones again after Redis lost some."""

from collections.abc import Mapping, Sequence

from companion import log, metrics
from companion.consumer.retry import RedisRetry
from companion.consumer.rewind import Rewind
from companion.store.batch import Batch, Prepared
from companion.store.connection import Command, NotNowError
from companion.store.fence import FencedError, RolledBackError
from companion.store.leases import Leases
from companion.store.store import Store
from companion.usrloc.changes import Changes

logger = log.get(__name__)


class LeaseLostError(Exception):
    """Report that another consumer took over a node while Redis was away."""


class BatchWriter:
    """Write batches, each until Redis takes it.

    Its methods raise LeaseLostError when another consumer took over one of the nodes, and GaveUpError when Redis does
    not take a batch in time.
    """

    def __init__(self, store: Store, leases: Leases, retry: RedisRetry) -> None:
        self._connection = store.connection
        self._batch = Batch(store)
        self._leases = leases
        self._retry = retry
        self._rewind = Rewind()

    def prepare(self, changes: Changes, tokens: Mapping[str, str], events: int) -> Prepared:
        """Copy what is to be written of so many events, and keep it for a time. `tokens`: those of our nodes."""
        prepared = self._batch.prepare(changes, tokens)
        self._rewind.keep(prepared, events)
        return prepared

    async def write(
        self, nodes: Sequence[str], prepared: Prepared, progress: Sequence[Command], applied: Sequence[Command]
    ) -> None:
        """Write a batch of these nodes, then their progress, and delete the corrections that are `applied` by then.

        Raises RolledBackError when Redis lost what was written before.
        """
        await self._retry.run(lambda: self._write(nodes, [prepared], progress, applied))
        if progress:  # without it nobody would notice that Redis lost what was before
            self._rewind.trim()

    async def write_again(self, nodes: Sequence[str], progress: Sequence[Command]) -> None:
        """Write the batches of the last seconds again, from the first one if Redis loses some of them meanwhile."""
        batches = self._rewind.batches()
        await self._retry.run(lambda: self._write_all(nodes, batches, progress))
        self._rewind.trim()

    def clear(self) -> None:
        """Forget the batches of the last seconds: another consumer may have written since."""
        self._rewind.clear()

    def _write_all(self, nodes: Sequence[str], batches: Sequence[Prepared], progress: Sequence[Command]) -> None:
        try:
            self._write(nodes, batches, progress, ())
        except RolledBackError as error:
            raise NotNowError(str(error)) from None

    def _write(
        self, nodes: Sequence[str], batches: Sequence[Prepared], progress: Sequence[Command], applied: Sequence[Command]
    ) -> None:
        """Write batches in their order. Blocking."""
        lost = [node for node in nodes if not self._leases.hold(node)]
        if lost:
            logger.warning("another consumer took over", nodes=lost)
            raise LeaseLostError
        with metrics.WRITE_SECONDS.time():
            try:
                for number, prepared in enumerate(batches, 1):
                    self._batch.write(prepared, progress if number == len(batches) else ())
            except FencedError as error:
                self._leases.lose(error.token)
                metrics.FENCED.inc()
                logger.warning("another consumer took over, and wrote since: this batch was refused")
                raise LeaseLostError from None
            self._connection.pipeline(applied)
