"""A phone over UDP, TCP or TLS whose REGISTER is the test's own text; it answers pings."""

import asyncio
import contextlib
import re
import ssl
import uuid
from collections.abc import Callable
from typing import Final, Literal, Self

from companion.errors import InvalidInputError
from tests.sip_phone import message as sip_message
from tests.sip_phone.message import Headers, SipMessage

Transport = Literal["udp", "tcp", "tls"]
Send = Callable[[bytes], None]
Abort = Callable[[], None]
_LENGTH: Final = re.compile(rb"\r\n(?:Content-Length|l)[ \t]*:[ \t]*(\d+)", re.IGNORECASE)
TIMEOUT: Final = 5.0


class RawPhone:
    """A phone of `aor` (user@domain). Its headers go out as they are, also those that no phone should send."""

    def __init__(self, transport: Transport, port: int, aor: str, user_agent: str = "Raw phone 1.0") -> None:
        self.transport = transport
        self.aor = aor
        self.user_agent = user_agent
        self.cseq = 0
        self.call_id = uuid.uuid4().hex
        self.address = ""
        self.timeout = TIMEOUT
        self.pings = 0
        self._port = port
        self._answers: asyncio.Queue[SipMessage] = asyncio.Queue()
        self._write: Send
        self._abort: Abort

    async def __aenter__(self) -> Self:
        host, port = (await self._connect()).get_extra_info("sockname")
        self.address = f"{host}:{port}"
        return self

    async def _connect(self) -> asyncio.BaseTransport:
        loop, remote = asyncio.get_running_loop(), ("127.0.0.1", self._port)
        if self.transport == "udp":
            datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), remote_addr=remote)
            self._write, self._abort = datagrams.sendto, datagrams.abort
            return datagrams
        context = _unverified() if self.transport == "tls" else None
        stream, _ = await loop.create_connection(lambda: _Stream(self), *remote, ssl=context)
        self._write, self._abort = stream.write, stream.abort
        return stream

    async def __aexit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Cut the connection without unregistering."""
        self._abort()

    async def register(self, *contacts: str, expires: int | None = 600, headers: Headers = ()) -> SipMessage:
        """Send a REGISTER with these Contact values, one header each, and return its final answer."""
        self.cseq += 1
        return await self.ask(self._request(contacts, expires, headers))

    async def ask(self, request: SipMessage) -> SipMessage:
        """Send a request, bytes that are not UTF-8 as lone surrogates, and return its final answer."""
        branch = request.first("via").partition("branch=")[2].partition(";")[0]
        self._write(str(request).encode("utf-8", "surrogateescape"))
        async with asyncio.timeout(self.timeout):
            while True:
                answer = await self._answers.get()
                if answer.status >= 200 and branch in answer.first("via"):
                    return answer

    def receive(self, data: bytes) -> None:
        """Take a message of the registrar: answer a ping, keep the answer to a REGISTER."""
        with contextlib.suppress(InvalidInputError):
            message = sip_message.parse(data.decode("utf-8", "replace"))
            if message.status:
                self._answers.put_nowait(message)
            elif message.method == "OPTIONS":
                self._write(str(sip_message.response(message, "200 OK", to_tag=uuid.uuid4().hex[:8])).encode())
                self.pings += 1

    def _request(self, contacts: tuple[str, ...], expires: int | None, headers: Headers) -> SipMessage:
        branch, domain = uuid.uuid4().hex, self.aor.partition("@")[2]
        lines = [
            ("Via", f"SIP/2.0/{self.transport.upper()} {self.address};branch=z9hG4bK{branch};rport"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.aor}>;tag={branch[:8]}"),
            ("To", f"<sip:{self.aor}>"),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self.cseq} REGISTER"),
            *(("Contact", contact) for contact in contacts),
            *([("Expires", str(expires))] if expires is not None else []),
            *([("User-Agent", self.user_agent)] if self.user_agent else []),
        ]
        return SipMessage(f"REGISTER sip:{domain} SIP/2.0", (*lines, *headers))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, phone: RawPhone) -> None:
        self._phone = phone

    def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
        self._phone.receive(data)


class _Stream(asyncio.Protocol):
    """Cuts a stream into messages by their Content-Length."""

    def __init__(self, phone: RawPhone) -> None:
        self._phone = phone
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        self._unread = (self._unread + data).lstrip(b"\r\n")
        while (head := self._unread.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._unread[: head + 2])
            end = head + 4 + (int(length[1]) if length else 0)
            if len(self._unread) < end:
                return
            self._phone.receive(self._unread[:end])
            self._unread = self._unread[end:].lstrip(b"\r\n")


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
