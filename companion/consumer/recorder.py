"""Records what the bus brought: keeps our picture of usrloc and of each node's feed, and stores what changes in them.

`take` applies messages to the picture at once, while they are warm in the processor's caches; `write` stores what has
changed since the last write. Each read and write is tried again until Redis takes it, so an event is applied once and
stored once. Only what waits for Redis runs in a thread: pyzmq lets go of the GIL at each message, so that two busy
threads would spend their time handing it over.
"""

import asyncio
import itertools
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar, cast

import msgspec

from companion import log, metrics, sip
from companion.bus.envelope import HEARTBEAT, Heartbeat, Message, decode_heartbeat
from companion.config import Config
from companion.consumer import corrector
from companion.consumer.corrector import Corrector
from companion.consumer.feeds import Feeds
from companion.consumer.ping_cache import Known, Pings
from companion.errors import InvalidEnvelopeError, InvalidEventError
from companion.opensips import events
from companion.opensips.events import KNOWN, LATENCY, LOST_PING_US, ContactEvent, DisconnectEvent, Event
from companion.store.batch import Batch, Prepared
from companion.store.connection import Command, NotNowError, ResponseError, Unreachable
from companion.store.devices import load_connected_devices, load_devices_of_bindings, load_expired_devices
from companion.store.leases import Leases
from companion.store.nodes import load_feed, load_nodes
from companion.store.store import Store
from companion.times import now_ms
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding
from companion.usrloc.picture import Usrloc

STANDBY_SECONDS: Final = 15.0
"""What is kept for a node whose lease another holds: a little more than a lease lasts."""
STANDBY_MESSAGES: Final = 100_000
AHEAD_MS: Final = 60_000
"""An event more than this in the future is refused: its samples would lock out all that follow."""
EXPIRY_SECONDS: Final = 5.0
EXPIRY_GRACE_MS: Final = 90_000
"""OpenSIPS tells of an expired contact at its next timer; only later than this do we say so ourselves."""
EXPIRY_LIMIT: Final = 1000
CORRECTIONS_SECONDS: Final = 0.5
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
EVICTED_SHARE: Final = 20

logger = log.get(__name__)
T = TypeVar("T")


Read = list[tuple[Known, int] | Event | Heartbeat | None]
"""What is in a message, one by one: a ping known by its bytes, an event, a heartbeat, or None for what was refused."""


class _GaveUpError(Exception):
    """Redis did not take it before the end."""


class _LeaseLostError(Exception):
    """Another consumer took over while Redis was away."""


class Recorder:
    """One consumer's memory and pen."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._batch = Batch(store)
        self._leases = Leases(store)
        self._usrloc = Usrloc(config.pings.lost_after, config.pings.interval_ms)
        self._feeds = Feeds()
        self._corrector = Corrector(store)
        self._pings: dict[str, Pings] = {}
        self._standby: dict[str, deque[tuple[float, Message]]] = {}
        self._expiry_at = 0.0
        self._expiry_skip = 0
        self._corrections_at = 0.0
        self._taken: list[Message] = []
        self._writing: list[Message] = []
        self.pending = 0
        """How many events were taken and are not being written yet."""
        self._taking = asyncio.Lock()
        self._episodes = log.Episodes(logger)
        self.give_up_at = float("inf")

    async def take(self, messages: Sequence[Message]) -> None:
        """Apply messages, after reading from the store what they need."""
        async with self._taking:
            try:
                await self._take(messages)
            except (_GaveUpError, ResponseError) as error:
                self._lose(_count(messages), error)

    async def tick(self, now: int) -> None:
        """Do what only time tells; `now` (epoch ms) is when no message waited any more."""
        all_live = self._feeds.watch(now)
        if time.monotonic() >= self._expiry_at:
            self._expiry_at = time.monotonic() + EXPIRY_SECONDS
            await self._do(self._expire if all_live else self._let_go)
        if time.monotonic() >= self._corrections_at:
            self._corrections_at = time.monotonic() + CORRECTIONS_SECONDS
            await self._do(self._correct)

    async def write(self) -> None:
        """Store what was taken. What can not be stored before `give_up_at` is counted and lost."""
        self._writing, self._taken = self._taken, []
        count, self.pending = self.pending, 0
        nodes_of_ours = list(self._feeds.held)
        prepared, progress = self._batch.prepare(self._usrloc.take_changes()), self._progress()
        metrics.BATCH_SIZE.observe(count)
        self._count_ignored()
        try:
            await self._insist(lambda: self._write_held(nodes_of_ours, prepared, progress))
            async with self._taking:
                self._evict()
        except _LeaseLostError:
            await self._start_over()
        except (_GaveUpError, ResponseError) as error:
            async with self._taking:
                self._lose(count, error)
        self._writing = []

    async def close(self) -> None:
        """Let the next consumer have our nodes at once."""
        try:
            await self._insist(self._leases.release)
        except _GaveUpError:
            logger.warning("the leases could not be given back; they run out by themselves")

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._taking:
            try:
                await work()
            except (_GaveUpError, ResponseError) as error:
                self._lose(0, error)

    async def _take(self, messages: Sequence[Message]) -> None:
        ours = await self._ours(messages)
        read = [(message, self._read(message)) for message in ours]
        await self._load(read)
        self._apply_all(read)
        self._taken += ours
        self.pending += _count(ours)

    async def _start_over(self) -> None:
        """A lease was lost before we could write: take again what was not written, as far as it is still ours."""
        async with self._taking:
            unwritten = [*self._writing, *self._taken]
            self._forget_taken()
            self._forget_all()
            try:
                await self._take(unwritten)
            except (_GaveUpError, ResponseError) as error:
                self._lose(_count(unwritten), error)

    def _lose(self, count: int, error: Exception) -> None:
        count += self.pending
        metrics.DROPPED.labels("consumer").inc(count)
        logger.warning("events could not be stored and are lost", count=count, error=str(error)[:200])
        self._forget_taken()
        self._forget_all()

    def _forget_taken(self) -> None:
        self._taken = []
        self.pending = 0

    async def _insist(self, action: Callable[[], T]) -> T:
        """Do what waits for Redis in a thread, until Redis lets us."""
        for attempt in itertools.count():
            try:
                return await asyncio.to_thread(action)
            except (*Unreachable, NotNowError) as error:
                metrics.REDIS_ERRORS.inc()
                self._episodes.warn("Redis does not take what we have; it waits", error=str(error)[:200])
                if time.monotonic() >= self.give_up_at:
                    raise _GaveUpError(str(error)) from error
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
        raise AssertionError

    # Leases: whose events are ours to write

    async def _ours(self, messages: Sequence[Message]) -> list[Message]:
        """The messages of nodes whose lease we hold, those of others put by in case it becomes ours."""
        others = {message.node for message in messages} - self._feeds.held.keys()
        if others:
            await self._insist(lambda: self._try_to_hold(others))
        ours: list[Message] = []
        for node in self._standby.keys() & self._feeds.held.keys():
            ours += [message for _, message in self._standby.pop(node)]
        for message in messages:
            if message.node in self._feeds.held:
                ours.append(message)
            else:
                self._put_by(message)
        return ours

    def _try_to_hold(self, others: set[str]) -> None:
        """Whether a node is still ours, the next write finds out: it knows best what to do about those that are not."""
        for node in others:
            if self._leases.hold(node):
                self._take_over(node)

    def _take_over(self, node: str) -> None:
        feed, seqs = load_feed(self._store, node)
        feed.cluster = self._config.cluster(node)
        self._pings[node] = Pings()
        self._feeds.take_over(feed, seqs)

    def _put_by(self, message: Message) -> None:
        now = time.monotonic()
        waiting = self._standby.setdefault(message.node, deque())
        waiting.append((now, message))
        while waiting[0][0] < now - STANDBY_SECONDS or len(waiting) > STANDBY_MESSAGES:
            waiting.popleft()

    # Reading: what messages say, and from the store what they need

    def _read(self, message: Message) -> Read:
        name = message.name
        if name == LATENCY:
            find = self._pings[message.node].find
            return [find(bytes(params)) or self._decode(name, params) for _, params in message.events]
        return [self._decode(name, params) for _, params in message.events]

    def _decode(self, name: str, params: msgspec.Raw) -> Event | Heartbeat | None:
        try:
            return decode_heartbeat(params) if name == HEARTBEAT else events.decode(name, params)
        except InvalidEnvelopeError as error:
            metrics.INVALID.labels("bus", error.reason).inc()
            self._episodes.warn("a heartbeat was refused", detail=error.detail[:200])
        except InvalidEventError as error:
            metrics.INVALID.labels("consumer", error.reason).inc()
            self._episodes.warn(f"an event was refused: {error.reason}", name=name[:64], detail=error.detail)
        return None

    async def _load(self, read: Sequence[tuple[Message, Read]]) -> None:
        wanted: dict[Binding, str] = {}
        connections: dict[tuple[str, str], None] = {}
        for message, said in read:
            cluster = self._feeds.held[message.node].cluster
            for event in said:
                if isinstance(event, ContactEvent):
                    self._want(event, cluster, wanted)
                elif isinstance(event, DisconnectEvent):
                    connections[cluster, event.address] = None
        if wanted:
            self._usrloc.put(await self._insist(lambda: load_devices_of_bindings(self._store, wanted)))
        if connections:
            self._usrloc.put(await self._insist(lambda: load_connected_devices(self._store, connections)))

    def _want(self, event: ContactEvent, cluster: str, wanted: dict[Binding, str]) -> None:
        """Note the device of a contact that is not in memory, or may move to another one by another `attr`."""
        binding = Binding(cluster, event.domain, event.aor, event.uri)
        contact = self._usrloc.contacts.get(binding)
        if (contact is None or contact.registration.attr != event.registration.attr) and binding not in wanted:
            wanted[binding] = sip.device_id(event.aor, event.uri, sip.instance(event.registration.attr))

    # Applying

    def _apply_all(self, read: Sequence[tuple[Message, Read]]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        latencies_us: defaultdict[str, list[int]] = defaultdict(list)
        for message, said in read:
            if message.name in KNOWN or message.name == HEARTBEAT:
                repeated = self._feeds.check(message)
                counts[message.node, message.name] += len(said) - repeated
                self._apply(message, said, repeated)
                latencies_us[message.node] += _latencies_us(message, said[repeated:])
        for (node, name), count in counts.items():
            metrics.EVENTS.labels(node, name).inc(count)
        for node, pings in latencies_us.items():
            metrics.count_pings(node, [us // 1000 for us in pings if us != LOST_PING_US], pings.count(LOST_PING_US))

    def _apply(self, message: Message, said: Read, first: int) -> None:
        latest = time.time() * 1000 + AHEAD_MS
        for (ts, params), event in itertools.islice(zip(message.events, said, strict=True), first, None):
            if isinstance(event, Heartbeat):
                self._feeds.take_heartbeat(message.node, event, ts)
            elif ts > latest:
                self._feeds.refuse(message.node)
            elif event:
                try:
                    self._apply_event(message, ts, params, event)
                except Exception:
                    metrics.INVALID.labels("recorder", "error").inc()
                    logger.exception("an event could not be applied", event_name=message.name)

    def _apply_event(self, message: Message, ts: int, params: msgspec.Raw, event: tuple[Known, int] | Event) -> None:
        feed = self._feeds.held[message.node]
        feed.last_event_at = ts  # not the greatest: a clock may have been set back
        if event.__class__ is tuple:
            known, latency_us = cast("tuple[Known, int]", event)
            contact = known.contact
            if contact.registration is known.registration and not contact.ended_at:
                self._usrloc.ping(contact, latency_us, ts, message.node, message.run)
                return
            event = events.decode(message.name, params)  # an event of this turn changed it
        event = cast("Event", event)
        self._usrloc.apply(event, Stamp(message.node, feed.cluster, ts, message.run))
        if len(message.events) > 1 and message.name == LATENCY:  # they come thick and fast: speed is worth its memory
            self._learn(params, cast("ContactEvent", event), message.node)

    def _learn(self, params: msgspec.Raw, event: ContactEvent, node: str) -> None:
        binding = Binding(self._feeds.held[node].cluster, event.domain, event.aor, event.uri)
        contact = self._usrloc.contacts.get(binding)
        if contact:
            self._pings[node].learn(bytes(params), event, contact)

    # What only time tells

    async def _expire(self) -> None:
        """End contacts whose `expires` passed without word, while the feeds that would have told us live.

        Those of nodes that are another's to write stay in the index: they are passed over, not looked at for ever.
        """
        now = now_ms()
        before, skip = now - EXPIRY_GRACE_MS, self._expiry_skip
        devices = await self._insist(lambda: load_expired_devices(self._store, before, skip, EXPIRY_LIMIT))
        self._usrloc.put(devices)
        ours = [
            contact
            for device in devices
            for contact in self._usrloc.devices[device.id].contacts
            if contact.node in self._feeds.held
        ]
        ended = sum(self._usrloc.expire(contact, before, now) for contact in ours)
        self._expiry_skip = skip + EXPIRY_LIMIT if devices and not ended else 0

    async def _let_go(self) -> None:
        """Hold silent nodes no longer that somebody had forgotten: else no contact would expire because of them."""
        if self._feeds.held:
            stored = await self._insist(partial(load_nodes, self._store))
            for node in self._feeds.drop_forgotten(stored):
                del self._pings[node]

    async def _correct(self) -> None:
        """Apply what reconciling found wrong about contacts of our nodes; the next write deletes what was applied."""
        for node, feed in list(self._feeds.held.items()):
            entries = await self._insist(partial(self._corrector.read, node))
            if entries:
                said = corrector.decode(entries)
                wanted = corrector.wanted(said, self._usrloc)
                if wanted:
                    self._usrloc.put(await self._insist(partial(load_devices_of_bindings, self._store, wanted)))
                self._corrector.apply(entries, said, self._usrloc, feed)

    # Writing

    def _write_held(self, held: Sequence[str], prepared: Prepared, progress: Sequence[Command]) -> None:
        lost = [node for node in held if not self._leases.hold(node)]
        if lost:
            logger.warning("another consumer took over", nodes=lost)
            raise _LeaseLostError
        with metrics.WRITE_SECONDS.time():
            self._batch.write(prepared, progress)

    def _count_ignored(self) -> None:
        ignored = self._usrloc.ignored
        while ignored:
            why, count = ignored.popitem()
            metrics.IGNORED.labels(why).inc(count)

    def _progress(self) -> list[Command]:
        """How far all is once this batch stands."""
        usrloc = self._usrloc
        progress = self._feeds.progress(self._store.keys, usrloc.removals, usrloc.intervals)
        return progress + self._corrector.deletions()

    # Memory

    def _evict(self) -> None:
        """Let those that came first go when there are too many: their next event finds them stored."""
        known, changes = self._usrloc.devices, self._usrloc.changes
        if len(known) > self._config.consumer.max_devices:
            unwritten = {device.id for device in changes.active} | {contact.device for contact in changes.contacts}
            for device in list(known.values())[: len(known) // EVICTED_SHARE + 1]:
                if device.id not in unwritten:
                    self._usrloc.drop(device)
            for pings in self._pings.values():
                pings.forget()

    def _forget_all(self) -> None:
        """What we have in memory may not be what is stored: read it again."""
        self._usrloc = Usrloc(self._config.pings.lost_after, self._config.pings.interval_ms)
        self._feeds.clear()
        self._corrector.clear()
        self._pings.clear()


def _latencies_us(message: Message, said: Read) -> list[int]:
    if message.name != LATENCY:
        return []
    pings = cast("list[tuple[Known, int] | ContactEvent | None]", said)
    return [ping.latency_us if isinstance(ping, ContactEvent) else ping[1] for ping in pings if ping]


def _count(messages: Sequence[Message]) -> int:
    return sum(len(message.events) for message in messages)
