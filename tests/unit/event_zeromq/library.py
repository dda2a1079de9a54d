"""Call the C code of event_zeromq."""

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

Param = tuple[str, int | bytes | None]
"""The name and value of a parameter as OpenSIPS has it."""

RECORD: Final = struct.Struct("=IIQQqII")
SECOND_NS: Final = 1_000_000_000


class _Pack(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
        ("is_full", ctypes.c_bool),
    )


class _Origin(ctypes.Structure):
    _fields_ = (("node", ctypes.c_char_p), ("run", ctypes.c_uint64))


class _LastSeq(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("seq", ctypes.c_uint64))


class _Heartbeat(ctypes.Structure):
    _fields_ = (
        ("seqs", ctypes.POINTER(_LastSeq)),
        ("count", ctypes.c_size_t),
        ("time_ms", ctypes.c_int64),
        ("last_event_ms", ctypes.c_int64),
        ("received", ctypes.c_uint64),
        ("is_end", ctypes.c_bool),
    )


class Record(NamedTuple):
    """Hold one event that was read from a ring."""

    ordinal: int
    number: int
    ts: int
    params: bytes


class Library:
    """The compiled parts; each method calls the function of its name."""

    def __init__(self, file: Path) -> None:
        self.functions = ctypes.CDLL(str(file))
        for name in ("ring_create", "ring_read"):
            getattr(self.functions, name).restype = ctypes.c_void_p
        for name in ("stamps_next", "clock_follow", "clock_now_ms"):
            getattr(self.functions, name).restype = ctypes.c_int64
        for name in ("ring_position", "ring_queued_bytes", "refusals_count"):
            getattr(self.functions, name).restype = ctypes.c_uint64
        for name in ("ring_put", "ring_await"):
            getattr(self.functions, name).restype = ctypes.c_bool

    def pack(self, add: Callable[[Any, Any], None], size: int = 1 << 20) -> bytes | None:
        """Return what `add` packs with these functions, None where it does not fit."""
        buffer = ctypes.create_string_buffer(size)
        pack = _Pack()
        self.functions.pack_start(ctypes.byref(pack), buffer, ctypes.c_size_t(size))
        add(self.functions, ctypes.byref(pack))
        return None if pack.is_full else buffer.raw[: pack.length]

    def params(self, params: Sequence[Param], size: int = 1 << 20) -> bytes | None:
        """Pack parameters as the module's `raise` does."""

        def add(functions: Any, pack: Any) -> None:
            functions.pack_map(pack, len(params))
            for name, value in params:
                functions.pack_text(pack, name.encode(), ctypes.c_size_t(len(name.encode())))
                if isinstance(value, int):
                    functions.pack_signed(pack, ctypes.c_int64(value))
                elif value is None:
                    functions.pack_nil(pack)
                else:
                    functions.pack_text(pack, value, ctypes.c_size_t(len(value)))

        return self.pack(add, size)

    def message(self, node: str, run: int, seq: int, events: Sequence[tuple[int, bytes]]) -> bytes | None:
        """Pack a message of events with their times and packed parameters."""
        records = [RECORD.pack(0, 0, 0, 0, ts, 0, len(params)) + params for ts, params in events]
        pointers = (ctypes.c_char_p * len(records))(*records)
        origin = _Origin(node.encode(), run)
        return self.pack(
            lambda functions, pack: functions.pack_message(
                pack, ctypes.byref(origin), ctypes.c_uint64(seq), pointers, ctypes.c_size_t(len(records))
            )
        )

    def heartbeat(self, node: str, run: int, seq: int, ts: int, params: Mapping[str, Any]) -> bytes | None:
        """Pack a heartbeat; `params` are those of the bus."""
        seqs = params["seqs"]
        last = (_LastSeq * len(seqs))(*(_LastSeq(name.encode(), number) for name, number in seqs.items()))
        times_and_counts = ts, params["last_event_at"], params["received"], params.get("end", False)
        heartbeat = _Heartbeat(last, len(seqs), *times_and_counts)
        origin = _Origin(node.encode(), run)
        return self.pack(
            lambda functions, pack: functions.pack_heartbeat(
                pack, ctypes.byref(origin), ctypes.c_uint64(seq), ctypes.byref(heartbeat)
            )
        )


class Stamps:
    """The times of a run, in C."""

    def __init__(self, library: Library) -> None:
        self._functions = library.functions
        self._memory = ctypes.create_string_buffer((2 + (1 << 16)) * 8)

    def next(self, aor: str | None, now_ms: int) -> int:
        name = aor.encode() if aor is not None else None
        length = ctypes.c_size_t(len(name or b""))
        ts: int = self._functions.stamps_next(self._memory, name, length, ctypes.c_int64(now_ms))
        return ts


class Clock:
    """The even clock, in C; times are ns."""

    def __init__(self, library: Library, wall: int, steady: int) -> None:
        self._functions = library.functions
        self._offset = ctypes.c_int64()
        self._functions.clock_start(ctypes.byref(self._offset), ctypes.c_int64(wall), ctypes.c_int64(steady))

    def follow(self, wall: int, steady: int) -> int:
        step: int = self._functions.clock_follow(
            ctypes.byref(self._offset), ctypes.c_int64(wall), ctypes.c_int64(steady)
        )
        return step

    def now_ms(self, steady: int) -> int:
        now: int = self._functions.clock_now_ms(ctypes.byref(self._offset), ctypes.c_int64(steady))
        return now


class Refusals:
    """Which refused subscribers are logged, in C."""

    def __init__(self, library: Library) -> None:
        self._functions = library.functions
        self._memory = ctypes.create_string_buffer(128)

    def count(self, key: str, now_ms: int) -> int:
        line: int = self._functions.refusals_count(self._memory, key.encode(), ctypes.c_int64(now_ms))
        return line


class Ring:
    """A ring of the smallest size, with its one reader."""

    def __init__(self, library: Library) -> None:
        self._functions = library.functions
        self._ring = ctypes.c_void_p(self._functions.ring_create(ctypes.c_size_t(0), ctypes.c_int(-1)))
        self._last: tuple[ctypes.c_uint64, int] | None = None

    def put(self, name: str, params: bytes | None, aor: str | None = None) -> bool:
        person = aor.encode() if aor is not None else None
        is_in: bool = self._functions.ring_put(
            self._ring,
            name.encode(),
            ctypes.c_size_t(len(name)),
            person,
            ctypes.c_size_t(len(person or b"")),
            params,
            ctypes.c_size_t(len(params or b"")),
        )
        return is_in

    def read(self, *, commit: bool = True) -> Record | None:
        """Return the next event; without `commit` the reader dies before it says so."""
        position = ctypes.c_uint64(self._functions.ring_position(self._ring))
        place = self._functions.ring_read(self._ring, ctypes.byref(position))
        if not place:
            return None
        _, _, ordinal, number, ts, _, length = RECORD.unpack(ctypes.string_at(place, RECORD.size))
        params = ctypes.string_at(place + RECORD.size, length)
        if commit:
            self._functions.ring_commit(self._ring, position, ctypes.c_void_p(place), ctypes.c_uint64(1))
        return Record(ordinal, number, ts, params)

    def abandon(self) -> None:
        self._functions.ring_abandon(self._ring)

    def queued_bytes(self) -> int:
        queued: int = self._functions.ring_queued_bytes(self._ring)
        return queued

    def close(self) -> None:
        self._functions.ring_destroy(self._ring)
