"""Phones that keep each SIP message that they send and get, to be compared with a trace."""

import asyncio
import uuid
from typing import Any, ClassVar, Final, NamedTuple

from companion.trace.message import parse
from companion.trace.packet import Packet
from tests.acceptance.caller import Caller, Dialog
from tests.sip_phone import message as sip_message
from tests.sip_phone.message import SipMessage
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

    def __init__(self, inner: Any, log: list[Line], texts: list[str]) -> None:
        self._inner = inner
        self._log = log
        self._texts = texts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> Any:
        return self._inner.__aiter__()

    async def send(self, message: str) -> None:
        add(self._log, message, is_sent=True)
        self._texts.append(message)
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


class LoggedPhone(Caller):
    """A phone that keeps its messages, with `reply` to calls, and hangs up before an answer.

    `texts` are those that it sent.
    """

    def __post_init__(self) -> None:
        self.log: list[Line] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.reply = "200 OK"
        self._ringing: SipMessage | None = None
        super().__post_init__()

    async def _connect(self) -> None:
        await super()._connect()
        self.addresses.append(self.address)
        self._socket = LoggedSocket(self._socket, self.log, self.texts)

    async def call(self, aor: str, body: str) -> SipMessage:
        """The final answer to an INVITE; each call has a Call-ID of its own, as those of real phones."""
        dialog = Dialog(f"<sip:{self.aor}>;tag=caller", f"<sip:{aor}>", f"call-{uuid.uuid4().hex}", (), f"sip:{aor}", 0)
        return await self.say(dialog, body)

    async def cancel(self, aor: str) -> SipMessage:
        """Call somebody who rings, hang up, and return the final answer."""
        assert self._socket
        dialog = Dialog(
            f"<sip:{self.aor}>;tag=cancel", f"<sip:{aor}>", f"cancelled-{uuid.uuid4().hex}", (), f"sip:{aor}", 1
        )
        invite = self._within(dialog, "INVITE", "v=0\r\n")
        answer = asyncio.create_task(self._ask(invite))
        await asyncio.sleep(0.5)
        await self._socket.send(str(_following(invite, "CANCEL")))
        await self._socket.send(str(_following(invite, "ACK", (await answer).first("to"))))
        return answer.result()

    def _receive(self, socket: Any, frame: str) -> None:
        add(self.log, frame, is_sent=False)
        logged = LoggedSocket(socket, self.log, self.texts)
        message = sip_message.parse(frame)
        if message.method == "CANCEL" and not self.muted:
            self._spawn(self._give_up(logged, message))
        else:
            super()._receive(logged, frame)

    async def _accept(self, socket: Any, request: SipMessage) -> None:
        if request.method != "INVITE" or self.reply == "200 OK":
            await super()._accept(socket, request)
            return
        self._ringing = request
        await socket.send(str(sip_message.response(request, self.reply, "callee")))

    async def _give_up(self, socket: Any, cancel: SipMessage) -> None:
        await socket.send(str(sip_message.response(cancel, "200 OK", "callee")))
        if self._ringing:
            await socket.send(str(sip_message.response(self._ringing, "487 Request Terminated", "callee")))


def _following(invite: SipMessage, method: str, to: str = "") -> SipMessage:
    """Return the CANCEL of an INVITE, or the ACK of its final error, in the same transaction."""
    changed = {"CSeq": f"1 {method}", **({"To": to} if to else {})}
    headers = tuple((name, changed.get(name, value)) for name, value in invite.headers if name != "Content-Type")
    return SipMessage(invite.start_line.replace("INVITE", method, 1), headers)


class WebPhone(LoggedPhone):
    """A phone with a random contact user, as JsSIP and SIP.js have."""

    def _load_page(self) -> None:
        super()._load_page()
        self._contact_user = uuid.uuid4().hex[:8]

    @property
    def uri(self) -> str:
        push = self.push.uri_params if self.push else ""
        return f"sip:{self._contact_user}@{self._host};transport=ws{push}"


class DeskPhone(LoggedPhone, UdpPhone):
    """A phone over UDP."""

    via: ClassVar[str] = "UDP"


def lines_of(packets: list[Packet], addresses: list[str]) -> list[Line]:
    """Return the messages of a trace on the legs of a phone, as the phone would have logged them."""
    return [
        line_of(packet.sip, is_sent=packet.source in addresses)
        for packet in packets
        if {packet.source, packet.target} & set(addresses)
    ]
