"""A phone that calls and is called: enough of RFC 3261 for a dialog, one call at a time."""

import uuid
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.sip_phone import message as sip_message
from tests.sip_phone.message import SipMessage
from tests.sip_phone.phone import Phone

TAG: Final = "callee"


@dataclass
class Dialog:
    """What one side of a call says in each of its requests. `target` is where the other side's contact is."""

    local: str
    remote: str
    call_id: str
    routes: tuple[str, ...]
    target: str
    cseq: int

    @classmethod
    def made(cls, answer: SipMessage) -> Self:
        """That of who called, by the 200 it got."""
        local, remote, call_id = (answer.first(name) for name in ("from", "to", "call-id"))
        return cls(local, remote, call_id, tuple(reversed(answer.all("record-route"))), contact_of(answer), 1)

    @classmethod
    def of_callee(cls, invite: SipMessage) -> Self:
        """That of who was called, by the INVITE."""
        local, remote, call_id = (invite.first(name) for name in ("to", "from", "call-id"))
        return cls(f"{local};tag={TAG}", remote, call_id, tuple(invite.all("record-route")), contact_of(invite), 0)


def contact_of(message: SipMessage) -> str:
    """The URI in its Contact."""
    return message.first("contact").partition("<")[2].partition(">")[0]


class Caller(Phone):
    """A phone that takes every call, can make one, and keeps the `requests` that it gets. Muted it hears nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.requests: list[SipMessage] = []
        self._left: list[Any] = []

    async def roam(self) -> None:
        """Come back on a new connection while the old one hangs: it stands, and nobody hears what comes there."""
        assert self._socket
        self._left.append(self._socket)
        await self.start()

    async def close(self) -> None:
        for socket in self._left:
            await socket.close()
        await super().close()

    async def call(self, aor: str, body: str) -> SipMessage:
        """The final answer to an INVITE."""
        local, remote = f"<sip:{self.aor}>;tag=caller", f"<sip:{aor}>"
        return await self.say(Dialog(local, remote, f"call-of-{self._host}", (), f"sip:{aor}", 0), body)

    async def say(self, dialog: Dialog, body: str = "", method: str = "INVITE") -> SipMessage:
        """The final answer to a request within a call."""
        dialog.cseq += 1
        return await self._ask(self._within(dialog, method, body))

    async def acknowledge(self, dialog: Dialog) -> None:
        assert self._socket
        await self._socket.send(str(self._within(dialog, "ACK")))

    def _within(self, dialog: Dialog, method: str, body: str = "") -> SipMessage:
        headers = (
            ("Via", f"SIP/2.0/WS {self._host};branch=z9hG4bK{uuid.uuid4().hex}"),
            ("Max-Forwards", "70"),
            *(("Route", route) for route in dialog.routes),
            ("From", dialog.local),
            ("To", dialog.remote),
            ("Call-ID", dialog.call_id),
            ("CSeq", f"{dialog.cseq} {method}"),
            ("Contact", f"<{self.uri}>"),
            ("Content-Type", "application/sdp"),
        )
        return SipMessage(f"{method} {dialog.target} SIP/2.0", headers, body)

    def _receive(self, socket: Any, frame: str) -> None:
        message = sip_message.parse(frame)
        if socket in self._left:
            return
        if message.method not in ("INVITE", "ACK", "BYE"):
            super()._receive(socket, frame)
        elif not self.muted:
            self._hear(socket, message)

    def _hear(self, socket: Any, message: SipMessage) -> None:
        self.requests.append(message)
        if message.method != "ACK":
            self._spawn(self._accept(socket, message))

    async def _accept(self, socket: Any, request: SipMessage) -> None:
        echoed = sip_message.response(request, "200 OK", TAG)
        routes = tuple(("Record-Route", route) for route in request.all("record-route"))
        more = (*routes, ("Contact", f"<{self.uri}>"), ("Content-Type", "application/sdp"))
        await socket.send(str(SipMessage(echoed.start_line, (*echoed.headers, *more), request.body)))
