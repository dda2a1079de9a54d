"""A phone on UDP, as a desk phone speaks it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tests.sip_phone.phone import Phone


class UdpPhone(Phone):
    """A phone whose `url` is such as `udp://127.0.0.1:5060`; its contact is its real address."""

    via: ClassVar[str] = "UDP"

    @property
    def uri(self) -> str:
        return f"sip:{self._user}@{self._host}{self.push.uri_params if self.push else ''}"

    async def _connect(self) -> None:
        target = urlsplit(self.url)
        _, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(
            _Datagrams, remote_addr=(target.hostname or "", target.port or 0)
        )
        self._socket = datagrams
        self._host = self.address
        self._spawn(self._listen(datagrams))


class _Datagrams(asyncio.DatagramProtocol):
    """SIP messages, one to a datagram."""

    def __init__(self) -> None:
        self._received: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport: Any

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, _: Any) -> None:
        self._received.put_nowait(data)

    @property
    def local_address(self) -> Any:
        return self.transport.get_extra_info("sockname")

    async def send(self, message: str, /) -> None:
        self.transport.sendto(message.encode())

    async def close(self) -> None:
        self.transport.close()

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while True:
            yield await self._received.get()
