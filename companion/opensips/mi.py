"""The client of OpenSIPS' Management Interface: JSON-RPC 2.0 over HTTP, as module mi_http serves it.

HTTP goes through httpx2, the line of httpx that is maintained (httpx itself had its last release in 2024).
"""

import asyncio
import itertools
import json
import re
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

import httpx2

from companion import log, metrics
from companion.config import OpensipsSection
from companion.errors import ConfigError, InvalidInputError, MiCallError, MiError, MiRefusedError, MiUnreachableError
from companion.opensips import mi_contact
from companion.opensips.json_stream import JsonStream
from companion.opensips.mi_contact import MiContact
from companion.text import printable

DUMP: Final = "ul_dump"
SENT_ONCE: Final = frozenset({"ul_rm_contact", "raise_event", "event_subscribe", DUMP})
"""What is never tried again: a change, because without an answer nobody knows whether it was done, and a dump, because
a big one holds OpenSIPS up for as long as it takes."""
QUICK_READS: Final = frozenset(
    {"ul_show_contact", "events_list", "subscribers_list", "version", "uptime", "ps", "get_statistics", "which"}
)
METHODS: Final = QUICK_READS | SENT_ONCE

MAX_ANSWER_BYTES: Final = 1 << 20
MAX_DUMP_BYTES: Final = 512 << 20
MAX_ERROR_TEXT: Final = 200
PAUSES: Final = (0.25, 1.0)
"""Seconds before a quick read is tried again."""

_NAMES: Final = frozenset({"table_name", "aor", "contact"})
_HEADERS: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}


class Mi:
    """MI of one OpenSIPS at `url`, such as http://127.0.0.1:8888/mi; one request at a time, as OpenSIPS serves them.

    `timeout` is for a whole request, in seconds; waiting for one's turn does not count. Basic auth by `user` and
    `password`, or by those in the URL. TLS is verified: against `ca_file` (PEM), else against the system's authorities.
    Neither proxies nor .netrc are taken from the environment. `node` is its
    name in metrics.

    Raises ConfigError for a URL or a `ca_file` that can not be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        user: str = "",
        password: str = "",
        ca_file: Path | None = None,
    ) -> None:
        address = _address(url)
        self.node = ""
        self.url = str(address.copy_with(userinfo=b""))
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._one_at_a_time = asyncio.Lock()
        self._refused_contacts = log.Episodes(log.get(__name__))
        self._client = _client(user or address.username, password or address.password, ca_file)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def call(self, method: str, **params: Any) -> Any:
        """The `result` of one of METHODS. A quick read is tried three times, the others are sent once.

        Raises ValueError, with nothing sent, for another method or an empty AOR, contact or table; else MiCallError,
        MiRefusedError or MiUnreachableError. After the latter what was sent once may or may not have been done.
        """
        _check(method, params)
        for pause in PAUSES if method in QUICK_READS else ():
            try:
                return await self._ask(method, params)
            except MiUnreachableError:
                await asyncio.sleep(pause)
        return await self._ask(method, params)

    async def show_contact(self, domain: str, aor: str) -> list[MiContact]:
        """The contacts of an AOR, none when OpenSIPS does not know it (any more). `domain` is the usrloc table."""
        try:
            record = await self.call("ul_show_contact", table_name=domain, aor=aor)
        except MiCallError as error:
            if error.gone:
                return []
            raise
        if not isinstance(record, dict) or not isinstance(record.get("Contacts"), list):
            raise self._unreachable("an answer without contacts")
        return list(self._contacts(domain, record))

    async def remove_contact(self, domain: str, aor: str, uri: str) -> Literal["removed", "already-gone"]:
        try:
            await self.call("ul_rm_contact", table_name=domain, aor=aor, contact=uri)
        except MiCallError as error:
            if error.gone:
                return "already-gone"
            raise
        return "removed"

    async def raise_event(self, event: str, params: Mapping[str, str | int]) -> None:
        """Raise a script event with named parameters. MiCallError 404: no route names it; 480: nobody subscribed."""
        named = {"params": json.dumps(dict(params))} if params else {}
        await self.call("raise_event", event=event, **named)

    async def uptime_seconds(self) -> int:
        """How long this OpenSIPS has been running: it falls when OpenSIPS was restarted."""
        match = re.fullmatch(r"(\d{1,15}) \[sec\]", await self._member("uptime", "Up time"))
        if not match:
            raise self._unreachable("an up time that is none")
        return int(match[1])

    async def version(self) -> str:
        """Such as `3.6.8`; what OpenSIPS says of itself where no number is in it."""
        server = await self._member("version", "Server")
        match = re.match(r"OpenSIPS \((\S+)", server)
        return match[1] if match else server

    async def dump(self, seconds: float = 60.0, refused: list[Any] | None = None) -> AsyncGenerator[MiContact, None]:
        """Every contact of every table, while the answer comes in; all of it within `seconds`, the taking included.

        The AOR of each contact that is not fit for use is put into `refused`: text, or anything where that is none.
        An error may come after some contacts: only a dump that reached its end tells what OpenSIPS does not have.
        Leave it early by contextlib.aclosing.
        """
        number = next(self._ids)
        reply: dict[str, Any] = {}
        answer = self._answer(_request(DUMP, {}, number), seconds, MAX_DUMP_BYTES)
        async with self._one_at_a_time, aclosing(answer) as chunks, aclosing(_dumped(chunks, reply)) as records:
            with self._counted(DUMP):
                with self._no_garbage():
                    async for domain, record in records:
                        for contact in self._contacts(domain, record, refused):
                            yield contact
                self._result(reply, number)

    async def _member(self, method: str, key: str) -> str:
        result = await self.call(method)
        text = result.get(key) if isinstance(result, dict) else None
        if not isinstance(text, str):
            raise self._unreachable(f"an answer without {key}")
        return printable(text[:MAX_ERROR_TEXT])

    def _contacts(self, domain: Any, record: Any, refused: list[Any] | None = None) -> Iterator[MiContact]:
        """Those of one AOR that are fit for use; the others are counted."""
        if not isinstance(record, dict) or not isinstance(described := record.get("Contacts", []), list):
            described, record = [None], {}
        for one in described:
            try:
                yield mi_contact.parse(domain, record.get("AOR"), one)
            except InvalidInputError as error:
                metrics.INVALID.labels("mi", error.reason).inc()
                if refused is not None:
                    refused.append(record.get("AOR"))
                self._refused_contacts.warn("a contact in MI's answer was refused", url=self.url, reason=error.reason)

    async def _ask(self, method: str, params: Mapping[str, Any]) -> Any:
        number = next(self._ids)
        request = _request(method, params, number)
        limit = MAX_DUMP_BYTES if method == DUMP else MAX_ANSWER_BYTES
        async with self._one_at_a_time, aclosing(self._answer(request, self._timeout, limit)) as chunks:
            with self._counted(method):
                text = b"".join([chunk async for chunk in chunks])
                with self._no_garbage():
                    reply = json.loads(text.decode("utf-8", "surrogateescape"))
                return self._result(reply, number)

    async def _answer(self, body: bytes, seconds: float, limit: int) -> AsyncGenerator[bytes, None]:
        """The answer to one HTTP request, piece by piece, `limit` bytes at most."""
        deadline = asyncio.get_running_loop().time() + seconds
        request = self._client.build_request("POST", self.url, content=body)
        try:
            # a timeout must not reach over a yield: it would strike whoever takes the pieces
            async with asyncio.timeout_at(deadline):
                response = await self._client.send(request, stream=True, follow_redirects=False)
            async with aclosing(response), aclosing(response.aiter_raw()) as chunks:
                self._check_status(response, len(body))
                while True:
                    async with asyncio.timeout_at(deadline):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return
                    if (limit := limit - len(chunk)) < 0:
                        raise self._unreachable("an answer that is too long")
                    yield chunk
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {seconds:g} s") from error
        except httpx2.TransportError as error:
            raise self._unreachable(printable(str(error)) or type(error).__name__) from error

    def _check_status(self, response: httpx2.Response, sent: int) -> None:
        if response.status_code in (401, 403):
            raise MiRefusedError(f"MI at {self.url} refuses our credentials (HTTP {response.status_code})")
        if response.status_code == 400:
            raise self._unreachable(
                f"HTTP 400 to {sent} bytes; httpd's receive_buf_size, by default 1024, may be short"
            )
        if response.status_code != 200:
            raise self._unreachable(f"HTTP {response.status_code}")

    def _result(self, reply: Any, number: int) -> Any:
        if not isinstance(reply, dict) or reply.get("jsonrpc") != "2.0":
            raise self._unreachable("an answer that is no JSON-RPC")
        if isinstance(error := reply.get("error"), dict):
            raise _call_error(error)
        if reply.get("id") != number or "result" not in reply:
            raise self._unreachable("an answer to something else")
        return reply["result"]

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        """Count a request and the time it took, unless whoever wanted it gave it up."""
        started = time.monotonic()
        try:
            yield
        except MiError as error:
            self._count(method, _result_of(error), time.monotonic() - started)
            raise
        self._count(method, "ok", time.monotonic() - started)

    def _count(self, method: str, result: str, seconds: float) -> None:
        counters = {each: metrics.MI_REQUESTS.labels(self.node, method, each) for each in metrics.MI_RESULTS}
        counters[result].inc()
        metrics.MI_SECONDS.labels(self.node, method).observe(seconds)

    @contextmanager
    def _no_garbage(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise self._unreachable("an answer that is no JSON-RPC") from error

    def _unreachable(self, reason: str) -> MiUnreachableError:
        return MiUnreachableError(f"MI at {self.url}: {reason}")


def open_mi(table: OpensipsSection) -> Mi:
    """MI of one `[[opensips]]` table."""
    mi = Mi(
        table.mi_url,
        timeout=table.mi_timeout,
        user=table.mi_user,
        password=table.mi_password,
        ca_file=table.mi_ca_file,
    )
    mi.node = table.node
    return mi


def _address(url: str) -> httpx2.URL:
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise ConfigError(f"the URL of MI can not be used: {error}") from error
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigError("the URL of MI must begin with http:// or https:// and name a host")
    return address


def _client(user: str, password: str, ca_file: Path | None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        auth=httpx2.BasicAuth(user, password) if user or password else None,
        headers=_HEADERS,
        verify=_tls(ca_file),
        trust_env=False,
        timeout=None,
        # a connection kept open may be dead by its next use, and what is sent once would be lost on it
        limits=httpx2.Limits(max_keepalive_connections=0),
    )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"{ca_file} can not be used as a CA file: {error.strerror or error}") from error


def _check(method: str, params: Mapping[str, Any]) -> None:
    if method not in METHODS:
        raise ValueError(f"{method} is no method of MI that the companion calls")
    for name in _NAMES & params.keys():
        # OpenSIPS' ul_rm_contact leaves its table locked when a name is no string
        if not isinstance(params[name], str) or not params[name]:
            raise ValueError(f"{name} must be text, and not empty")


def _request(method: str, params: Mapping[str, Any], number: int) -> bytes:
    request = {"jsonrpc": "2.0", "id": number, "method": method} | ({"params": dict(params)} if params else {})
    return json.dumps(request, separators=(",", ":")).encode()


def _result_of(error: MiError) -> str:
    if isinstance(error, MiCallError):
        return "error"
    return "refused" if isinstance(error, MiRefusedError) else "unreachable"


def _call_error(error: dict[str, Any]) -> MiCallError:
    code, message, data = error.get("code"), error.get("message", ""), error.get("data")
    text = f"{message}: {data}" if data else str(message)
    return MiCallError(code if type(code) is int else 0, printable(text[:MAX_ERROR_TEXT]))


async def _dumped(chunks: AsyncIterator[bytes], reply: dict[str, Any]) -> AsyncGenerator[tuple[Any, Any], None]:
    """(table, record) of each AOR in a dump's reply; what is not its result goes into `reply`."""
    stream = JsonStream(chunks)
    await stream.enter("{")
    while (key := await stream.next_key()) is not None:
        if key == "result":
            reply[key] = None
            async with aclosing(_tables(stream)) as records:
                async for record in records:
                    yield record
        else:
            reply[key] = await stream.value()
    await stream.end()


async def _tables(stream: JsonStream) -> AsyncGenerator[tuple[Any, Any], None]:
    await stream.enter("{")
    while (key := await stream.next_key()) is not None:
        if key != "Domains":
            await stream.value()
            continue
        await stream.enter("[")
        while await stream.next_item():
            async with aclosing(_table(stream)) as records:
                async for record in records:
                    yield record


async def _table(stream: JsonStream) -> AsyncGenerator[tuple[Any, Any], None]:
    """The records of one table, whose name comes first."""
    name = None
    await stream.enter("{")
    while (key := await stream.next_key()) is not None:
        if key == "name":
            name = await stream.value()
        elif key == "AORs":
            await stream.enter("[")
            while await stream.next_item():
                yield name, await stream.value()
        else:
            await stream.value()
