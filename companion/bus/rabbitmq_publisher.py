"""Publish messages into the RabbitMQ queue of a node."""

import asyncio
import contextlib
from collections import deque
from typing import Final, NamedTuple

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aio_pika.exceptions import DeliveryError, PublishError

from companion import log, metrics
from companion.bus.endpoint import show_endpoint
from companion.bus.envelope import HEARTBEAT
from companion.bus.numbered import LINGER_SECONDS, NumberedPublisher
from companion.bus.rabbitmq import (
    EVENT_KEY,
    EXCHANGE,
    HEARTBEAT_KEY,
    QUEUE,
    QUEUE_ARGUMENTS,
    RabbitErrors,
    connect,
    explain,
)

UNCONFIRMED: Final = 500
"""Messages that are under way before one must be confirmed."""
PAUSE_SECONDS: Final = 1.0
"""How long to wait before connecting again."""

logger = log.get(__name__)


class UnsentMessage(NamedTuple):
    """Hold a message for the queue and how many events it has: a heartbeat is none."""

    event: str
    body: bytes
    events: int


class RabbitPublisher(NumberedPublisher):
    """Publish over RabbitMQ and keep up to `high_water_mark` messages until it has confirmed them.

    What comes while so many wait is dropped and counted. What is under way when a connection ends is sent again: the
    consumer ignores repeats by their seqs.
    """

    gather_seconds = 0.02

    def __init__(self, url: str, node: str, *, high_water_mark: int) -> None:
        super().__init__(node)
        self._url = url
        self.endpoint = show_endpoint(url)
        self._high_water_mark = high_water_mark
        self._waiting: deque[UnsentMessage] = deque()
        self._unconfirmed: dict[int, UnsentMessage] = {}
        self._sent = 0
        self._room = asyncio.Semaphore(UNCONFIRMED)
        self._arrived = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._task: asyncio.Task[None] | None = None
        self._episodes = log.Episodes(logger)
        self.new_run()

    @property
    def backlog(self) -> int:
        """Return how many messages RabbitMQ has not confirmed."""
        return len(self._waiting) + len(self._unconfirmed)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def subscribed(self, timeout: float) -> bool:  # noqa: ASYNC109, ARG002 - nothing is lost until a consumer comes
        return True

    def _send(self, event: str, body: bytes, count: int) -> None:
        outgoing = UnsentMessage(event, body, 0 if event == HEARTBEAT else count)
        if self.backlog >= self._high_water_mark:
            self._drop(outgoing, "events are dropped: RabbitMQ is away or slow, and the backlog is full")
            return
        self._waiting.append(outgoing)
        self._arrived.set()
        self._empty.clear()

    def _drop(self, outgoing: UnsentMessage, problem: str) -> None:
        metrics.DROPPED.labels("rabbitmq").inc(outgoing.events)
        self._episodes.warn(problem, limit=self._high_water_mark)

    async def _run(self) -> None:
        """Publish until cancelled, over as many connections as that takes."""
        while True:
            try:
                async with await connect(self._url) as connection:
                    await self._publish_all(await connection.channel(on_return_raises=True))
            except* RabbitErrors as errors:
                fault = explain(errors, self._url)
                self._episodes.warn(fault.problem, remedy=fault.remedy, detail=fault.detail, url=self.endpoint)
            self._take_back()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _publish_all(self, channel: AbstractChannel) -> None:
        """Publish what waits and what comes; the first message that fails ends this with an ExceptionGroup."""
        exchange = await self._declare(channel)
        logger.info("publishing into RabbitMQ", url=self.endpoint, queue=QUEUE + self.node, waiting=len(self._waiting))
        async with asyncio.TaskGroup() as group:
            group.create_task(_watch(channel))
            while True:
                while self._waiting:
                    await self._room.acquire()
                    self._sent += 1
                    outgoing = self._unconfirmed[self._sent] = self._waiting.popleft()
                    group.create_task(self._publish(exchange, self._sent, outgoing))
                self._arrived.clear()
                await self._arrived.wait()

    async def _declare(self, channel: AbstractChannel) -> AbstractExchange:
        exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(QUEUE + self.node, durable=True, arguments=QUEUE_ARGUMENTS)
        for key in (EVENT_KEY, HEARTBEAT_KEY):
            await queue.bind(exchange, key + self.node)
        return exchange

    async def _publish(self, exchange: AbstractExchange, number: int, outgoing: UnsentMessage) -> None:
        """Publish one message and wait until RabbitMQ has it on the disks of most of its nodes."""
        key = HEARTBEAT_KEY if outgoing.event == HEARTBEAT else EVENT_KEY
        message = Message(outgoing.body, type=outgoing.event, delivery_mode=DeliveryMode.PERSISTENT)
        try:
            await exchange.publish(message, key + self.node)
        except PublishError:
            raise  # the queue was deleted: the next connection declares it
        except DeliveryError:
            self._drop(outgoing, "RabbitMQ refuses events: the queue has reached the limit of a policy")
        del self._unconfirmed[number]
        self._room.release()
        if not self.backlog:
            self._empty.set()

    def _take_back(self) -> None:
        """Put what is not confirmed before what waits, in its order."""
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self._room = asyncio.Semaphore(UNCONFIRMED)

    async def finish(self) -> bool:
        self._end_run()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                await self._empty.wait()
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        metrics.DROPPED.labels("rabbitmq").inc(sum(one.events for one in (*self._unconfirmed.values(), *self._waiting)))
        return self._empty.is_set()


async def _watch(channel: AbstractChannel) -> None:
    """Wait until a channel ends, which it does when its connection does. Raises ConnectionError."""
    await channel.closed()
    raise ConnectionError("the connection was lost")
