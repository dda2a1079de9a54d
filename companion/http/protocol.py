"""Speak HTTP/1.1 with bounded headers."""

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES: Final = 64 * 1024


class HttpProtocol(HttpToolsProtocol):
    """Close connections that send headers or trailers without end, which httptools would all keep."""

    _header_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too large.")

    def on_message_begin(self) -> None:
        self._header_bytes = 0  # what this read brought is not counted: it is bounded
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._header_bytes -= len(body)
        super().on_body(body)
