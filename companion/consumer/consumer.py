"""Read the bus and store its events in batches.

While one batch waits for Redis the next one grows. Further events wait here, up to `max_pending`, then in ZeroMQ or
RabbitMQ; beyond the bound of ZeroMQ they are lost and counted as missed. RabbitMQ keeps them until they are stored.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from companion import log, metrics
from companion.bus.bus_source import BusSource
from companion.bus.curve import Curve
from companion.bus.endpoint import is_rabbitmq
from companion.bus.envelope import Message, PackedMessage, decode, peek_node
from companion.bus.rabbitmq_subscriber import RabbitSubscriber
from companion.bus.subscriber import Subscriber
from companion.config import Config
from companion.consumer.lag import Lag
from companion.consumer.recorder import Recorder, count_events
from companion.consumer.standby import AnyMessage
from companion.consumer.traces import TraceRecorder
from companion.errors import InvalidEnvelopeError
from companion.opensips.hep import PACKET
from companion.steady_clock import steady_ms
from companion.store.consumers import REPORT_SECONDS, ConsumerReport
from companion.store.nodes import load_nodes
from companion.store.store import Store
from companion.times import now_ms

BATCHES_AHEAD: Final = 4
"""How many batches may grow while one is being written."""
HIGH_WATER_MARK: Final = 10_000
"""Messages that wait in ZeroMQ while we are busy: those of a fraction of a second, at most 70 MB."""
TURN_EVENTS: Final = 8192
"""Events that are taken at once: while some of them are applied, what the next ones need is read."""
TICK_SECONDS: Final = 1.0
STOP_SECONDS: Final = 10.0
"""How long a stop may take to store what was read."""
DRAIN_SECONDS: Final = 1.0
"""How long a stop reads from bridges that go on sending; messages that waited before are read in any case."""

BEHIND_SECONDS: Final = 10.0
"""From this lag on the consumer lies behind; a batch takes a fraction of a second."""

_PACKET: Final = PACKET.encode()

logger = log.get(__name__)


class Consumer:
    """Read the bus until stopped, then store what was read."""

    def __init__(self, config: Config, store: Store) -> None:
        self._settings = config.consumer
        self._episodes = log.Episodes(logger)
        self._stopping = asyncio.Event()
        self._deadline = float("inf")
        self._waiting: deque[AnyMessage] = deque()
        self._waiting_events = 0
        self._received = 0
        self._being_taken = 0
        self._lag = Lag()
        self._behind_at = 0
        self._arrived = asyncio.Event()
        self._roomy = asyncio.Event()
        self._applied = asyncio.Event()
        self._begun = asyncio.Event()
        self._recorder = Recorder(config, store)
        self._traces = TraceRecorder(config, store)
        self._sources = _make_sources(config, store)
        self._ages: dict[str, float] = {}
        """How old, in seconds, the last message of each node was that came out of a queue since the last report."""
        self._keepers: dict[str, BusSource] = {}
        """Where messages of a node come from that are kept until they are stored."""

    def stop(self) -> None:
        """Stop after storing all messages that have arrived."""
        self._deadline = time.monotonic() + STOP_SECONDS
        self._recorder.give_up_at(self._deadline)
        self._end()

    def _end(self) -> None:
        self._stopping.set()
        self._applied.set()

    async def run(self) -> None:
        reading = [asyncio.create_task(self._read(source)) for source in self._sources]
        aside = [
            asyncio.create_task(self._report_regularly()),
            asyncio.create_task(self._recorder.tenure.keep()),
        ]
        tracing = asyncio.create_task(self._traces.run())
        writing = asyncio.create_task(self._write_regularly())
        try:
            while not self._stopping.is_set():
                await self._take(TICK_SECONDS)
                self._applied.set()
                await self._wait_for_room(writing)
                for task in reading:
                    if task.done():
                        task.result()  # better to end by this mistake of ours than to read nothing more
        finally:
            for task in aside:
                task.cancel()
            self._end()
            await asyncio.shield(self._finish(writing, reading))
            self._traces.stop()
            await asyncio.wait([tracing], timeout=STOP_SECONDS)
            tracing.cancel()

    # Reading, taking and writing go on side by side: each waits for Redis or for the others

    async def _read(self, source: BusSource) -> None:
        while True:
            while self._waiting_events >= self._settings.max_pending:
                self._roomy.clear()
                await self._roomy.wait()
            messages = await source.receive(TICK_SECONDS)
            for topic, body in source.heartbeats():
                self._hear(topic, body)
            for topic, body in messages:
                self._add(topic, body, source)
            source.mark(self._received)
            if self._waiting:
                self._arrived.set()

    def _add(self, topic: bytes, body: bytes | memoryview, source: BusSource) -> None:
        others = self._recorder.others
        if others and topic != _PACKET and (node := peek_node(body)) in others:
            self._append(PackedMessage(node, topic, body))
            return
        try:
            message = decode(topic, body)
        except InvalidEnvelopeError as error:
            metrics.INVALID.labels("bus", error.reason).inc()
            self._episodes.warn(f"a message on the bus was refused: {error.reason}", detail=error.detail[:200])
        else:
            if message.name == PACKET:
                self._traces.put(message)
                return
            if source.keeps_messages:
                self._note_keeper(message, source)
            self._append(message)

    def _append(self, message: AnyMessage) -> None:
        self._waiting.append(message)
        self._waiting_events += message.weight
        self._received += message.weight

    def _note_keeper(self, message: Message, source: BusSource) -> None:
        """Note that a node comes by a queue, and how old its messages are."""
        if message.node not in self._keepers:
            self._keepers[message.node] = source
            self._recorder.note_queued(message.node)
        self._ages[message.node] = max(0, now_ms() - message.events[0][0]) / 1000

    def _hear(self, topic: bytes, body: bytes | memoryview) -> None:
        with contextlib.suppress(InvalidEnvelopeError):  # it comes among the events too, and is counted there
            self._recorder.hear(decode(topic, body))

    def _next_messages(self) -> list[AnyMessage]:
        """Return the messages that are taken at once."""
        messages, events = [], 0
        while self._waiting and events < TURN_EVENTS:
            messages.append(self._waiting.popleft())
            events += messages[-1].weight
        self._waiting_events -= events
        self._being_taken = events
        self._roomy.set()
        return messages

    async def _take(self, seconds: float) -> int:
        """Take the messages that wait, or wait for some, and return how many there were."""
        if not self._waiting:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._arrived.wait()
        now = steady_ms()
        messages = self._next_messages()
        if messages:
            await self._recorder.take(messages)
            self._being_taken = 0
            self._give_back()
        if not self._waiting:
            await self._recorder.tick(now)
        return len(messages)

    async def _wait_for_room(self, writing: asyncio.Task[None]) -> None:
        """Wait while too many events wait to be written."""
        while self._recorder.pending >= BATCHES_AHEAD * self._settings.batch_size and not writing.done():
            self._begun.clear()
            await self._begun.wait()
        if writing.done():
            writing.result()

    async def _write_regularly(self) -> None:
        """Write what was applied, one batch after the other, until stopped."""
        try:
            while not self._stopping.is_set():
                await self._until_due()
                self._begun.set()
                await self._write()
        finally:
            self._begun.set()

    async def _until_due(self) -> None:
        """Wait until a batch is full, or events have waited for `batch_ms`, or TICK_SECONDS have passed."""
        due = time.monotonic() + TICK_SECONDS
        while self._recorder.pending < self._settings.batch_size and not self._stopping.is_set():
            if self._recorder.pending:
                due = min(due, time.monotonic() + self._settings.batch_ms / 1000)
            self._applied.clear()
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + due - time.monotonic()):
                    await self._applied.wait()
            except TimeoutError:
                return

    # What RabbitMQ keeps until it is stored

    def _give_back(self) -> None:
        """Leave the queues of nodes to whoever records them. Those that come to us again, nobody else reads."""
        for node in self._recorder.refused_queues():
            left = [message for message in self._waiting if message.node != node]
            self._waiting_events -= count_events(self._waiting) - count_events(left)
            self._waiting = deque(left)
            self._keepers[node].give_back(node)

    async def _write(self) -> None:
        """Write what was taken, and acknowledge all that was taken before: nothing of it waits any more."""
        position = self._received - self._waiting_events - self._being_taken
        if await self._recorder.write():
            self._give_back()  # first: what was refused is not stored
            for source in self._sources:
                await source.acknowledge(position)

    # Reporting

    async def _report_regularly(self) -> None:
        """Look how we are every REPORT_SECONDS, and store it: readers learn why events do not reach the store."""
        saving: asyncio.Task[None] | None = None
        try:
            while True:
                report = self._make_report()
                if saving is None or saving.done():  # while Redis hangs the last one still waits
                    saving = asyncio.create_task(self._recorder.tenure.report(report))
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            if saving:
                saving.cancel()

    def _make_report(self) -> ConsumerReport:
        refused = self._check_bus()
        self._measure_lag()
        error = self._recorder.current_error()
        text = f"{type(error).__name__}: {str(error)[:200]}" if error else ""
        return ConsumerReport(now_ms(), self._behind_at, refused, text, self._recorder.tenure.nodes())

    def _check_bus(self) -> dict[str, str]:
        """Log and return by endpoint why no events come from it."""
        refusals = {endpoint: why for source in self._sources for endpoint, why in source.refusals().items()}
        for endpoint, (problem, remedy) in refusals.items():
            self._episodes.warn(f"no events from {endpoint}: {problem}", remedy=remedy)
        return {endpoint: problem for endpoint, (problem, _) in refusals.items()}

    def _measure_lag(self) -> None:
        unstored = self._waiting_events + self._being_taken + self._recorder.unstored
        seconds = max(self._lag.measure(self._received, unstored, time.monotonic()), self._measure_queues())
        metrics.BEHIND.set(seconds)
        if seconds > BEHIND_SECONDS:
            self._behind_at = now_ms()
            if not self._recorder.current_error():  # that one names the cause
                self._episodes.warn("the consumer lies behind", seconds=round(seconds), events=unstored)

    def _measure_queues(self) -> float:
        """Return how old the oldest message is that came out of a queue since the last call, in seconds."""
        ages, self._ages = self._ages, {}
        for node in self._keepers:
            metrics.QUEUE_AGE.labels(node).set(ages.get(node, 0.0))
        return max(ages.values(), default=0.0)

    async def _finish(self, writing: asyncio.Task[None], reading: Sequence[asyncio.Task[None]]) -> None:
        await writing
        await self._drain()
        for task in reading:
            task.cancel()
        await asyncio.wait(reading)
        while self._recorder.pending:
            await self._write()
        if self._waiting:
            metrics.DROPPED.labels("consumer").inc(self._waiting_events)
            logger.warning("events were received but not stored: the stop timed out", count=self._waiting_events)
        for source in self._sources:
            await source.finish()
        await self._recorder.tenure.close()

    async def _drain(self) -> None:
        """Take the messages that have arrived."""
        calm_at = time.monotonic() + DRAIN_SECONDS
        while (now := time.monotonic()) < self._deadline:
            count = await self._take(0.2)
            if not self._waiting and (not count or now >= calm_at):
                return
            if self._recorder.pending >= self._settings.batch_size:
                await self._write()


def _make_sources(config: Config, store: Store) -> list[BusSource]:
    """Make one source of all ZeroMQ publishers, and one of each RabbitMQ."""
    settings = config.consumer
    publishers = tuple(endpoint for endpoint in settings.subscribe if not is_rabbitmq(endpoint))
    sources: list[BusSource] = []
    if urls := [endpoint for endpoint in settings.subscribe if is_rabbitmq(endpoint)]:
        nodes = {config.bridge.node, *(table.node for table in config.opensips), *load_nodes(store)}
        sources += [RabbitSubscriber(url, nodes) for url in urls]
    if publishers:
        key = settings.curve_server_key
        curve = Curve(settings.curve_secret_key, server=key) if key else None
        sources.append(Subscriber(publishers, high_water_mark=HIGH_WATER_MARK, curve=curve))
    return sources
