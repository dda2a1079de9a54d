"""Speak HTTP/1.1 with bounded headers, and with clients that may keep us waiting only for so long."""

import asyncio
import re
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from companion import log, metrics
from companion.http.connections import Debt, HttpConnections
from companion.http.paths import PROCESS_PARAM, SOCKET_PATH
from companion.http.siblings import Siblings

MAX_HEADER_BYTES: Final = 32 * 1024

_REFUSAL: Final = "503 Service Unavailable"
_TOO_SLOW: Final = "408 Request Timeout"
_LINE_BYTES: Final = 4096
_OF_PROCESS: Final = re.compile(
    rf"[A-Z]+ {re.escape(SOCKET_PATH)}[^ ?]*\?(?:[^ ]*&)?{PROCESS_PARAM}=([a-z0-9-]+)[& ]".encode()
)
"""The beginning of a request that only the process named in it can answer: it made the page that sends it."""

_episodes = log.Episodes(log.get(__name__))


class HttpProtocol(HttpToolsProtocol):
    """Keep the books on what the client owes, and close connections that send headers or trailers without end.

    httptools would keep all headers, and uvicorn waits without end for all but the next request.
    """

    _header_bytes = 0
    _part: Debt = "idle"
    """What the client is about to send; a head that has not begun is idle."""

    def __init__(
        self,
        *arguments: Any,
        connections: HttpConnections,
        siblings: Siblings | None = None,
        received: bytes = b"",
        **options: Any,
    ) -> None:
        """Make the protocol of one connection; `received` was read from it by the process that handed it over."""
        super().__init__(*arguments, **options)
        self._connections = connections
        self._siblings = siblings or Siblings()
        self._received = received
        self.address = ""

    @property
    def is_closed(self) -> bool:
        return self.transport.is_closing()

    @property
    def _is_answering(self) -> bool:
        """Return whether the answer to the last request has begun; one for an upgrade has no cycle."""
        return self.cycle is not None and self.cycle.response_started

    def end(self, debt: Debt) -> None:
        """Close the connection, with an answer if the client waits for one and reads."""
        self._stop_answering()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif debt == "head" or (debt == "body" and not self._is_answering):
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()

    def _stop_answering(self) -> None:
        """Drop what the application still sends: a closed transport takes no more, and says so by an error."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True

    def _refuse(self, status: str) -> None:
        head = f"HTTP/1.1 {status}\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.address = self.client[0] if self.client else ""
        if self._connections.admit(self):
            self._connections.owes(self, "idle")
            if self._received:
                self.data_received(self._received)
        else:
            self._refuse(_REFUSAL)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._siblings and self._hand_over(data):
            return
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")
        self._book()

    def _hand_over(self, data: bytes) -> bool:
        """Hand the connection over if its next request is for another process; return whether that was done."""
        is_between_requests = self._part == "idle" and (self.cycle is None or self.cycle.response_complete)
        match = _OF_PROCESS.match(data[:_LINE_BYTES]) if is_between_requests else None
        descriptor = self.transport.get_extra_info("socket").fileno() if match else -1
        if not match or not self._siblings.hand_over(match[1].decode(), data, descriptor):
            return False
        self.transport.abort()  # closes our descriptor of the connection, not the connection
        return True

    def _should_upgrade(self) -> bool:
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        return (
            self.scope["method"] == "GET" and not has_body and super()._should_upgrade()
        )  # websockets fails on others

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        self._connections.upgrade(self)

    def send_400_response(self, msg: str) -> None:
        metrics.HTTP_CLOSED.labels("invalid").inc()
        _episodes.warn("invalid HTTP requests are refused", detail=msg, address=self.address)
        self._stop_answering()
        super().send_400_response(msg)

    def on_message_begin(self) -> None:
        self._header_bytes = 0  # what this read brought is not counted: it is bounded
        self._part = "head"
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._part = "body"

    def on_body(self, body: bytes) -> None:
        self._header_bytes -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = "idle"

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._book()

    def shutdown(self) -> None:
        """Close, or close after the answer; a request that has not come in yet is waited for no longer."""
        if self._part == "body" and not self._is_answering:
            self._stop_answering()
            self._refuse(_REFUSAL)
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._book()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._book()

    def _book(self) -> None:
        is_answered = self.cycle is None or self.cycle.response_complete
        if self.flow.write_paused:
            self._connections.owes(self, "answer")
        else:
            self._connections.owes(self, self._part if is_answered or self._part == "body" else None)
