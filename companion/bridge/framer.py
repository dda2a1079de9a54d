"""Split a byte stream into JSON objects, which follow each other with no delimiter. No I/O."""

import re
from enum import Enum, auto

MARKER = b'{"jsonrpc"'
"""The start of every object from OpenSIPS: reading resumes there after invalid bytes."""

_WHITESPACE = b" \t\r\n"
_QUOTE, _OPEN, _CLOSE = b'"{}'
# Possessive, so that no input makes them backtrack. A lone quote or backslash at the end of the bytes stays
# unread. Between strings only what JSON allows there: after a string that was cut short, strings and the text between
# them change places, and this pattern stops there at once.
_BETWEEN = re.compile(rb'(?:[ \t\r\n:,\[\]0-9+\-.eEtrufalsn]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_IN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class _Scan(Enum):
    MORE = auto()
    WHOLE = auto()
    BROKEN = auto()


class Framer:
    """Split chunks into objects and read each byte a bounded number of times, however the chunks are cut.

    Only brackets and strings are recognised: the objects still have to be parsed. An object that is cut short or larger
    than `max_bytes` is dropped, and reading resumes at the next `{"jsonrpc"`, also inside the dropped bytes. The buffer
    holds at most `max_bytes` and one chunk.

    `garbage_bytes`: bytes dropped, without white space. `truncated`, `oversized`: objects dropped.
    """

    def __init__(self, max_bytes: int = 1 << 20) -> None:
        self.garbage_bytes = 0
        self.truncated = 0
        self.oversized = 0
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._start = 0  # of the object, where depth > 0
        self._at = 0  # everything before was scanned
        self._depth = 0
        self._in_string = False
        self._lost = False  # after a dropped object: only MARKER starts a new one
        self._credit = max_bytes  # how many bytes may be scanned again: nested markers must not make it quadratic

    @property
    def pending_bytes(self) -> int:
        """Return the length of the unfinished object."""
        return len(self._buffer) - self._start if self._depth else 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream; return the objects they complete, in order."""
        self._buffer += data
        self._credit = min(self._credit, 2 * self._max_bytes) + len(data)
        frames = []
        while self._depth or self._open():
            scan = self._scan()
            if self._at - self._start > self._max_bytes:
                self.oversized += 1
                self._give_up()
            elif scan is _Scan.BROKEN:
                self.truncated += 1
                self._give_up()
            elif scan is _Scan.WHOLE:
                frames.append(bytes(self._buffer[self._start : self._at]))
                self._start = self._at
            else:
                break
        self._forget()
        return frames

    def _open(self) -> bool:
        """Move to the start of the next object."""
        buffer = self._buffer
        start = buffer.find(MARKER if self._lost else b"{", self._at)
        if start < 0:
            self._skip(self._start_of_marker() if self._lost else len(buffer))
            return False
        self._skip(start)
        self._at = start + 1
        self._depth, self._in_string, self._lost = 1, False, False
        return True

    def _start_of_marker(self) -> int:
        """Return the start of a MARKER that the next chunk may complete, else the end of the buffer."""
        end = len(self._buffer)
        start = self._buffer.rfind(b"{", max(self._at, end - len(MARKER)))
        return start if start >= 0 and MARKER.startswith(self._buffer[start:]) else end

    def _skip(self, to: int) -> None:
        if to > self._start:
            self.garbage_bytes += len(self._buffer[self._start : to].translate(None, _WHITESPACE))
        self._start = self._at = to

    def _scan(self) -> _Scan:
        """Scan the current object from where the last bytes ended."""
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        scan = _Scan.MORE
        while scan is _Scan.MORE:
            if self._in_string:
                at = _IN_STRING.match(buffer, at).end()  # type: ignore[union-attr]  # matches at any place
                if at == end or buffer[at] != _QUOTE:
                    break
                self._in_string = False
                at += 1
            at = _BETWEEN.match(buffer, at).end()  # type: ignore[union-attr]
            if at == end:
                break
            scan = self._turn(buffer[at], at)
            at += 1
        self._at = at
        return scan

    def _turn(self, byte: int, at: int) -> _Scan:
        """Handle the byte at which a run of strings and scalars ended."""
        if byte == _QUOTE:
            self._in_string = True
        elif byte == _CLOSE:
            self._depth -= 1
            return _Scan.MORE if self._depth else _Scan.WHOLE
        elif byte == _OPEN and self._may_open(at):
            self._depth += 1
        else:
            return _Scan.BROKEN
        return _Scan.MORE

    def _may_open(self, at: int) -> bool:
        """Return whether an object may start here inside another: not directly behind one, as after a cut object."""
        at -= 1
        while self._buffer[at] in _WHITESPACE:
            at -= 1
        return self._buffer[at] in b":,["

    def _give_up(self) -> None:
        """Drop the current object and search its bytes for the next one, unless that was done too often."""
        length = self._at - self._start
        again = length if length <= self._credit else min(length, len(MARKER))
        self._credit -= min(length, self._credit)
        self._depth, self._lost, self._at = 0, True, self._at - again + 1

    def _forget(self) -> None:
        if self._start:
            del self._buffer[: self._start]
            self._at -= self._start
            self._start = 0
