"""A WebSocket server that answers keep-alives and words, and whose lines can be cut or go dead."""

import contextlib
import socket
import threading
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve


class SipSocket:
    """On a free port of loopback. To CRLF CRLF it answers CRLF, to a word `ok word`; while `deaf`, nothing."""

    def __init__(self) -> None:
        self.deaf = False
        self.requests: list[str] = []
        self.lines: list[ServerConnection] = []
        self._server: Server = serve(self._talk, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._server.shutdown()

    def _talk(self, line: ServerConnection) -> None:
        self.lines.append(line)
        deaf_from_now_on = False
        try:
            for word in line:
                deaf_from_now_on = deaf_from_now_on or self.deaf
                self.requests.append(str(word))
                if not deaf_from_now_on:
                    line.send("\r\n" if word == "\r\n\r\n" else f"ok {word!s}")
        except (ConnectionClosed, OSError):
            pass

    def cut(self) -> None:
        """Break all lines without a closing handshake."""
        for line in self.lines:
            with contextlib.suppress(OSError):  # the page was faster
                line.socket.shutdown(socket.SHUT_RDWR)  # close() would wait until the thread that reads has woken
        self.lines.clear()
