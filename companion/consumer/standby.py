"""Keep the latest messages of nodes that another consumer records. No I/O."""

import time
from collections import deque
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from companion.bus.envelope import Message, PackedMessage

AnyMessage = Message | PackedMessage

STANDBY_SECONDS: Final = 30.0
"""How long a message is kept: as long as a lease lasts, and what may pass before and after it while Redis hangs."""
MAX_NODES: Final = 256
"""Nodes that one consumer records, and as many that it stands by for: a bus names no more in earnest."""
STANDBY_MESSAGES: Final = 100_000
"""The most messages that are kept of one node."""


class Standby:
    """Keep messages in case the lease of their node becomes ours."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[tuple[float, AnyMessage]]] = {}

    @property
    def nodes(self) -> AbstractSet[str]:
        """Return the nodes whose messages are kept."""
        return self._queues.keys()

    def put(self, message: AnyMessage) -> bool:
        """Keep a message; return False where those of MAX_NODES other nodes are kept."""
        queue = self._queues.get(message.node)
        if queue is None:
            if len(self._queues) >= MAX_NODES:
                return False
            queue = self._queues[message.node] = deque()
        now = time.monotonic()
        queue.append((now, message))
        while queue[0][0] < now - STANDBY_SECONDS or len(queue) > STANDBY_MESSAGES:
            queue.popleft()
        return True

    def take(self, nodes: Iterable[str]) -> list[AnyMessage]:
        """Remove and return the messages of these nodes."""
        return [message for node in nodes for _, message in self._queues.pop(node, ())]
