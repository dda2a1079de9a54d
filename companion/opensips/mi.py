"""Call OpenSIPS' Management Interface: JSON-RPC 2.0 over HTTP, as module mi_http serves it."""

import asyncio
import itertools
import json
import re
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Self

from companion import log, metrics
from companion.config import OpensipsSection
from companion.errors import InvalidInputError, MiCallError, MiError, MiRefusedError, MiUnreachableError
from companion.opensips import mi_contact
from companion.opensips.mi_contact import MiContact
from companion.opensips.mi_dump import read_records
from companion.opensips.mi_http import MiHttp
from companion.text import printable

DUMP: Final = "ul_dump"
SENT_ONCE: Final = frozenset({"ul_rm_contact", "raise_event", "event_subscribe", "trace_start", "trace_stop", DUMP})
"""Methods that are never retried: changes, because without an answer nobody knows whether they were done, and a dump,
because a big one blocks OpenSIPS while it runs."""
QUICK_READS: Final = frozenset(
    {"ul_show_contact", "events_list", "subscribers_list", "version", "uptime", "ps", "get_statistics", "which"}
    | {"trace", "tracer:trace"}
)
METHODS: Final = QUICK_READS | SENT_ONCE

MAX_ANSWER_BYTES: Final = 1 << 20
MAX_DUMP_BYTES: Final = 512 << 20
MAX_ERROR_TEXT: Final = 200
PAUSES: Final = (0.25, 1.0)
"""Seconds before each retry of a quick read."""

_TEXT_PARAMS: Final = frozenset({"table_name", "aor", "contact"})


class Mi:
    """Call MI of one OpenSIPS at `url`, one request at a time, as OpenSIPS serves them.

    `url` is such as http://127.0.0.1:8888/mi. `timeout` is for a whole request, in seconds; waiting for another request
    to end does not count. MiHttp explains the other arguments. `node` is its name in metrics.

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
        self.node = ""
        self._http = MiHttp(url, user=user, password=password, ca_file=ca_file)
        self.url = self._http.url
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._one_at_a_time = asyncio.Lock()
        self._refused_contacts = log.Episodes(log.get(__name__))

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def call(self, method: str, **params: Any) -> Any:
        """Return the `result` of one of METHODS; a quick read is tried three times, the others are sent once.

        Raises ValueError, with nothing sent, for another method or an empty AOR, contact or table; else MiCallError,
        MiRefusedError or MiUnreachableError. After the latter a change may or may not have been made.
        """
        _check(method, params)
        for pause in PAUSES if method in QUICK_READS else ():
            try:
                return await self._request(method, params)
            except MiUnreachableError:
                await asyncio.sleep(pause)
        return await self._request(method, params)

    async def show_contact(self, domain: str, aor: str) -> list[MiContact]:
        """Return the contacts of an AOR, none when OpenSIPS has no such AOR; `domain` is the usrloc table."""
        try:
            record = await self.call("ul_show_contact", table_name=domain, aor=aor)
        except MiCallError as error:
            if error.gone:
                return []
            raise
        if not isinstance(record, dict) or not isinstance(record.get("Contacts"), list):
            raise self._http.unreachable("an answer without contacts")
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
        """Raise a script event with named parameters.

        Raises MiCallError with code 404 when no route names the event, 480 when it has no subscriber.
        """
        arguments = {"params": json.dumps(dict(params))} if params else {}
        await self.call("raise_event", event=event, **arguments)

    async def uptime_seconds(self) -> int:
        """Return how long this OpenSIPS has been running; a lower value than before means a restart."""
        match = re.fullmatch(r"(\d{1,15}) \[sec\]", await self._member("uptime", "Up time"))
        if not match:
            raise self._http.unreachable("an up time that is not a number of seconds")
        return int(match[1])

    async def version(self) -> str:
        """Return a version such as `3.6.8`, or the whole text of OpenSIPS where it has no number."""
        server = await self._member("version", "Server")
        match = re.match(r"OpenSIPS \((\S+)", server)
        return match[1] if match else server

    async def dump(self, seconds: float = 60.0, refused: list[Any] | None = None) -> AsyncGenerator[MiContact, None]:
        """Yield every contact of every table while the answer comes in, all within `seconds`.

        The time that the caller takes counts too. The AOR of each invalid contact is appended to `refused`, of whatever
        type it is. An error may follow after some contacts: only a dump that reached its end shows which contacts
        OpenSIPS does not have. Leave it early by contextlib.aclosing.
        """
        number = next(self._ids)
        reply: dict[str, Any] = {}
        answer = self._http.post(_encode_request(DUMP, {}, number), seconds, MAX_DUMP_BYTES)
        async with self._one_at_a_time, aclosing(answer) as chunks, aclosing(read_records(chunks, reply)) as records:
            with self._counted(DUMP):
                with self._only_json_rpc():
                    async for domain, record in records:
                        for contact in self._contacts(domain, record, refused):
                            yield contact
                self._read_reply(reply, number)

    async def _member(self, method: str, key: str) -> str:
        result = await self.call(method)
        text = result.get(key) if isinstance(result, dict) else None
        if not isinstance(text, str):
            raise self._http.unreachable(f"an answer without {key}")
        return printable(text[:MAX_ERROR_TEXT])

    def _contacts(self, domain: Any, record: Any, refused: list[Any] | None = None) -> Iterator[MiContact]:
        """Yield the valid contacts of one AOR and count the others."""
        if not isinstance(record, dict) or not isinstance(contacts := record.get("Contacts", []), list):
            contacts, record = [None], {}
        for contact in contacts:
            try:
                yield mi_contact.parse(domain, record.get("AOR"), contact)
            except InvalidInputError as error:
                metrics.INVALID.labels("mi", error.reason).inc()
                if refused is not None:
                    refused.append(record.get("AOR"))
                self._refused_contacts.warn("a contact in MI's answer was refused", url=self.url, reason=error.reason)

    async def _request(self, method: str, params: Mapping[str, Any]) -> Any:
        number = next(self._ids)
        body = _encode_request(method, params, number)
        limit = MAX_DUMP_BYTES if method == DUMP else MAX_ANSWER_BYTES
        async with self._one_at_a_time, aclosing(self._http.post(body, self._timeout, limit)) as chunks:
            with self._counted(method):
                text = b"".join([chunk async for chunk in chunks])
                with self._only_json_rpc():
                    reply = json.loads(text.decode("utf-8", "replace"))  # as events are read
                return self._read_reply(reply, number)

    def _read_reply(self, reply: Any, number: int) -> Any:
        if not isinstance(reply, dict) or reply.get("jsonrpc") != "2.0":
            raise self._http.unreachable("an answer that is not JSON-RPC")
        if isinstance(error := reply.get("error"), dict):
            raise _call_error(error)
        if reply.get("id") != number or "result" not in reply:
            raise self._http.unreachable("an answer to another request")
        return reply["result"]

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        """Count a request and the time it took, unless its caller was cancelled."""
        started = time.monotonic()
        try:
            yield
        except MiError as error:
            self._count(method, _result_of(error), time.monotonic() - started)
            raise
        self._count(method, "ok", time.monotonic() - started)

    def _count(self, method: str, result: str, seconds: float) -> None:
        counters = {name: metrics.MI_REQUESTS.labels(self.node, method, name) for name in metrics.MI_RESULTS}
        counters[result].inc()
        metrics.MI_SECONDS.labels(self.node, method).observe(seconds)

    @contextmanager
    def _only_json_rpc(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, RecursionError) as error:
            raise self._http.unreachable("an answer that is not JSON-RPC") from error


def open_mi(table: OpensipsSection) -> Mi:
    """Return the MI client of one `[[opensips]]` table."""
    mi = Mi(
        table.mi_url,
        timeout=table.mi_timeout,
        user=table.mi_user,
        password=table.mi_password,
        ca_file=table.mi_ca_file,
    )
    mi.node = table.node
    return mi


def _check(method: str, params: Mapping[str, Any]) -> None:
    if method not in METHODS:
        raise ValueError(f"{method} is not a method of MI that the companion calls")
    for name in _TEXT_PARAMS & params.keys():
        # OpenSIPS' ul_rm_contact leaves its table locked when a name is not a string
        if not isinstance(params[name], str) or not params[name]:
            raise ValueError(f"{name} must be text, and not empty")


def _encode_request(method: str, params: Mapping[str, Any], number: int) -> bytes:
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
