"""Phones that keep each SIP message that they send and get, to be compared with a trace."""

import uuid
from typing import Any, ClassVar, Final, NamedTuple

from companion.trace.message import parse
from companion.trace.packet import Packet
from tests.acceptance.caller import Caller
from tests.sip_phone.udp_phone import UdpPhone


class Line(NamedTuple):
    """One message as both sides know it: who sent it, its start line, its transaction and its call."""

    is_sent: bool
    start: str
    cseq: str
    call_id: str


PING: Final = "OPTIONS"


class LoggedSocket:
    """A connection that tells its phone what is sent."""

    def __init__(self, inner: Any, log: list[Line]) -> None:
        self._inner = inner
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> Any:
        return self._inner.__aiter__()

    async def send(self, message: str) -> None:
        add(self._log, message, is_sent=True)
        await self._inner.send(message)


def add(log: list[Line], text: str, *, is_sent: bool) -> None:
    """Append a message to a log, but no ping."""
    line = line_of(text.encode(), is_sent=is_sent)
    if PING not in line.cseq:
        log.append(line)


def line_of(sip: bytes, *, is_sent: bool) -> Line:
    message = parse(sip)
    start = sip.split(b"\r\n", 1)[0].decode()
    return Line(is_sent, start, "{} {}".format(*message.cseq), message.call_id)


class WebPhone(Caller):
    """A phone with a random contact user, as JsSIP and SIP.js have, which keeps its messages.

    `busy` declines calls, `ringing` only rings.
    """

    def __post_init__(self) -> None:
        self.log: list[Line] = []
        self.addresses: list[str] = []
        self.reply = "200 OK"
        super().__post_init__()

    def _load_page(self) -> None:
        super()._load_page()
        self._contact_user = uuid.uuid4().hex[:8]

    @property
    def uri(self) -> str:
        return f"sip:{self._contact_user}@{self._host};transport=ws"

    async def _connect(self) -> None:
        await super()._connect()
        self.addresses.append(self.address)
        self._socket = LoggedSocket(self._socket, self.log)

    def _receive(self, socket: Any, frame: str) -> None:
        if not self.muted:
            add(self.log, frame, is_sent=False)
        super()._receive(LoggedSocket(socket, self.log), frame)


class DeskPhone(UdpPhone):
    """A phone over UDP that keeps its messages."""

    via: ClassVar[str] = "UDP"

    def __post_init__(self) -> None:
        self.log: list[Line] = []
        self.addresses: list[str] = []
        super().__post_init__()

    async def _connect(self) -> None:
        await super()._connect()
        self.addresses.append(self.address)
        self._socket = LoggedSocket(self._socket, self.log)

    def _receive(self, socket: Any, frame: str) -> None:
        add(self.log, frame, is_sent=False)
        super()._receive(LoggedSocket(socket, self.log), frame)


def lines_of(packets: list[Packet], addresses: list[str]) -> list[Line]:
    """Return the messages of a trace on the legs of a phone, as the phone would have logged them."""
    return [
        line_of(packet.sip, is_sent=packet.source in addresses)
        for packet in packets
        if {packet.source, packet.target} & set(addresses)
    ]
