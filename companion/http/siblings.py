"""Let the processes that serve one API together talk: they ask each other, and hand over connections.

Each process has an inbox, one end of a pair of sockets whose other end all the others hold. The process that starts
them makes the pairs, so nobody else can send anything.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from companion import log, metrics

PATIENCE_SECONDS: Final = 0.5
"""A process that has not answered by then is left out."""
MAX_MESSAGE: Final = 64 * 1024
FIRST: Final = "api-1"
CONNECTION: Final = b"connection"
"""The topic of a message that brings a connection of a client, with the bytes that were read from it."""

_ANSWERED: Final = b"+"
"""The first byte of each answer: a process that died leaves an empty one."""

Answer = Callable[[bytes], Awaitable[bytes]]
Adopt = Callable[[socket.socket, bytes], Awaitable[None]]


class Siblings:
    """Send to the other processes by name, and answer them. A process that serves alone has none.

    Each message brings one file descriptor: what a client is connected by, or where the answer goes.
    """

    def __init__(
        self, name: str = "", inbox: socket.socket | None = None, others: Mapping[str, socket.socket] | None = None
    ) -> None:
        self.name = name
        self._inbox = inbox
        self._others = dict(others or {})
        self._answers: dict[bytes, Answer] = {}
        self._adopt: Adopt | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._episodes = log.Episodes(log.get(__name__))
        for end in (inbox, *self._others.values()):
            if end:
                end.setblocking(False)

    def __bool__(self) -> bool:
        return bool(self._others)

    @property
    def names(self) -> list[str]:
        """Return the names of all processes, our own first."""
        return [self.name, *self._others]

    @property
    def logs_for_all(self) -> bool:
        """Return whether we log what all of them notice."""
        return not self._others or self.name == FIRST

    def on(self, topic: bytes, answer: Answer) -> None:
        """Answer messages of a topic by this function."""
        self._answers[topic] = answer

    def on_connection(self, adopt: Adopt) -> None:
        """Let this function serve the connections that are handed over to us."""
        self._adopt = adopt

    def start(self) -> None:
        """Listen to the others from now on."""
        if self._inbox:
            asyncio.get_running_loop().add_reader(self._inbox.fileno(), self._receive)

    def stop(self) -> None:
        """Listen no more; what they send waits for the process that takes our place."""
        if self._inbox:
            asyncio.get_running_loop().remove_reader(self._inbox.fileno())

    def hand_over(self, name: str, data: bytes, descriptor: int) -> bool:
        """Hand a connection over, with the bytes that were read from it; return False if that is not possible."""
        return name in self._others and self._send(name, CONNECTION, data, descriptor)

    async def ask(self, topic: bytes, payload: bytes = b"") -> dict[str, bytes]:
        """Ask all the others at once; return the answers that came in time, by name."""
        names = list(self._others)
        answers = await asyncio.gather(*(self._ask(name, topic, payload) for name in names))
        return {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}

    async def _ask(self, name: str, topic: bytes, payload: bytes) -> bytes | None:
        ours, theirs = socket.socketpair()
        with theirs:
            if not self._send(name, topic, payload, theirs.fileno()):
                ours.close()
                return None
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        answer = b""
        with contextlib.suppress(TimeoutError, OSError), contextlib.closing(writer):
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await reader.read()
        return answer.removeprefix(_ANSWERED) if answer.startswith(_ANSWERED) else None

    def _send(self, name: str, topic: bytes, payload: bytes, descriptor: int) -> bool:
        message = topic + b"\n" + payload
        try:
            if len(message) > MAX_MESSAGE:
                return False
            socket.send_fds(self._others[name], [message], [descriptor])
        except OSError as error:  # its inbox is full
            metrics.DROPPED.labels("siblings").inc()
            self._episodes.warn("a process of the API takes no messages", to=name, error=type(error).__name__)
            return False
        return True

    def _receive(self) -> None:
        assert self._inbox is not None  # noqa: S101 - only then it is read
        try:
            message, descriptors, _, _ = socket.recv_fds(self._inbox, MAX_MESSAGE, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return
        for descriptor in descriptors:
            task = asyncio.create_task(self._take(message, socket.socket(fileno=descriptor)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, message: bytes, end: socket.socket) -> None:
        topic, _, payload = message.partition(b"\n")
        end.setblocking(False)
        if topic == CONNECTION and self._adopt:
            await self._adopt(end, payload)
            return
        answer = self._answers.get(topic)
        _, writer = await asyncio.open_unix_connection(sock=end)
        with contextlib.suppress(OSError), contextlib.closing(writer):
            if answer:
                writer.write(_ANSWERED + await answer(payload))
                await writer.drain()


def make_inboxes(names: list[str]) -> tuple[dict[str, socket.socket], dict[str, socket.socket]]:
    """Make a pair of sockets for each process; return the ends to read from, and those to send to, by name."""
    pairs = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for name in names}
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}
