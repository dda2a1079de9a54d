"""The bus into the store, in batches.

While one batch waits for Redis the next one grows. What is more waits here, up to `max_pending` events, then in ZeroMQ,
and past its bound is lost and counted as missed.
"""

import asyncio
import contextlib
import time
from collections import deque
from typing import Final

from companion import log, metrics
from companion.bus.curve import Curve
from companion.bus.envelope import Message, decode
from companion.bus.subscriber import Subscriber
from companion.config import Config
from companion.consumer.recorder import Recorder
from companion.errors import InvalidEnvelopeError
from companion.store.store import Store
from companion.times import now_ms

BATCHES_AHEAD: Final = 4
"""How many batches may gather while one is being written."""
HIGH_WATER_MARK: Final = 10_000
"""Messages that wait in ZeroMQ while we are busy: a fraction of a second at most, and 70 MB."""
TURN_EVENTS: Final = 2048
"""Events taken at once, before the event loop gets its turn again: some ten milliseconds."""
TICK_SECONDS: Final = 1.0
END_SECONDS: Final = 10.0
"""How long the end may take: what is read is stored, if Redis lets us."""
LAST_WORDS_SECONDS: Final = 1.0
"""How long the end listens to a bridge that does not stop with us; what had gathered before is read all the same."""

logger = log.get(__name__)


class Consumer:
    """Reads the bus until stopped; then stores what it has read."""

    def __init__(self, config: Config, store: Store) -> None:
        self._settings = config.consumer
        self._episodes = log.Episodes(logger)
        self._due = time.monotonic()
        self._stopping = asyncio.Event()
        self._deadline = float("inf")
        self._waiting: deque[Message] = deque()
        self._waiting_events = 0
        self._arrived = asyncio.Event()
        self._roomy = asyncio.Event()
        self._recorder = Recorder(config, store)
        settings = config.consumer
        curve = (
            Curve(settings.curve_secret_key, server=settings.curve_server_key) if settings.curve_server_key else None
        )
        self._subscriber = Subscriber(settings.subscribe, high_water_mark=HIGH_WATER_MARK, curve=curve)

    def stop(self) -> None:
        """Read what is there, store it, end."""
        self._deadline = time.monotonic() + END_SECONDS
        self._recorder.give_up_at = self._deadline
        self._stopping.set()

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        writing: asyncio.Task[None] | None = None
        try:
            while not self._stopping.is_set():
                await self._take(self._patience(writing))
                if writing and (writing.done() or self._recorder.pending >= BATCHES_AHEAD * self._settings.batch_size):
                    await writing
                    writing = None
                if not writing and self._is_due():
                    self._due = time.monotonic() + TICK_SECONDS
                    writing = asyncio.create_task(self._recorder.write())
        finally:
            await asyncio.shield(self._finish(writing, reading))

    # Reading goes on while taking or writing waits for Redis

    async def _read(self) -> None:
        while True:
            while self._waiting_events >= self._settings.max_pending:
                self._roomy.clear()
                await self._roomy.wait()
            for topic, body in await self._subscriber.receive(TICK_SECONDS):
                self._add(topic, body)
            if self._waiting:
                self._arrived.set()

    def _add(self, topic: bytes, body: bytes | memoryview) -> None:
        try:
            message = decode(topic, body)
        except InvalidEnvelopeError as error:
            metrics.INVALID.labels("bus", error.reason).inc()
            self._episodes.warn(f"a message on the bus was refused: {error.reason}", detail=error.detail[:200])
        else:
            self._waiting.append(message)
            self._waiting_events += len(message.events)

    def _next(self) -> list[Message]:
        """The messages of a turn."""
        messages, events = [], 0
        while self._waiting and events < TURN_EVENTS:
            messages.append(self._waiting.popleft())
            events += len(messages[-1].events)
        self._waiting_events -= events
        self._roomy.set()
        return messages

    async def _take(self, patience: float) -> int:
        """Take what has come, or wait for it; how many messages there were."""
        if not self._waiting:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._arrived.wait()
        now = now_ms()
        messages = self._next()
        if messages:
            await self._recorder.take(messages)
        if not self._waiting:
            await self._recorder.tick(now)
        return len(messages)

    def _patience(self, writing: asyncio.Task[None] | None) -> float:
        """How long to wait for the next message, in seconds: as long as nothing else is to be done."""
        batch_seconds = self._settings.batch_ms / 1000
        if writing:
            return batch_seconds
        if self._recorder.pending:
            self._due = min(self._due, time.monotonic() + batch_seconds)
        return max(0.0, self._due - time.monotonic())

    def _is_due(self) -> bool:
        return self._recorder.pending >= self._settings.batch_size or time.monotonic() >= self._due

    async def _finish(self, writing: asyncio.Task[None] | None, reading: asyncio.Task[None]) -> None:
        if writing:
            await writing
        await self._drain()
        reading.cancel()
        await asyncio.wait([reading])
        while self._recorder.pending:
            await self._recorder.write()
        if self._waiting:
            metrics.DROPPED.labels("consumer").inc(self._waiting_events)
            logger.warning("events were read and not stored: there was no time left", count=self._waiting_events)
        await self._recorder.close()
        self._subscriber.close()

    async def _drain(self) -> None:
        """Take what is there."""
        calm_at = time.monotonic() + LAST_WORDS_SECONDS
        while (now := time.monotonic()) < self._deadline:
            count = await self._take(0.2)
            if not self._waiting and (not count or now >= calm_at):
                return
            if self._recorder.pending >= self._settings.batch_size:
                await self._recorder.write()
