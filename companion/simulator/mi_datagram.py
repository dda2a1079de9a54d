"""Serve MI over UDP as mi_datagram does: a `t_uac_dlg` is answered by the phone, or not."""

import asyncio
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast

from companion import sip
from companion.errors import UnavailableError
from companion.simulator.json_rpc import InvalidParamsError, MiReplyError, is_request, render_reply
from companion.simulator.mi import SimulatedMi
from companion.simulator.node import Node
from companion.simulator.phone import SimulatedPhone

GIVE_UP_SECONDS: Final = 5.0
"""`$T_fr_timeout` of our opensips.cfg."""
RETRANSMISSIONS: Final = (0.0, 0.5, 1.5, 3.5)
"""Seconds after the first OPTIONS at which tm, or TCP below it, sends it once more."""
NEEDED: Final = {"method", "ruri", "headers"}
ALLOWED: Final = NEEDED | {"next_hop", "socket", "body"}

Send = Callable[[bytes], None]


class SimulatedMiDatagram:
    """Answer the requests of one datagram each. No I/O.

    Latencies are real seconds, since the companion measures them with its own clock. The time until a silent phone is
    given up is simulated seconds, like all other timers of the node.
    """

    reason = "OK"
    """What phones write behind their status code."""

    def __init__(self, node: Node, mi: SimulatedMi) -> None:
        self.questions: list[Mapping[str, Any]] = []
        self._node = node
        self._mi = mi

    def answer(self, datagram: bytes, send: Send) -> None:
        """Answer one datagram through `send`, now or when the phone has answered."""
        try:
            request = json.loads(datagram)
        except ValueError:
            return send(b"400 Parse_error")
        if isinstance(request, dict) and is_request(request) and request["method"] == "t_uac_dlg":
            return self._ask(request, send)
        return _send_if_any(self._mi.answer(datagram), send)

    def _ask(self, request: dict[str, Any], send: Send) -> None:
        reply = partial(_reply, send, request.get("id"))
        try:
            question = _read_question(request.get("params", {}))
            self.questions.append(question)
            self._check_socket(question)
        except MiReplyError as error:
            return reply(error)
        return self._send_options(question, reply)

    def _check_socket(self, question: Mapping[str, Any]) -> None:
        if question.get("socket") and question["socket"] not in self._node.sockets.values():
            raise MiReplyError(404, "Local socket not found")
        host = sip.network_address("", question.get("next_hop") or question["ruri"]).rpartition(":")[0]
        if host.endswith(".invalid"):
            raise MiReplyError(476, "Unresolvable destination (476/MI/UAC)")

    def _send_options(self, question: Mapping[str, Any], reply: Callable[[Any], None]) -> None:
        seconds = self._find_round_trip(question)
        if seconds is None:
            self._node.agenda.call_later(GIVE_UP_SECONDS, lambda _: reply({"Status": "408 Request Timeout"}))
        else:
            answered = {
                "Status": f"200 {self.reason}",
                "Message": f"CSeq: 10 OPTIONS\r\nTo: <{question['ruri']}>\r\n\r\n",
            }
            self._node.agenda.call_later(seconds * self._node.settings.speed, lambda _: reply(answered))

    def _find_round_trip(self, question: Mapping[str, Any]) -> float | None:
        """Return the real seconds until the phone's answer, None when it never comes."""
        phone = self._find_phone(question["ruri"])
        if phone is None or question.get("socket") not in {None, "", self._node.sockets[phone.transport]}:
            return None
        for sent_after in RETRANSMISSIONS:
            seconds = phone.answer(question["ruri"], question.get("next_hop"))
            if seconds is not None and sent_after + seconds < GIVE_UP_SECONDS:
                return sent_after + seconds
        return None

    def _find_phone(self, uri: str) -> SimulatedPhone | None:
        return next((phone for phone in self._node.phones if phone.uri == uri), None)


class MiDatagramServer(asyncio.DatagramProtocol):
    """Receive requests on a UDP socket. `answer` takes a datagram and where to send its reply."""

    def __init__(self, answer: Callable[[bytes, Send], None]) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def url(self) -> str:
        """Return its address as [[opensips]] probe_url."""
        assert self._transport is not None  # noqa: S101 - it was started
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"udp:{host}:{port}"

    async def start(self, listen: str) -> None:
        """Bind `HOST:PORT`, port 0 being any free one. Raises UnavailableError when the address can not be had."""
        host, _, port = listen.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            await loop.create_datagram_endpoint(lambda: self, local_addr=(host, int(port)))
        except OSError as error:
            raise UnavailableError(f"can not listen on {listen}: {error}") from error

    async def stop(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.close()
            await asyncio.sleep(0)  # lets the transport close

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, datagram: bytes, sender: Any) -> None:
        self._answer(datagram, partial(self._send, sender))

    def _send(self, receiver: Any, reply: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.sendto(reply, receiver)


def _read_question(params: Any) -> Mapping[str, Any]:
    """Return the checked parameters. OpenSIPS takes them by name only."""
    if not isinstance(params, dict) or not NEEDED <= set(params) <= ALLOWED:
        raise InvalidParamsError
    if not str(params["headers"]).endswith("\n"):
        raise MiReplyError(400, "Bad headers")
    for name in ("ruri", "next_hop"):
        if not str(params.get(name, "sip:")).startswith("sip"):
            raise MiReplyError(400, f"Invalid {name}")
    return params


def _reply(send: Send, request_id: Any, outcome: Any) -> None:
    if request_id is not None:
        send(render_reply(request_id, outcome))


def _send_if_any(reply: bytes | None, send: Send) -> None:
    if reply is not None:
        send(reply)
