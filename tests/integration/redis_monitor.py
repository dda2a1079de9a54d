"""Watch what a Redis server is sent, and check it against the slot rule of docs/redis.md.

A plain server takes commands with keys of several slots. A Redis Cluster refuses them. This tells of them without one.
"""

import re
import socket
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from redis import Redis
from redis.crc import key_slot

from companion.store.keys import Keys
from companion.store.placement import parse_tagged

DOCUMENT: Final = Path(__file__).parents[2] / "docs/redis.md"
PREFIX: Final = "companion:"
_ROW: Final = re.compile(rb"[0-9.]+ \[\d+ (\S+)\] (.*)", re.DOTALL)
_WORD: Final = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:x(..)|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
WAIT_SECONDS: Final = 30.0


class Sent(NamedTuple):
    """Hold a command and its client: an address, or `lua` for a script."""

    client: str
    words: tuple[bytes, ...]


class Monitor:
    """Collect what a server is sent. One at a time reads it."""

    def __init__(self, port: int) -> None:
        self.server = Redis(port=port)
        self._sent: list[Sent] = []
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(b"MONITOR\r\n")
        self._lines = self._socket.makefile("rb")
        assert self._lines.readline() == b"+OK\r\n"
        self._thread = Thread(target=self._read, daemon=True)
        self._thread.start()

    def take(self) -> list[Sent]:
        """Return what was sent since the last time."""
        self.server.echo("the end of the test")
        for _ in range(int(WAIT_SECONDS * 100)):
            if any(sent.words[0] == b"ECHO" for sent in self._sent[-200:]):
                break
            self._thread.join(0.01)
        else:
            raise AssertionError("MONITOR did not answer in time")
        sent, self._sent = self._sent, []
        return sent

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT_SECONDS)
        self._lines.close()
        self._socket.close()
        self.server.close()

    def _read(self) -> None:
        for line in self._lines:
            if row := _ROW.match(line[1:].rstrip(b"\r\n")):
                words = tuple(_ESCAPE.sub(_unescape, word) for word in _WORD.findall(row[2]))
                self._sent.append(Sent(row[1].decode(), words))


def _unescape(match: re.Match[bytes]) -> bytes:
    code, letter = match.groups()
    return bytes.fromhex(code.decode()) if code else _LETTERS.get(letter, letter)


class KeyFinder:
    """Ask a server where the keys of its commands are."""

    def __init__(self, server: "Redis") -> None:
        self._server = server
        self._places: dict[bytes, tuple[int, int, int] | None] = {}

    def keys(self, words: tuple[bytes, ...]) -> list[bytes]:
        """Return the keys of a command."""
        place = self._place(words[0].upper())
        if place is None:
            keys = self._server.execute_command("COMMAND GETKEYS", *words)  # type: ignore[no-untyped-call]
            return [key.encode() for key in keys]
        first, last, step = place
        end = last if last >= 0 else len(words) + last
        return list(words[first : end + 1 : step]) if first else []

    def _place(self, name: bytes) -> tuple[int, int, int] | None:
        """Return the first place of a key, the last one, and the distance; None where that depends on the words."""
        if name not in self._places:
            (info,) = self._server.execute_command("COMMAND INFO", name)  # type: ignore[no-untyped-call]
            _, _, flags, first, last, step = info[:6]
            self._places[name] = None if b"movablekeys" in flags else (first, last, step)
        return self._places[name]


def find_faults(sent: Iterable[Sent], finder: KeyFinder) -> Iterator[str]:
    """Yield a line for each command, script or transaction that has keys of several slots."""
    transactions: dict[str, list[bytes]] = {}
    script: list[bytes] = []
    for client, words in sent:
        name = words[0].upper()
        if name == b"MULTI":
            transactions[client] = []
        keys = finder.keys(words)
        if name in (b"EVAL", b"EVALSHA"):
            script = keys
        together = [*script, *keys] if client == "lua" else keys
        if client in transactions:
            transactions[client] += keys
        if name == b"EXEC":
            together = transactions.pop(client)
        if len(set(map(key_slot, together))) > 1:
            place = "a script" if client == "lua" else "a transaction" if name == b"EXEC" else "a command"
            yield f"{place} has keys of several slots: {name.decode()} {b' '.join(sorted(set(together))).decode()}"


def list_keys(sent: Iterable[Sent], finder: KeyFinder) -> set[str]:
    """Return all keys that commands have."""
    return {key.decode(errors="replace") for _, words in sent for key in finder.keys(words)}


class SlotRules:
    """Read from docs/redis.md which keys there are and in which slots."""

    def __init__(self, text: str) -> None:
        names = set(re.findall(rf"`({PREFIX}[^`\s*]+)`", text))
        self._rules = {name: re.compile(_pattern(name), re.DOTALL) for name in names}

    def find_faults(self, keys: Iterable[str], shards: int) -> Iterator[str]:
        """Yield a line for each key that is not in the document, or not in the slot that its row says."""
        own = Keys(PREFIX, shards)
        for key in sorted(keys):
            rules = [name for name, pattern in self._rules.items() if pattern.fullmatch(key)]
            tagged = parse_tagged(key, PREFIX)
            if not rules:
                yield f"{key} is not in docs/redis.md"
            elif tagged and tagged.owner is not None and own.shard(tagged.owner) != tagged.shard:
                yield f"{key} is in the shard {tagged.shard}, and belongs to {own.shard(tagged.owner)}"
            elif tagged is None and key_slot(key.encode()) != key_slot(_hashed(key, rules).encode()):
                yield f"{key} has a hash tag that docs/redis.md does not name"

    def list_unused(self, keys: Collection[str]) -> set[str]:
        """Return the keys of the document that none of these is."""
        return {name for name, pattern in self._rules.items() if not any(map(pattern.fullmatch, keys))}


def _pattern(name: str) -> str:
    """Return what keys of a row look like: words in capitals stand for any text, and 0 for any shard."""
    placeholder = re.compile(r"(\{0\})|IP:PORT|[A-Z]{2,}")
    parts = placeholder.sub(lambda match: "\0" if match[1] else "\1", name)
    return re.escape(parts).replace(re.escape("\0"), r"\{\d+\}").replace(re.escape("\1"), ".*")


def _hashed(key: str, rules: Iterable[str]) -> str:
    """Return the text whose hash is the slot of a key without a shard: the key, or the one that its tag names."""
    tags = [re.sub("[A-Z]+", "", name).partition("{")[2].rstrip("}") for name in rules if "{" in name]
    start = key.find(f"{{{tags[0]}") + 1 if tags else 0
    return key[start : key.rindex("}")] if start else f"{{{key}}}" if "{" in key else key
