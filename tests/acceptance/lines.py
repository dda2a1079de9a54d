"""What lies between two phones and their OpenSIPS, for a test to break: TCP and UDP relays."""

import contextlib
import socket
import struct
import threading
from typing import Any, Final, Self

# SO_LINGER with no time: close() is a reset, as of a connection that a middlebox forgot
RESET: Final = struct.pack("ii", 1, 0)


class _Line:
    """One connection through the relay."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = (near, far)
        self.hung = threading.Event()
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RD)  # close() alone would not wake a thread in recv()
            end.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while read := source.recv(65536):
                if not self.hung.is_set():
                    sink.sendall(read)
        # through a line that hangs nobody hears that the other side has left
        if not self.hung.is_set():
            self.cut()


class Relay:
    """Passes every connection on to `behind`. `cut` ends those there are, `hang` leaves them open and silent.

    It listens on `host` and connects to `target`. While `blocked`, new connections end at once.
    """

    def __init__(self, behind: int, host: str = "127.0.0.1", target: str = "127.0.0.1") -> None:
        self.blocked = False
        self._behind = (target, behind)
        self._listening = socket.create_server((host, 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._lines: list[_Line] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End all connections on both sides, at once and without a word of the WebSocket."""
        with self._lock:
            cut, self._lines = self._lines, []
        for line in cut:
            line.cut()

    def hang(self) -> None:
        """Pass nothing on any more, either way, and close nothing: only new connections work."""
        with self._lock:
            for line in self._lines:
                line.hung.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._take(self._listening.accept()[0])

    def _take(self, near: socket.socket) -> None:
        if self.blocked:
            near.close()
            return
        try:
            far = socket.create_connection(self._behind)
        except OSError:
            near.close()
            return
        with self._lock:
            self._lines.append(_Line(near, far))


class MediaRelay:
    """UDP between two browsers on this machine. Whoever wants to reach an address is given a port beside it instead.

    After `fail` nothing passes through what was given so far; what is given later works, as on a phone's next network.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ways: list[_Way] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fail()

    def way_to(self, host: str, port: int) -> int:
        """The port, on the same host, that leads there."""
        way = _Way(host, port)
        with self._lock:
            self._ways.append(way)
        return way.port

    def fail(self) -> None:
        with self._lock:
            gone, self._ways = self._ways, []
        for way in gone:
            way.close()


class _Way:
    """From one port to one address, and back to whoever sent."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._front = self._bound()
        self.port: int = self._front.getsockname()[1]
        self._sockets = [self._front]
        threading.Thread(target=self._pass_on, daemon=True).start()

    def close(self) -> None:
        for line_socket in self._sockets:
            with contextlib.suppress(OSError):  # it is not connected, yet whoever waits in recv() wakes up
                line_socket.shutdown(socket.SHUT_RDWR)
            line_socket.close()

    def _bound(self) -> socket.socket:
        host = self._target[0]
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((host, 0))
        return made

    def _pass_on(self) -> None:
        behind: dict[Any, socket.socket] = {}
        with contextlib.suppress(OSError):
            while (came := self._front.recvfrom(65536))[0]:  # nothing: it was closed
                packet, sender = came
                if sender not in behind:
                    behind[sender] = self._for(sender)
                behind[sender].sendto(packet, self._target)

    def _for(self, sender: Any) -> socket.socket:
        made = self._bound()
        self._sockets.append(made)
        threading.Thread(target=self._pass_back, args=(made, sender), daemon=True).start()
        return made

    def _pass_back(self, behind: socket.socket, sender: Any) -> None:
        with contextlib.suppress(OSError):
            while packet := behind.recv(65536):
                self._front.sendto(packet, sender)
