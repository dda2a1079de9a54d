"""Start the processes of a benchmark, talk with them over pipes, and wait for what they do."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from companion.simulator.redis import EmbeddedRedis
from companion.store.connection import Command, Connection

WAIT_SECONDS: Final = 120.0


@contextmanager
def bench_redis() -> Iterator[tuple[Path, EmbeddedRedis, Connection]]:
    """Start a Redis with TimeSeries and without persistence: memory and CPU are measured, not a disk."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder) / "redis", persistent=False) as redis:
        connection = Connection(redis.url)
        yield Path(folder), redis, connection
        connection.close()


def send_commands(port: int, commands: Sequence[Command]) -> None:
    """Send commands with short replies as raw protocol: redis-py would take minutes for a million."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as reader:
        connection.sendall(b"".join(map(_packed, commands)))
        for command in commands:
            reply = reader.readline()
            assert not reply.startswith(b"-"), (command, reply)
            if reply.startswith(b"$"):
                reader.readline()


def _packed(command: Command) -> bytes:
    parts = [str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Start a child with pipes, and end it in any case."""
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()


def wait_until(done: Callable[[], bool], what: str, pause: float = 0.01, seconds: float = WAIT_SECONDS) -> float:
    """Wait for a condition and return the time when it came true.

    Raises TimeoutError with `what` after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(pause)
    return time.monotonic()


def send_line(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def consumer_command(folder: Path, url: str, endpoint: str) -> tuple[str, ...]:
    file = folder / "config.toml"
    file.write_text(f'[redis]\nurl = "{url}"\n[consumer]\nsubscribe = ["{endpoint}"]\nmax_pending = 1000000\n')
    return (sys.executable, "-m", "companion", "run", "consumer", "-c", str(file))
