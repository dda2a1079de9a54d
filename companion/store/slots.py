"""Tell in which slot of a Redis Cluster the keys of a command are. No I/O."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from redis.crc import key_slot

Command = tuple[Any, ...]

_KEYLESS: Final = frozenset(
    {"COMMAND INFO", "CONFIG GET", "CONFIG SET", "DBSIZE", "FLUSHALL", "INFO", "KEYS", "PING", "SCAN", "TIME", "WAIT"}
)
_ALL_KEYS: Final = frozenset({"DEL", "EXISTS", "MGET", "UNLINK"})
SHARED_TAGS: Final = 8192


def list_keys(command: Command) -> Sequence[str]:
    """Return the keys of a command of ours."""
    name = command[0]
    if name == "EVAL":
        return command[3 : 3 + command[2]]
    if name == "TS.MADD":
        return command[1::3]
    if name in _ALL_KEYS:
        return command[1:]
    return () if name in _KEYLESS else command[1:2]


def slots_of(commands: Iterable[Command]) -> list[int | None]:
    """Return the slot of each command: that of its first key, and Redis checks that the others share it.

    A command without a key belongs to the one before it, as WAIT does. Where there is none, any server will do: None.
    """
    slots: list[int | None] = []
    for command in commands:
        keys = list_keys(command)
        slots.append(slot_of(keys[0]) if keys else slots[-1] if slots else None)
    return slots


def slot_of(key: str) -> int:
    """Return the slot of a key."""
    start = key.find("{") + 1
    end = key.find("}", start)
    return _slot(key[start:end]) if 0 < start < end else _slot(key)


@lru_cache(SHARED_TAGS)
def _slot(hashed: str) -> int:
    return int(key_slot(hashed.encode()))
