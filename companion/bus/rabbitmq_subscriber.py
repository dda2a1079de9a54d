"""Read the RabbitMQ queues of all nodes, one consumer of each at a time."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Final

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelInvalidStateError, ChannelNotFoundEntity

from companion import log, metrics
from companion.bus.endpoint import show_endpoint
from companion.bus.envelope import NODE, Frames
from companion.bus.rabbitmq import (
    EXCHANGE,
    HEARTBEAT_KEY,
    QUEUE,
    BusFault,
    RabbitErrors,
    connect,
    explain,
)

PREFETCH: Final = 2000
"""Messages of a queue that are here and not acknowledged. All consumers must have the same: RabbitMQ keeps the order
of what comes back from one that died only if the next one gets all of it at once."""
DRAIN: Final = 128
"""Messages handed over before the event loop gets its turn again."""
LOOK_SECONDS: Final = 3.0
"""How often the length of each queue is read."""
PAUSE_SECONDS: Final = 1.0

logger = log.get(__name__)


class RabbitQueue:
    """Read the queue of one node over a channel of its own, and acknowledge what is stored.

    A position is a count of events by the caller: what it had read so far.
    """

    def __init__(self, node: str, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self.node = node
        self.channel = channel
        self.queue = queue
        self.last: AbstractIncomingMessage | None = None
        """The last message that was handed over since the last mark."""
        self._marks: deque[tuple[int, AbstractIncomingMessage]] = deque()

    def mark(self, position: int) -> None:
        """Note the position of all that was handed over."""
        if self.last:
            self._marks.append((position, self.last))
            self.last = None

    async def acknowledge(self, position: int) -> None:
        """Acknowledge all up to a position."""
        stored: AbstractIncomingMessage | None = None
        while self._marks and self._marks[0][0] <= position:
            _, stored = self._marks.popleft()
        if stored:
            await stored.ack(multiple=True)


class RabbitSubscriber:
    """Read the queues of all nodes of one RabbitMQ; a heartbeat names a node that was not there before."""

    keeps_messages = True

    def __init__(self, url: str, nodes: Iterable[str] = ()) -> None:
        self.endpoint = show_endpoint(url)
        self._url = url
        self._nodes = set(nodes)
        self._queues: dict[str, RabbitQueue] = {}
        self._given_back: list[RabbitQueue] = []
        self._waiting: deque[tuple[RabbitQueue, AbstractIncomingMessage]] = deque()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        """A node is new, or a queue was given back."""
        self._task: asyncio.Task[None] | None = None
        self._fault: BusFault | None = None
        self._episodes = log.Episodes(logger)

    async def receive(self, timeout: float) -> list[Frames]:  # noqa: ASYNC109 - the caller waits for this alone
        """Return up to DRAIN messages, after waiting up to `timeout` seconds for the first one."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        if self._task.done():
            self._task.result()  # a mistake of ours ended it
        if not self._waiting:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._arrived.wait()
        await asyncio.sleep(0)  # other tasks must run during a flood too, and none between here and the caller
        frames: list[Frames] = []
        while self._waiting and len(frames) < DRAIN:
            queue, message = self._waiting.popleft()
            queue.last = message
            frames.append(((message.type or "").encode(), message.body))
        return frames

    def heartbeats(self) -> list[Frames]:
        """Return none: those in the queues are in order with the events, and RabbitMQ drops neither."""
        return []

    def refusals(self) -> dict[str, tuple[str, str]]:
        """Return by endpoint why it refuses us now, and what to do."""
        return {self.endpoint: (self._fault.problem, self._fault.remedy)} if self._fault else {}

    def mark(self, position: int) -> None:
        """Note that all that `receive` returned so far ends at this position of the caller."""
        for queue in self._queues.values():
            queue.mark(position)

    async def acknowledge(self, position: int) -> None:
        """Tell RabbitMQ that all up to a position is stored."""
        for queue in list(self._queues.values()):
            with contextlib.suppress(*RabbitErrors):  # then it comes again, and is a repeat
                await queue.acknowledge(position)

    def give_back(self, node: str) -> None:
        """Leave the queue of a node to other consumers; it comes back when there are none.

        From now on nothing of it is acknowledged. Its channel ends with all that is not: only so does RabbitMQ keep
        the order.
        """
        self._waiting = deque(pair for pair in self._waiting if pair[0].node != node)
        if queue := self._queues.pop(node, None):
            self._given_back.append(queue)
            self._changed.set()

    async def _leave(self) -> None:
        """End the channels of queues that were given back, before we join their lines again."""
        while self._given_back:
            await self._given_back.pop().channel.close()

    async def finish(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    # The connection

    async def _run(self) -> None:
        """Read until cancelled, over as many connections as that takes."""
        while True:
            try:
                async with await connect(self._url) as connection:
                    await self._read(connection)
            except RabbitErrors as error:
                self._fault = explain(error, self._url)
                problem, remedy, detail = self._fault
                self._episodes.warn(problem, remedy=remedy, detail=detail, url=self.endpoint)
            self._queues.clear()
            self._given_back.clear()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, connection: AbstractConnection) -> None:
        """Read all queues; raise ConnectionError when the connection ends."""
        hearing = await self._hear_of_nodes(connection)
        self._fault = None
        logger.info("reading from RabbitMQ", url=self.endpoint)
        while not hearing.is_closed:
            self._changed.clear()
            await self._leave()
            for node in self._nodes - self._queues.keys():
                await self._open(connection, node)
            for queue in list(self._queues.values()):
                await self._look(queue)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._wait_for_change(hearing)
        raise ConnectionError("the connection was lost")

    async def _wait_for_change(self, hearing: AbstractChannel) -> None:
        waiting = [asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(hearing.closed())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _hear_of_nodes(self, connection: AbstractConnection) -> AbstractChannel:
        """Read the heartbeats of all bridges beside their queues, to learn of new nodes; return the way they come."""
        channel = await connection.channel()
        exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue(f"{EXCHANGE}-nodes-{id(self)}-{id(channel)}", exclusive=True)
        await queue.bind(exchange, f"{HEARTBEAT_KEY}#")
        await queue.consume(self._hear, no_ack=True)
        return channel

    async def _hear(self, message: AbstractIncomingMessage) -> None:
        node = (message.routing_key or "").removeprefix(HEARTBEAT_KEY)
        if node not in self._queues and NODE.fullmatch(node):
            self._nodes.add(node)
            self._changed.set()

    async def _open(self, connection: AbstractConnection, node: str) -> None:
        """Join the line for the queue of a node; where there is none, wait for a heartbeat of its bridge."""
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=PREFETCH)
        try:
            queue = await channel.declare_queue(QUEUE + node, passive=True)
        except ChannelNotFoundEntity:
            self._nodes.discard(node)
            return
        own = self._queues[node] = RabbitQueue(node, channel, queue)

        async def receive(message: AbstractIncomingMessage) -> None:
            if self._queues.get(node) is own:
                self._waiting.append((own, message))
                self._arrived.set()

        await queue.consume(receive)
        logger.info("in line for a queue of RabbitMQ", queue=queue.name)

    async def _look(self, queue: RabbitQueue) -> None:
        """Read the length of a queue; leave one that was deleted, and made anew perhaps, without us in its line."""
        try:
            result = (await queue.channel.declare_queue(queue.queue.name, passive=True)).declaration_result
        except (ChannelNotFoundEntity, ChannelInvalidStateError):
            self._queues.pop(queue.node, None)
            return
        metrics.QUEUE_MESSAGES.labels(queue.node).set(result.message_count or 0)
        if not result.consumer_count:
            self.give_back(queue.node)
