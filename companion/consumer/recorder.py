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
from companion.consumer.corrector import Corrector
from companion.consumer.decoder import DecodedMessage, Decoder
from companion.consumer.expiry import Expiry
from companion.consumer.loader import Loader
from companion.consumer.memory import RecorderMemory
from companion.consumer.retry import GaveUpError, RedisRetry
from companion.consumer.rewind import Rewind
from companion.consumer.shares import Shares
from companion.consumer.standby import MAX_NODES, AnyMessage, Standby
from companion.errors import InvalidEnvelopeError
from companion.store.batch import Batch, Prepared
from companion.store.connection import Command, NotNowError, ResponseError, Unreachable
from companion.store.consumers import ConsumerReport, forget_consumer, save_consumer
from companion.store.devices import count_devices
from companion.store.fence import FencedError, RolledBackError
from companion.store.leases import RENEW_SECONDS, Leases, load_cluster_holders
from companion.store.nodes import Feed, load_feed, load_nodes
from companion.store.redis_errors import RedisError
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


class _LeaseLostError(Exception):
    """Report that another consumer took over a node while Redis was away."""


class Recorder:
    """Record the messages of the nodes that this consumer holds the lease of."""

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._batch = Batch(store)
        self._leases = Leases(store, cluster_of=config.cluster)
        self._shares = Shares(self._leases.owner, config.cluster)
        self._leaving: set[str] = set()
        """Clusters of which we take no more, and which are released when what was taken is stored."""
        self._memory = RecorderMemory(config)
        self._decoder = Decoder(self._memory.ping_caches)
        self._applier = Applier(self._memory)
        self._corrector = Corrector(store)
        self._standby = Standby()
        self._unheard: set[str] = set()
        self._unheld: AbstractSet[str] = frozenset()
        """The nodes that we hear and do not hold."""
        self._episodes = log.Episodes(logger)
        self._retry = RedisRetry()
        self._rewind = Rewind()
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
            self._leases.insist(node)
        return nodes

    def hear(self, heartbeat: Message) -> None:
        """Keep how far a run has come, by a heartbeat that may be ahead of the events."""
        with contextlib.suppress(InvalidEnvelopeError):  # it comes among the events too, and is counted there
            params = decode_heartbeat(heartbeat.events[0][1])
            self._memory.feeds.ends.hear(heartbeat.node, heartbeat.run, params)
            self._shares.hear(heartbeat.node, params)
            self._unheld |= {heartbeat.node} - self._memory.feeds.held.keys()

    def nodes(self) -> tuple[str, ...]:
        """Return the nodes that we hear and could record."""
        held = self._memory.feeds.held
        return tuple(sorted(node for node in self._shares.nodes() if node in held or len(held) < MAX_NODES))

    async def tick(self, now: int) -> None:
        """Run the periodic work that is due; `now` (by `steady_ms`) is the last time when no message waited."""
        all_live = self._memory.feeds.watch(now)
        if self._leases.select_due(self._unheld):
            await self.take(())
        if time.monotonic() >= self._expiry_at:
            self._expiry_at = time.monotonic() + EXPIRY_SECONDS
            await self._do(self._expiry.run if all_live else self._drop_forgotten)
        if time.monotonic() >= self._corrections_at:
            self._corrections_at = time.monotonic() + CORRECTIONS_SECONDS
            await self._do(self._correct)

    async def keep_leases(self) -> None:
        """Renew our leases until cancelled: on a busy machine, or with a busy Redis, one write may outlast a lease."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(*Unreachable, ResponseError):  # the next write says so
                await self._retry.run_once(self._leases.renew)

    async def write(self) -> bool:
        """Store what was taken, and return whether all of it is; what can not be stored in time is counted as lost."""
        is_stored = False
        self._writing, self._waiting = self._waiting, []
        count, self.pending = self.pending, 0
        held = list(self._memory.feeds.held)
        tokens = dict(self._leases.tokens)
        if not tokens.keys() >= set(held):  # a lease was lost while we asked for that of another node
            await self._start_over()
            return False
        prepared = self._batch.prepare(self._memory.usrloc.changes.take(), {node: tokens[node] for node in held})
        progress, applied = self._progress(tokens), self._corrector.deletions()
        self._rewind.keep(prepared, count)
        metrics.BATCH_SIZE.observe(count)
        self._count_ignored()
        self._memory.count_left_out()
        try:
            await self._retry.run(lambda: self._write_held(held, [prepared], progress, applied))
            is_stored = not self._gave_up
            if progress:  # without it nobody would notice that Redis lost what was before
                self._rewind.trim()
            if time.monotonic() >= self._stored_at:
                await self._note_stored()
            self._memory.usrloc.changes.settle()
            self._removed += prepared.removed
            self._may_evict = True
            await self._hand_over()
        except _LeaseLostError:
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

    async def report(self, report: ConsumerReport) -> None:
        """Store how we are, and learn how others are. Whether it succeeds does not matter: the next one comes soon."""
        with contextlib.suppress(RedisError):
            reports, holders = await self._retry.run_once(lambda: self._exchange(report))
            self._shares.update(report, reports, holders)
            self._leases.shares_of_others = self._shares.of_others
            self._unheld = self._shares.nodes() - self._memory.feeds.held.keys()
            self._warn_of_unheard()

    def _exchange(self, report: ConsumerReport) -> tuple[dict[str, ConsumerReport], dict[str, str]]:
        reports = save_consumer(self._store, self._leases.owner, report)
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

    async def close(self) -> None:
        """Release our leases, so that the next consumer need not wait for their end."""
        try:
            await self._retry.run(self._release)
        except GaveUpError:
            logger.warning("the leases could not be released; another consumer takes over when they run out")

    def _release(self) -> None:
        self._leases.release()
        forget_consumer(self._store, self._leases.owner)

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._taking:
            if self._leaving:  # nothing of these clusters may change any more
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
        await self._take_over({message.node for message in messages} - self._memory.feeds.held.keys())
        held: AbstractSet[str] = self._memory.feeds.held.keys()
        if self._leaving:
            held -= self._leaving_nodes()
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

    async def _take_over(self, others: AbstractSet[str]) -> None:
        """Take over what is free of these nodes and of all others that we hear, when it is time to try."""
        others |= self._unheld
        if not self._leases.select_due(others):
            return
        feeds = await self._retry.run(lambda: self._try_to_hold(others - self._memory.feeds.held.keys()))
        for feed, seqs in feeds:
            self._memory.take_over(feed, seqs)
        if feeds:
            self._unheld -= self._memory.feeds.held.keys()
            await self._note_stored()

    def _leaving_nodes(self) -> AbstractSet[str]:
        return {node for node, feed in self._memory.feeds.held.items() if feed.cluster in self._leaving}

    async def _hand_over(self) -> None:
        """Release the clusters whose last events are stored by now, and take no more of those that go next.

        The other consumer goes on from the stored seqs with what it kept. It hears of a free lease when it tries.
        """
        if self._leaving:
            async with self._taking:
                await self._release_leaving()
        elif not self._retry.current_error() and (surplus := self._shares.surplus()):
            async with self._taking:
                self._leaving = surplus

    async def _release_leaving(self) -> None:
        leaving, self._leaving = self._leaving, set()
        logger.info("handing over to another consumer", clusters=sorted(leaving))
        self._memory.hand_over(leaving)
        self._shares.hand_over(leaving)
        self._leases.shares_of_others = self._shares.of_others
        with contextlib.suppress(RedisError):  # then the leases run out
            await self._retry.run_once(lambda: self._leases.give_up(leaving))

    def _try_to_hold(self, others: AbstractSet[str]) -> list[tuple[Feed, dict[str, int]]]:
        """Take over the nodes that have no other holder, and return their feeds and seqs.

        Whether we still hold the rest, the next write checks.
        """
        room = MAX_NODES - len(self._memory.feeds.held)
        return [load_feed(self._store, node) for node in self._leases.hold_all(sorted(others)[: max(0, room)])]

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

    def _write_held(
        self, held: Sequence[str], batches: Sequence[Prepared], progress: Sequence[Command], applied: Sequence[Command]
    ) -> None:
        """Write batches in their order, and delete the corrections that are `applied` once they stand."""
        lost = [node for node in held if not self._leases.hold(node)]
        if lost:
            logger.warning("another consumer took over", nodes=lost)
            raise _LeaseLostError
        with metrics.WRITE_SECONDS.time():
            try:
                for number, prepared in enumerate(batches, 1):
                    self._batch.write(prepared, progress if number == len(batches) else ())
            except FencedError as error:
                self._leases.lose(error.token)
                metrics.FENCED.inc()
                logger.warning("another consumer took over, and wrote since: this batch was refused")
                raise _LeaseLostError from None
            self._store.connection.pipeline(applied)

    def _write_again(self, held: Sequence[str], batches: Sequence[Prepared], progress: Sequence[Command]) -> None:
        """Write batches, from the first one if Redis loses some of them meanwhile."""
        try:
            self._write_held(held, batches, progress, ())
        except RolledBackError as error:
            raise NotNowError(str(error)) from None

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
            unwritten = [*self._writing, *self._waiting, *self._standby.take(self._leaving_nodes())]
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
            held, tokens = list(self._memory.feeds.held), dict(self._leases.tokens)
            changes, own = self._memory.usrloc.changes.take(), {node: tokens[node] for node in held}
            prepared, progress = self._batch.prepare(changes, own), self._progress(tokens)
            self._rewind.keep(prepared, self.pending)
            batches = self._rewind.batches()
            self._writing, self._waiting, self.pending = [*self._writing, *self._waiting], [], 0
            self._memory.drop_contacts()
            self._corrector.clear()
            is_ours = True
            try:
                await self._retry.run(lambda: self._write_again(held, batches, progress))
                self._rewind.trim()
            except _LeaseLostError:
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
        self._leaving = set()
        self.pending = 0
        self._memory.clear()
        self._corrector.clear()
        self._rewind.clear()


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
