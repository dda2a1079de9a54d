"""Ask a phone itself whether it is alive: OpenSIPS sends it an OPTIONS and returns its final reply.

MI's `t_uac_dlg` goes over mi_datagram (JSON-RPC over UDP), where questions do not wait for each other as they do over
HTTP. A `Status` with a `Message` is a reply of the phone. A 408 without one is OpenSIPS' own: the phone is silent.
Anything else proves nothing. Seen alike on OpenSIPS 3.4.18, 3.6.8 and 4.0.1.
"""

import asyncio
import contextlib
import itertools
import json
import secrets
import time
from typing import Any, Final, Literal, NamedTuple, Self, cast
from weakref import WeakValueDictionary

from companion import metrics, sip
from companion.config.address import parse_address
from companion.credentials import mask

FROM_USER: Final = "companion"
"""The From user of our questions: opensips.cfg's local_route knows them by it, and never dials a phone for them."""
ANSWER_SECONDS: Final = 8.0
"""OpenSIPS gives up after `fr_timeout` (5 s in local_route), up to a second late."""
MAX_IN_FLIGHT: Final = 50
"""Bursts of more than a hundred questions overflow the receive buffer of mi_datagram without a trace."""

ProbeResult = Literal["answered", "unanswered", "failed"]


class Question(NamedTuple):
    """Hold what it takes to ask a contact.

    `received` is its address behind NAT ("" where the URI leads to it), `socket` OpenSIPS' own listening socket as
    events name it: asked over another one, OpenSIPS answers 408 for a live phone.
    """

    uri: str
    received: str
    socket: str


class ProbeReply(NamedTuple):
    """Hold what came of a question: a reply of the phone, silence, or a failure of the way itself.

    `detail` is the status line or what failed, `duration_ms` how long it took.
    """

    result: ProbeResult
    detail: str
    duration_ms: float


class Prober:
    """Ask phones through the mi_datagram of one OpenSIPS at `url`, such as `udp:127.0.0.1:8889`.

    One question per address is in flight, and MAX_IN_FLIGHT in all; more wait. Raises ConfigError for a bad URL.
    """

    def __init__(self, url: str, node: str = "") -> None:
        self._address = parse_address(url)
        self._node = node
        self._ids = itertools.count(1)
        self._tag = secrets.token_hex(4)
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._opening = asyncio.Lock()
        self._channel: _Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the socket; questions in flight fail."""
        if self._channel:
            self._channel.close()
            self._channel = None
            await asyncio.sleep(0)  # lets the transport close

    async def ask(self, question: Question) -> ProbeReply:
        """Ask one contact. Never raises for what the network does: the reply says what failed."""
        turn = self._turns.setdefault(question.received or question.uri, asyncio.Lock())
        async with turn, self._in_flight:
            started = time.monotonic()
            result, detail = doubt_silence(question, *await self._ask(question))
            duration_ms = (time.monotonic() - started) * 1000
        metrics.PROBES.labels(self._node, result).inc()
        return ProbeReply(result, detail, duration_ms)

    async def _ask(self, question: Question) -> tuple[ProbeResult, str]:
        number = f"{self._tag}-{next(self._ids)}"
        try:
            channel = await self._open()
            reply = await channel.exchange(number, encode_question(question, number))
        except TimeoutError:
            return "failed", "mi_datagram did not answer"
        except OSError as error:
            return "failed", f"mi_datagram can not be reached: {error.strerror or error}"
        return read_reply(reply)

    async def _open(self) -> "_Channel":
        async with self._opening:
            if self._channel is None:
                loop = asyncio.get_running_loop()
                remote = self._address.host, self._address.port
                _, self._channel = await loop.create_datagram_endpoint(_Channel, remote_addr=remote)
            return self._channel


class _Channel(asyncio.DatagramProtocol):
    """Match the replies on one UDP socket with their questions, by id."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, datagram: bytes, _: Any) -> None:
        reply = _decode(datagram)
        future = self._waiting.get(str(reply.get("id")))
        if future and not future.done():
            future.set_result(reply)

    def error_received(self, error: Exception) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    async def exchange(self, number: str, request: bytes) -> dict[str, Any]:
        """Send a request and wait for its reply. Raises TimeoutError and OSError."""
        assert self._transport is not None  # noqa: S101 - it is connected
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._transport.sendto(request)
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        finally:
            del self._waiting[number]

    def close(self) -> None:
        for future in self._waiting.values():
            with contextlib.suppress(asyncio.InvalidStateError):
                future.set_exception(ConnectionError("closed"))
        if self._transport:
            self._transport.close()


def encode_question(question: Question, number: str) -> bytes:
    """Return the datagram that asks a contact.

    Always one object with a method: OpenSIPS 4.0.1 ends at a datagram without one. The last header must end in a line
    break. An empty `next_hop` would be refused.
    """
    headers = f"From: <sip:{FROM_USER}@companion.invalid>;tag={number}\r\nTo: <{question.uri}>\r\n"
    params = {"method": "OPTIONS", "ruri": question.uri, "headers": headers, "socket": question.socket}
    if question.received:
        params["next_hop"] = question.received
    request = {"jsonrpc": "2.0", "id": number, "method": "t_uac_dlg", "params": params}
    return json.dumps(request).encode()


def read_reply(reply: dict[str, Any]) -> tuple[ProbeResult, str]:
    """Return what a reply of MI says about the phone."""
    outcome, error = reply.get("result"), reply.get("error")
    if isinstance(outcome, dict) and isinstance(outcome.get("Status"), str):
        status = mask(outcome["Status"][:100])
        if "Message" in outcome:
            return "answered", status
        if status.startswith("408"):
            return "unanswered", status
        return "failed", status
    if isinstance(error, dict):
        return "failed", mask(f"{error.get('code')} {error.get('message')}"[:200])
    return "failed", "an answer that is none"


def doubt_silence(question: Question, result: ProbeResult, detail: str) -> tuple[ProbeResult, str]:
    """Return what a result is worth: silence proves nothing of a phone that OpenSIPS may have to dial.

    A question opens no connection. Without `received` nobody knows whether the phone has one, or waits for one.
    """
    if result == "unanswered" and not question.received and sip.needs_connection(question.uri):
        return "failed", f"{detail}: it may have no open connection, and a question opens none"
    return result, detail


def _decode(datagram: bytes) -> dict[str, Any]:
    try:
        reply = json.loads(datagram.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}
