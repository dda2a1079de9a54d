"""Run a Redis of another kind than the fixtures': a Sentinel, a node of a Cluster, one that speaks TLS."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from companion.simulator.redis import find_redis_server
from companion.store.connection import Connection, Unreachable


@contextmanager
def redis_process(folder: Path, *arguments: str) -> Iterator[None]:
    """Run redis-server with these arguments."""
    with subprocess.Popen(
        [str(find_redis_server().binary), *arguments], cwd=folder, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def is_up(url: str) -> bool:
    """Return whether a server answers."""
    connection = Connection(url)
    try:
        return bool(connection.call("PING"))
    except Unreachable:
        return False
    finally:
        connection.close()
