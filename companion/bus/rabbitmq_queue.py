"""Look at the RabbitMQ queue of a node from outside: nothing is taken out of it."""

import asyncio
import contextlib
from typing import Final, NamedTuple

from aio_pika import ExchangeType
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity

from companion.bus.envelope import decode
from companion.bus.rabbitmq import EXCHANGE, HEARTBEAT_KEY, QUEUE, BusFault, RabbitErrors, connect, explain
from companion.errors import InvalidEnvelopeError
from companion.times import now_ms

HEAR_SECONDS: Final = 5.0
"""Two heartbeats and some time to connect."""


class QueueState(NamedTuple):
    """Hold how many messages wait in the queue of a node, and whether a consumer reads it."""

    messages: int
    is_read: bool


class RabbitState(NamedTuple):
    """Hold the state of each queue by node, and how far the clock of each bridge that was heard is ahead, in ms.

    Or `fault`: why there is nothing.
    """

    queues: dict[str, QueueState]
    clocks: dict[str, int]
    fault: BusFault | None = None


async def read_rabbitmq(url: str, nodes: set[str]) -> RabbitState:
    """Listen for heartbeats, and read the queues of these nodes and of those that were heard."""
    clocks: dict[str, int] = {}
    try:
        async with await connect(url) as connection:
            await _hear(connection, clocks)
            queues = {node: state for node in nodes | set(clocks) if (state := await _look(connection, node))}
    except RabbitErrors as error:
        return RabbitState({}, clocks, explain(error, url))
    return RabbitState(queues, clocks)


async def _hear(connection: AbstractConnection, clocks: dict[str, int]) -> None:
    """Listen to heartbeats for HEAR_SECONDS."""

    async def take(message: AbstractIncomingMessage) -> None:
        with contextlib.suppress(InvalidEnvelopeError):
            heartbeat = decode((message.type or "").encode(), message.body)
            clocks[heartbeat.node] = heartbeat.events[0][0] - now_ms()

    channel = await connection.channel()
    exchange = await channel.declare_exchange(EXCHANGE, ExchangeType.TOPIC, durable=True)
    queue = await channel.declare_queue(f"{EXCHANGE}-doctor-{id(clocks)}", exclusive=True)
    await queue.bind(exchange, f"{HEARTBEAT_KEY}#")
    await queue.consume(take, no_ack=True)
    await asyncio.sleep(HEAR_SECONDS)


async def _look(connection: AbstractConnection, node: str) -> QueueState | None:
    """Return the state of the queue of a node, None when there is none."""
    try:
        channel = await connection.channel()
        result = (await channel.declare_queue(QUEUE + node, passive=True)).declaration_result
    except ChannelNotFoundEntity:
        return None
    return QueueState(result.message_count or 0, bool(result.consumer_count))
