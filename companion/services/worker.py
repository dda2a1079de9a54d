"""Serve the API in one of several processes, as the process that started this one orders.

The order comes in the first line of standard input: it has secrets, which the command line and the environment of a
process would show.
"""

import asyncio
import os
import signal
import socket
import sys
from typing import Any, Final

import msgspec

from companion import log
from companion.config import Config
from companion.errors import CompanionError
from companion.http.server import Listener
from companion.http.siblings import Siblings
from companion.services import event_loop

FAILED: Final = 1


class Order(msgspec.Struct, frozen=True):
    """Hold what a worker needs: the configuration, its name, and the descriptors of the sockets that are made for it.

    `others` are the inboxes of the other processes by name.
    """

    config: dict[str, Any]
    name: str
    listeners: list[int]
    inbox: int
    others: dict[str, int]

    @property
    def descriptors(self) -> tuple[int, ...]:
        return *self.listeners, self.inbox, *self.others.values()


def encode_order(order: Order) -> bytes:
    """Return an order as a line."""
    return msgspec.json.encode(order) + b"\n"


async def serve(order: Order, config: Config) -> None:
    """Serve until the end of standard input: the process that started us closed it, or is gone."""
    from companion.services.app import App  # noqa: PLC0415 - it starts the workers, so it imports this file

    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stopped.set)
    others = {name: socket.socket(fileno=descriptor) for name, descriptor in order.others.items()}
    siblings = Siblings(order.name, socket.socket(fileno=order.inbox), others)
    listeners = [socket.socket(fileno=descriptor) for descriptor in order.listeners]
    await App(config, ["api"], Listener(listeners, siblings)).run(stopped)


def _read_line(descriptor: int) -> bytes:
    """Return the first line, and nothing of what may follow: the end must be left to notice."""
    line = b""
    while not line.endswith(b"\n") and (part := os.read(descriptor, 1 << 16)):
        line += part
    return line


def main() -> None:
    """Serve as ordered; an error of ours ends the process with one line in the log.

    systemd sends SIGTERM to all processes of a service. It is for the first one, which stops us last.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    line = _read_line(sys.stdin.fileno())
    if not line.endswith(b"\n"):
        return  # who started us is gone
    order = msgspec.json.decode(line, type=Order)
    config = Config.model_validate(order.config)
    log.configure(config.log.format, config.log.level, process=order.name)
    try:
        event_loop.run(serve(order, config))
    except CompanionError as error:
        log.get(__name__).error("the API can not be served", reason=str(error))
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
