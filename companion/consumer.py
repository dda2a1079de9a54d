"""The bus into the store, in batches.

While one batch waits for Redis the next one grows; what is more waits in ZeroMQ, and past its bound is lost and counted
as missed.
"""

import asyncio
import time
from typing import Final

from companion import events, log, metrics
from companion.bus import DRAIN, HEARTBEAT, Curve, Subscriber, decode, decode_heartbeat
from companion.config import Config
from companion.errors import InvalidEnvelopeError, InvalidEventError
from companion.recorder import Received, Recorder
from companion.store.store import Store

BATCHES_AHEAD: Final = 4
"""How many batches may gather while one is being written."""
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
        self._recorder = Recorder(config, store)
        settings = config.consumer
        curve = (
            Curve(settings.curve_secret_key, server=settings.curve_server_key) if settings.curve_server_key else None
        )
        self._subscriber = Subscriber(settings.subscribe, max_pending=settings.max_pending, curve=curve)

    def stop(self) -> None:
        """Read what is there, store it, end."""
        self._deadline = time.monotonic() + END_SECONDS
        self._recorder.give_up_at = self._deadline
        self._stopping.set()

    async def run(self) -> None:
        writing: asyncio.Task[None] | None = None
        try:
            while not self._stopping.is_set():
                await self._receive(self._patience(writing))
                if writing and (writing.done() or self._recorder.pending >= BATCHES_AHEAD * self._settings.batch_size):
                    await writing
                    writing = None
                if not writing and self._is_due():
                    self._due = time.monotonic() + TICK_SECONDS
                    writing = asyncio.create_task(self._recorder.write())
        finally:
            await asyncio.shield(self._finish(writing))

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

    async def _finish(self, writing: asyncio.Task[None] | None) -> None:
        if writing:
            await writing
        await self._drain()
        while self._recorder.pending:
            await self._recorder.write()
        await self._recorder.close()
        self._subscriber.close()

    async def _drain(self) -> None:
        """Read what is there."""
        calm_at = time.monotonic() + LAST_WORDS_SECONDS
        while (now := time.monotonic()) < self._deadline:
            count = await self._receive(0.2)
            if not count or (count < DRAIN and now >= calm_at):
                return
            if self._recorder.pending >= self._settings.batch_size:
                await self._recorder.write()

    async def _receive(self, patience: float) -> int:
        """Take what has come, or wait for it; how many messages there were."""
        frames = await self._subscriber.receive(patience)
        now, now_ms = time.monotonic(), int(time.time() * 1000)
        checked = [received for topic, body in frames if (received := self._check(topic, body, now))]
        if checked:
            await self._recorder.take(checked)
        if len(frames) < DRAIN:
            await self._recorder.tick(now_ms)
        return len(frames)

    def _check(self, topic: bytes, body: bytes | memoryview, now: float) -> Received | None:
        try:
            message = decode(topic, body)
            if message.event == HEARTBEAT:
                return Received(message, decode_heartbeat(message.params), now)
        except InvalidEnvelopeError as error:
            metrics.INVALID.labels("bus", error.reason).inc()
            self._episodes.warn(f"a message on the bus was refused: {error.reason}", detail=error.detail[:200])
            return None
        try:
            return Received(message, events.decode(message.event, message.params), now)
        except InvalidEventError as error:
            metrics.INVALID.labels("consumer", error.reason).inc()
            self._episodes.warn(f"an event was refused: {error.reason}", name=message.event[:64], detail=error.detail)
            return Received(message, None, now) if message.event in events.KNOWN else None
