"""Connect to a RabbitMQ that carries the bus, and explain what is wrong with it.

All publishers send to one topic exchange. An event has the routing key `event.NODE`, a heartbeat `heartbeat.NODE`. Both
go to the queue of the node, in their order. A consumer also reads all heartbeats beside that: they name the nodes.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from companion.credentials import mask

EXCHANGE: Final = "companion"
EVENT_KEY: Final = "event."
HEARTBEAT_KEY: Final = "heartbeat."
QUEUE: Final = "companion."
"""What a queue's name begins with; the node follows."""
QUEUE_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-single-active-consumer": True,
    "x-delivery-limit": 1 << 30,  # RabbitMQ 4 drops by default what came back 20 times, as when a consumer dies
}

CONNECT_SECONDS: Final = 10.0
ALIVE_SECONDS: Final = 5
"""Either side ends a connection that was silent for about twice this long."""

_GIVE_RIGHTS: Final = "`rabbitmqctl set_permissions -p {vhost} {user} '^companion' '^companion' '^companion'`"
_FAULTS: Final = (
    (
        r"ACCESS_REFUSED - Login",
        "RabbitMQ refuses the login",
        "check user and password: `rabbitmqctl authenticate_user {user}`; guest may log in from loopback only",
    ),
    (
        r"NOT_ALLOWED|Connection\.OpenOk",  # aiormq names what it expected, not why it was refused
        "RabbitMQ does not open the virtual host for this user",
        f"`rabbitmqctl add_vhost {{vhost}}`, then {_GIVE_RIGHTS}",
    ),
    (
        r"ACCESS_REFUSED",
        "RabbitMQ denies this user a right",
        _GIVE_RIGHTS,
    ),
    (
        r"PRECONDITION_FAILED - inequivalent",
        "RabbitMQ has the queue or exchange with other arguments",
        "when its messages are no longer needed, delete the one that the detail names",
    ),
    (
        r"certificate|SSL",
        "the TLS connection with RabbitMQ fails",
        "name the authority that signed its certificate: `amqps://...?cafile=/etc/ssl/rabbitmq-ca.pem`",
    ),
    (r"", "RabbitMQ can not be reached", "start it, and check host and port of its URL"),
)
"""By what its error says: what is wrong, and what to do. RabbitMQ begins with the name that AMQP has for the error."""

RabbitErrors: Final = (*CONNECTION_EXCEPTIONS, asyncio.InvalidStateError)
"""What a call fails with when RabbitMQ or the way to it is in trouble."""


class BusFault(NamedTuple):
    """Hold what is wrong with RabbitMQ, one of a few texts, what to do about it, and its own words."""

    problem: str
    remedy: str
    detail: str = ""


async def connect(url: str) -> AbstractConnection:
    """Open a connection. Raises one of RabbitErrors."""
    has_own = "heartbeat" in parse_qs(urlsplit(url).query)
    return await aio_pika.connect(url, timeout=CONNECT_SECONDS, heartbeat=None if has_own else ALIVE_SECONDS)


def explain(error: BaseException, url: str) -> BusFault:
    """Return what is wrong, and what to do about it."""
    parts = urlsplit(url)
    names = {"vhost": unquote(parts.path.removeprefix("/")) or "/", "user": unquote(parts.username or "guest")}
    details = [f"{type(cause).__name__}: {' '.join(map(str, cause.args))}" for cause in _causes(error)]
    problem, remedy, detail = next(
        (problem, remedy, detail)
        for pattern, problem, remedy in _FAULTS
        for detail in details
        if re.search(pattern, detail)
    )
    return BusFault(problem, remedy.format_map(names), mask(detail)[:200])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group and their causes, outermost first."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
        return
    yield error
    if error.__cause__:
        yield from _causes(error.__cause__)
