"""A real phone, small: SIP over WebSocket (RFC 7118), as a browser speaks it."""

import asyncio
import contextlib
import random
import re
import socket
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Protocol, Self
from urllib.parse import urlsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Origin, Subprotocol

from companion.errors import InvalidInputError, UnavailableError
from tests.sip_phone import digest
from tests.sip_phone import message as sip_message
from tests.sip_phone.message import SipMessage

SIP: Final = Subprotocol("sip")
ORIGIN: Final = Origin("https://phone.invalid")


class Push(Protocol):
    """Describe push parameters of a contact URI, with a leading semicolon."""

    @property
    def uri_params(self) -> str: ...


class SipConnection(Protocol):
    """Describe what a phone sends and receives over, a SIP message at a time."""

    @property
    def local_address(self) -> Any: ...
    @property
    def transport(self) -> asyncio.WriteTransport: ...
    async def send(self, message: str, /) -> None: ...
    async def close(self) -> None: ...
    async def wait_closed(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[str | bytes]: ...


REFRESH_AT: Final = 0.5
"""The part of its granted time after which a phone registers again."""
UNAUTHORIZED: Final = 401


@dataclass(eq=False)
class Phone:
    """A device of `aor` (user@domain) behind the WebSocket `url` of a registrar. Times are epoch seconds.

    `expires` is what it asks for and `granted` what it got, in seconds. It answers a ping after `answer_delay` seconds.
    `source` is the local address it connects from ("" = whichever the system takes), `source_port` the port (0 = any
    free one), which others may use for another destination. `timeout` is for one answer of the registrar. `answered`
    and `ignored` are the times of pings, `registered` those of answered REGISTERs.
    """

    url: str
    aor: str
    password: str = ""
    instance: str = field(default_factory=lambda: f"urn:uuid:{uuid.uuid4()}")
    push: Push | None = None
    expires: int = 600
    answer_delay: float = 0.0
    source: str = ""
    source_port: int = 0
    user_agent: str = "OpenSIPS Companion phone"
    timeout: float = 5.0

    via: ClassVar[str] = "WS"
    """The transport in its Via."""

    def __post_init__(self) -> None:
        self.muted = False
        self.granted = 0
        self.answered: list[float] = []
        self.ignored: list[float] = []
        self.registered: list[float] = []
        self._socket: SipConnection | None = None
        self._cseq = 0
        self._waiting: dict[str, asyncio.Future[SipMessage]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._registering = asyncio.Lock()
        self._refreshing: asyncio.TimerHandle | None = None
        self._load_page()

    @property
    def uri(self) -> str:
        """Its contact URI, new with each `reload`."""
        return f"sip:{self._user}@{self._host};transport=ws{self.push.uri_params if self.push else ''}"

    @property
    def address(self) -> str:
        """The `ip:port` its connection comes from, "" when it has none."""
        if self._socket is None:
            return ""
        host, port = self._socket.local_address[:2]
        return f"{host}:{port}"

    async def start(self) -> None:
        """Connect, register and stay registered. UnavailableError when the registrar can not be reached or refuses."""
        await self._connect()
        await self.register()

    async def close(self) -> None:
        """Close the connection in order. The registration stays, as when a tab is closed."""
        if self._socket:
            await self._socket.close()
        await self._end()

    async def die(self) -> None:
        """Cut the connection without a word, as a phone whose network is gone or whose battery is empty."""
        if self._socket:
            self._socket.transport.abort()
            await self._socket.wait_closed()
        await self._end()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def register(self) -> None:
        """Register, or refresh the registration; the next refresh comes by itself. UnavailableError without a 200."""
        answer = await self._register(self.expires)
        self.registered.append(time.time())
        self.granted = _granted(answer, self._host, self.expires)
        self._refresh_later()

    async def unregister(self) -> None:
        """Take the contact back; the connection stays."""
        self._stop_refreshing()
        await self._register(0)
        self.granted = 0

    def mute(self) -> None:
        """Ignore all pings from now on."""
        self.muted = True

    def unmute(self) -> None:
        self.muted = False

    async def reload(self) -> None:
        """Do as a browser whose page is loaded anew: another connection and contact URI, the same instance."""
        await self.die()
        self._load_page()
        await self.start()

    async def move(self, source: str) -> None:
        """Do as a phone that changes networks: the same contact URI, from another address."""
        await self.die()
        self.source = source
        await self.start()

    @property
    def _user(self) -> str:
        return self.aor.partition("@")[0]

    @property
    def _domain(self) -> str:
        return self.aor.partition("@")[2]

    def _load_page(self) -> None:
        self._host = f"{_random_hex(12)}.invalid"
        self._call_id = _random_hex(32)

    async def _connect(self) -> None:
        try:
            self._socket = await connect(
                self.url,
                origin=ORIGIN,
                subprotocols=[SIP],
                compression=None,
                proxy=None,
                ping_interval=None,
                open_timeout=self.timeout,
                close_timeout=1,
                **self._socket_options(),
            )
        except (OSError, WebSocketException) as error:
            raise UnavailableError(f"no WebSocket at {self.url}: {error}") from error
        self._spawn(self._listen(self._socket))

    def _socket_options(self) -> dict[str, Any]:
        if self.source_port:
            return {"sock": connect_from(self.source or "127.0.0.1", self.source_port, self.url)}
        return {"local_addr": (self.source, 0) if self.source else None}

    async def _end(self) -> None:
        self._stop_refreshing()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket = None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refresh_later(self) -> None:
        self._stop_refreshing()
        loop = asyncio.get_running_loop()
        self._refreshing = loop.call_later(self.granted * REFRESH_AT, lambda: self._spawn(self._refresh()))

    def _stop_refreshing(self) -> None:
        if self._refreshing:
            self._refreshing.cancel()
            self._refreshing = None

    async def _refresh(self) -> None:
        try:
            await self.register()
        except UnavailableError:
            self._refresh_later()

    async def _listen(self, socket: SipConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in socket:
                self._receive(socket, frame if isinstance(frame, str) else frame.decode("utf-8", "replace"))
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionAbortedError())

    def _receive(self, socket: SipConnection, frame: str) -> None:
        try:
            message = sip_message.parse(frame)
        except InvalidInputError:
            return  # a keep-alive, or nothing that can be answered
        if message.status:
            self._take_answer(message)
        elif message.method == "OPTIONS":
            self._take_ping(socket, message)
        elif message.method != "ACK":
            self._spawn(self._answer(socket, message, "405 Method Not Allowed"))

    def _take_answer(self, message: SipMessage) -> None:
        waiting = self._waiting.get(message.first("cseq"))
        if waiting and message.status >= 200 and not waiting.done():
            waiting.set_result(message)

    def _take_ping(self, socket: SipConnection, ping: SipMessage) -> None:
        if self.muted:
            self.ignored.append(time.time())
        else:
            self._spawn(self._answer_ping(socket, ping, time.time()))

    async def _answer_ping(self, socket: SipConnection, ping: SipMessage, came_at: float) -> None:
        await asyncio.sleep(self.answer_delay)
        await self._answer(socket, ping, "200 OK")
        self.answered.append(came_at)

    async def _answer(self, socket: SipConnection, request: SipMessage, status: str) -> None:
        with contextlib.suppress(ConnectionClosed):
            await socket.send(str(sip_message.response(request, status, to_tag=_random_hex(8))))

    async def _register(self, expires: int) -> SipMessage:
        async with self._registering:
            answer = await self._ask(self._request(expires))
            if answer.status == UNAUTHORIZED:
                answer = await self._ask(self._request(expires, self._authorization(answer)))
        if answer.status != 200:
            raise UnavailableError(f"REGISTER of {self.aor} was answered {answer.start_line}")
        return answer

    def _authorization(self, answer: SipMessage) -> tuple[str, str]:
        login = digest.Login(self._user, self.password)
        target = digest.Target("REGISTER", f"sip:{self._domain}")
        challenges = answer.all("www-authenticate")
        return "Authorization", digest.authorization(challenges, login, target, cnonce=_random_hex(16))

    def _request(self, expires: int, *more: tuple[str, str]) -> SipMessage:
        self._cseq += 1
        headers = (
            ("Via", f"SIP/2.0/{self.via} {self._host};branch=z9hG4bK{_random_hex(16)}"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.aor}>;tag={_random_hex(8)}"),
            ("To", f"<sip:{self.aor}>"),
            ("Call-ID", self._call_id),
            ("CSeq", f"{self._cseq} REGISTER"),
            ("Contact", f'<{self.uri}>;+sip.instance="<{self.instance}>"'),
            ("Expires", str(expires)),
            ("Supported", "path, outbound"),
            ("Allow", "OPTIONS"),
            ("User-Agent", self.user_agent),
        )
        return SipMessage(f"REGISTER sip:{self._domain} SIP/2.0", (*headers, *more))

    async def _ask(self, request: SipMessage) -> SipMessage:
        if self._socket is None:
            raise UnavailableError(f"the phone of {self.aor} has no connection")
        waiting: asyncio.Future[SipMessage] = asyncio.get_running_loop().create_future()
        self._waiting[request.first("cseq")] = waiting
        try:
            async with asyncio.timeout(self.timeout):
                await self._socket.send(str(request))
                return await waiting
        except (ConnectionClosed, OSError) as error:  # TimeoutError is an OSError
            raise UnavailableError(f"REGISTER of {self.aor} got no answer") from error
        finally:
            del self._waiting[request.first("cseq")]


def connect_from(host: str, port: int, url: str) -> socket.socket:
    """Return a TCP connection to the host and port of a URL from a source port that other connections may share."""
    target = urlsplit(url)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind((host, port))
    made.connect((target.hostname or "", target.port or 0))
    return made


def _granted(answer: SipMessage, host: str, requested_seconds: int) -> int:
    """The seconds granted to our contact; the answer has those of the AOR's other devices, too."""
    for contact in re.split(r"<(?=sips?:)", ",".join(answer.all("contact"))):
        match = re.search(r";expires=(\d{1,9})", contact)
        if host in contact and match:
            return int(match[1])
    return requested_seconds


def _random_hex(digits: int) -> str:
    return f"{random.getrandbits(4 * digits):0{digits}x}"
