"""Record what the bus brings: apply it to the contacts and feeds in memory, and store what changed.

`take` applies messages at once, while they are warm in the processor's caches; `write` stores what changed since the
last write. Each read and write is repeated until Redis takes it, so an event is applied once and stored once.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import pairwise
from typing import Final

from companion import log, metrics
from companion.bus.envelope import Message, decode, decode_heartbeat
from companion.config import Config
from companion.consumer import corrector
from companion.consumer.applier import Applier
from companion.consumer.batch_writer import BatchWriter, LeaseLostError
from companion.consumer.corrector import Corrector
from companion.consumer.decoder import DecodedMessage, Decoder
from companion.consumer.expiry import Expiry
from companion.consumer.loader import Loader
from companion.consumer.memory import RecorderMemory
from companion.consumer.retry import GaveUpError, RedisRetry
from companion.consumer.standby import MAX_NODES, AnyMessage, Standby
from companion.consumer.tenure import Tenure
from companion.errors import InvalidEnvelopeError
from companion.store.connection import Command, ResponseError
from companion.store.devices import count_devices
from companion.store.fence import RolledBackError
from companion.store.nodes import load_nodes
from companion.store.server import read_state
from companion.store.store import Store

EXPIRY_SECONDS: Final = 5.0
CORRECTIONS_SECONDS: Final = 0.5
STORED_SECONDS: Final = 5.0
PART_EVENTS: Final = 2048
"""Events that are applied before other tasks run: about ten milliseconds of work."""
NEARLY_FULL: Final = 0.9
"""The share of its memory above which Redis gets no new devices: those that it has must go on."""

logger = log.get(__name__)


class Recorder:
    """Record the messages of the nodes that this consumer holds the lease of."""

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._memory = RecorderMemory(config)
        self._decoder = Decoder(self._memory.ping_caches)
        self._applier = Applier(self._memory)
        self._corrector = Corrector(store)
        self._standby = Standby()
        self._episodes = log.Episodes(logger)
        self._retry = RedisRetry()
        self.tenure = Tenure(config, store, self._retry, self._memory)
        self._writer = BatchWriter(store, self.tenure.leases, self._retry)
        self._loader = Loader(store, self._retry, self._memory)
        self._expiry = Expiry(store, self._retry, self._memory)
        self._expiry_at = 0.0
        self._corrections_at = 0.0
        self._stored_at = 0.0
        self._refused_queues: set[str] = set()
        self._gave_up = False
        """Whether something was not stored before the deadline: what comes by a queue must come again."""
        self._waiting: list[Message] = []
        self._writing: list[Message] = []
        self.pending = 0
        """Number of events that were taken and are not being written yet."""
        self._taking = asyncio.Lock()
        self._removed: list[str] = []
        self._may_evict = False

    @property
    def unstored(self) -> int:
        """Return how many events were taken and are not stored yet."""
        return self.pending + count_events(self._writing)

    def give_up_at(self, deadline: float) -> None:
        """Retry Redis no longer than until this time of the monotonic clock."""
        self._retry.give_up_at = deadline

    @property
    def others(self) -> AbstractSet[str]:
        """Return the nodes that other consumers record: their messages need not be decoded."""
        return self._standby.nodes

    async def take(self, messages: Sequence[AnyMessage]) -> None:
        """Apply messages, after reading from the store what they need."""
        async with self._taking:
            try:
                await self._take(messages)
            except (GaveUpError, ResponseError) as error:
                self._lose(count_events(messages), error)

    def note_queued(self, node: str) -> None:
        """Note that a node's messages come by a queue, of which one consumer has them at a time."""
        self._memory.feeds.queued.add(node)

    def refused_queues(self) -> list[str]:
        """Return the queued nodes of which messages were refused since the last call: another has their lease.

        They are to be given back. If the messages come again, no other consumer reads them. Then their lease is taken
        at once, because its holder died, or lost RabbitMQ.
        """
        nodes = sorted(self._refused_queues)
        self._refused_queues.clear()
        for node in nodes:
            self.tenure.leases.insist(node)
        return nodes

    def hear(self, heartbeat: Message) -> None:
        """Keep how far a run has come, by a heartbeat that may be ahead of the events."""
        with contextlib.suppress(InvalidEnvelopeError):  # it comes among the events too, and is counted there
            params = decode_heartbeat(heartbeat.events[0][1])
            self._memory.feeds.ends.hear(heartbeat.node, heartbeat.run, params)
            self.tenure.hear(heartbeat.node, params)

    async def tick(self, now: int) -> None:
        """Run the periodic work that is due; `now` (by `steady_ms`) is the last time when no message waited."""
        all_live = self._memory.feeds.watch(now)
        if self.tenure.is_due():
            await self.take(())
        if time.monotonic() >= self._expiry_at:
            self._expiry_at = time.monotonic() + EXPIRY_SECONDS
            await self._do(self._expiry.run if all_live else self._drop_forgotten)
        if time.monotonic() >= self._corrections_at:
            self._corrections_at = time.monotonic() + CORRECTIONS_SECONDS
            await self._do(self._correct)

    async def write(self) -> bool:
        """Store what was taken, and return whether all of it is; what can not be stored in time is counted as lost."""
        is_stored = False
        self._writing, self._waiting = self._waiting, []
        count, self.pending = self.pending, 0
        held = list(self._memory.feeds.held)
        tokens = dict(self.tenure.leases.tokens)
        if not tokens.keys() >= set(held):  # a lease was lost while we asked for that of another node
            await self._start_over()
            return False
        own = {node: tokens[node] for node in held}
        prepared = self._writer.prepare(self._memory.usrloc.changes.take(), own, count)
        progress, applied = self._progress(tokens), self._corrector.deletions()
        metrics.BATCH_SIZE.observe(count)
        self._count_ignored()
        self._memory.count_left_out()
        try:
            await self._writer.write(held, prepared, progress, applied)
            is_stored = not self._gave_up
            if time.monotonic() >= self._stored_at:
                await self._note_stored()
            self._memory.usrloc.changes.settle()
            self._removed += prepared.removed
            self._may_evict = True
            await self._hand_over()
        except LeaseLostError:
            await self._start_over()
        except RolledBackError:
            metrics.ROLLBACKS.inc()
            logger.warning("Redis lost what was written to it: the last batches are written again, contacts compared")
            await self._read_again()
        except (GaveUpError, ResponseError) as error:
            async with self._taking:
                self._lose(count, error)
        self._writing = []
        return is_stored

    def current_error(self) -> Exception | None:
        """Return why Redis does not take our events now, None when it does."""
        return self._retry.current_error()

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._taking:
            if self.tenure.is_leaving:  # nothing of these clusters may change any more
                return
            try:
                await work()
            except (GaveUpError, ResponseError) as error:
                self._lose(0, error)

    # Taking

    async def _take(self, messages: Sequence[AnyMessage]) -> None:
        """Apply messages in parts. While a part is applied, what the next one needs is read."""
        self._tidy()
        ours = await self._keep_ours(messages)
        reading: asyncio.Task[list[DecodedMessage]] | None = None
        try:
            for part, following in pairwise([*_split(ours), []]):
                batch = await (reading or self._read(part))
                reading = asyncio.create_task(self._read(following)) if following else None
                await asyncio.sleep(0)  # it asks Redis before we are busy
                await self._loader.load_own_removals(batch)
                self._applier.apply(batch)
        finally:
            if reading:
                reading.cancel()  # what it read would come into a memory that was cleared
        self._waiting += ours
        self.pending += count_events(ours)

    def _tidy(self) -> None:
        """Let go of what the last batch stored. Nothing is being read now that would rely on it."""
        if self._may_evict:
            self._may_evict = False
            self._memory.usrloc.devices.settle_removed(self._removed)
            self._removed.clear()
            self._memory.evict()

    async def _read(self, messages: Sequence[Message]) -> list[DecodedMessage]:
        """Decode messages, and read from the store what they need."""
        batch = [self._decoder.decode(message) for message in messages]
        await self._loader.load(batch)
        return batch

    async def _keep_ours(self, messages: Sequence[AnyMessage]) -> list[Message]:
        """Return the messages of nodes that we hold the lease of; put those of other nodes on standby."""
        if await self.tenure.take_over({message.node for message in messages} - self.tenure.held):
            await self._note_stored()
        held = self.tenure.held - self.tenure.leaving
        kept = self._memory.feeds.drop_repeats(_unpack(self._standby.take(held)))
        ours: list[AnyMessage] = []
        for message in messages:
            if message.node in held:
                ours.append(message)
            elif message.node in self._memory.feeds.queued:
                self._refused_queues.add(message.node)
            elif not self._standby.put(message):
                metrics.INVALID.labels("bus", "nodes").inc()
                self._episodes.warn("messages of too many nodes were refused", limit=MAX_NODES)
        return [*kept, *_unpack(ours)]

    async def _hand_over(self) -> None:
        """Release the clusters whose last events are stored by now, and take no more of those that go next."""
        if self.tenure.is_leaving:
            async with self._taking:
                await self.tenure.release_leaving()
        elif not self._retry.current_error() and (surplus := self.tenure.surplus()):
            async with self._taking:
                self.tenure.leave(surplus)

    # Periodic work

    async def _drop_forgotten(self) -> None:
        """Drop silent nodes that an administrator had forgotten: otherwise they would stop the expiry of contacts."""
        if self._memory.feeds.held:
            stored = await self._retry.run(partial(load_nodes, self._store))
            self._memory.drop_forgotten(stored)

    async def _correct(self) -> None:
        """Apply the corrections of our nodes' contacts; the next write deletes them from their stream."""
        for node, feed in list(self._memory.feeds.held.items()):
            if node in self._memory.feeds.late:
                continue  # they are of now, and older events still wait in the queue
            entries = await self._retry.run(partial(self._corrector.read, node))
            if entries:
                batch = corrector.decode(entries)
                contacts = corrector.unloaded(batch, self._memory.usrloc)
                await self._loader.load_bindings(contacts)
                self._corrector.apply(entries, batch, self._memory.usrloc, feed)

    # Writing

    async def _note_stored(self) -> None:
        """Note how many devices Redis holds, and whether it is nearly full."""
        self._stored_at = time.monotonic() + STORED_SECONDS
        devices, is_full = await self._retry.run(self._read_stored)
        self._memory.note_stored(devices, is_full=is_full)

    def _read_stored(self) -> tuple[int, bool]:
        state = read_state(self._store)
        is_full = state is not None and state.used_bytes > NEARLY_FULL * state.max_bytes > 0
        return count_devices(self._store), is_full

    def _count_ignored(self) -> None:
        ignored = self._memory.usrloc.ignored
        while ignored:
            why, count = ignored.popitem()
            metrics.IGNORED.labels(why).inc(count)

    def _progress(self, tokens: Mapping[str, str]) -> list[Command]:
        """Return the commands that store how far the events of this batch have come."""
        usrloc = self._memory.usrloc
        return self._memory.feeds.progress(self._store.keys, usrloc.ends.removals, usrloc.intervals, tokens)

    # Losing

    async def _start_over(self) -> None:
        """Take unwritten messages again after a lease was lost, as far as they are still ours."""
        async with self._taking:
            unwritten = [*self._writing, *self._waiting, *self._standby.take(self.tenure.leaving)]
            self._forget_all()
            try:
                await self._take(unwritten)
            except (GaveUpError, ResponseError) as error:
                self._lose(count_events(unwritten), error)

    async def _read_again(self) -> None:
        """Write the last batches again, and drop the contacts in memory: Redis lost some of what they rest on.

        It may have lost more than these batches. The feeds are kept, for their events came. Unsettled, they have the
        contacts compared with those of OpenSIPS.
        """
        async with self._taking:
            self._memory.feeds.note_rollback()
            held, tokens = list(self._memory.feeds.held), dict(self.tenure.leases.tokens)
            own = {node: tokens[node] for node in held}
            self._writer.prepare(self._memory.usrloc.changes.take(), own, self.pending)
            progress = self._progress(tokens)
            self._writing, self._waiting, self.pending = [*self._writing, *self._waiting], [], 0
            self._memory.drop_contacts()
            self._corrector.clear()
            is_ours = True
            try:
                await self._writer.write_again(held, progress)
            except LeaseLostError:
                is_ours = False
            except (GaveUpError, ResponseError) as error:
                self._lose(count_events(self._writing), error)
        if not is_ours:
            await self._start_over()

    def _lose(self, count: int, error: Exception) -> None:
        self._gave_up = self._gave_up or isinstance(error, GaveUpError)
        count += self.pending
        metrics.DROPPED.labels("consumer").inc(count)
        logger.warning("events could not be stored and are lost", count=count, error=str(error)[:200])
        self._forget_all()

    def _forget_all(self) -> None:
        """Drop taken messages and the memory, which may differ from what is stored: it is read again."""
        self._waiting = []
        self.tenure.leave(frozenset())
        self.pending = 0
        self._memory.clear()
        self._corrector.clear()
        self._writer.clear()


def _split(messages: Sequence[Message]) -> list[list[Message]]:
    """Split messages into parts of at least PART_EVENTS events, the last one of fewer."""
    parts: list[list[Message]] = []
    events = PART_EVENTS
    for message in messages:
        if events >= PART_EVENTS:
            parts.append([])
            events = 0
        parts[-1].append(message)
        events += len(message.events)
    return parts


def _unpack(messages: Iterable[AnyMessage]) -> Iterator[Message]:
    """Decode the messages that still have to be; what can not be decoded is counted."""
    for message in messages:
        if isinstance(message, Message):
            yield message
            continue
        try:
            yield decode(message.topic, message.body)
        except InvalidEnvelopeError as error:
            metrics.INVALID.labels("bus", error.reason).inc()


def count_events(messages: Sequence[AnyMessage]) -> int:
    return sum(message.weight for message in messages)
