"""A UDP relay between two peers on loopback, that loses and delays what it carries."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any, Self

Address = tuple[str, int]
LOOPBACK = "127.0.0.1"


class _Side(asyncio.DatagramProtocol):
    """Where one peer sends; it is known by what it sent last."""

    def __init__(self, carry: Callable[[bytes, "_Side"], None]) -> None:
        self._carry = carry
        self.peer: Address | None = None
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.peer = addr
        self._carry(data, self)

    @property
    def port(self) -> int:
        assert self.transport
        return int(self.transport.get_extra_info("sockname")[1])

    def deliver(self, data: bytes) -> None:
        if self.peer and self.transport and not self.transport.is_closing():
            self.transport.sendto(data, self.peer)


class Relay:
    """Ports for two peers that do not know each other's; `loss` is a share, `delay` one way in seconds.

    A pair of ports is for one generation of ICE: after a restart old and new connections would else be mixed up.
    """

    def __init__(self) -> None:
        self.loss = 0.0
        self.delay = 0.0
        self._sides: list[_Side] = []
        self._chance = random.Random(6)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for side in self._sides:
            assert side.transport
            side.transport.close()
        await asyncio.sleep(0)

    def ports(self) -> tuple[int, int]:
        """Two new ports: what one peer sends to the first comes to the other from the second, and back."""
        return asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    async def _open(self) -> tuple[int, int]:
        sides: list[_Side] = []

        def carry(data: bytes, came_to: _Side) -> None:
            if self._chance.random() >= self.loss:
                self._loop.call_later(self.delay, sides[came_to is sides[0]].deliver, data)

        for _ in range(2):
            made = self._loop.create_datagram_endpoint(lambda: _Side(carry), local_addr=(LOOPBACK, 0))
            sides.append((await made)[1])
        self._sides += sides
        return sides[0].port, sides[1].port
