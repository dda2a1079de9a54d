"""Servers that are no plain Redis are refused by their names, and not command by command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from companion.config import RedisSection
from companion.errors import ConfigError
from companion.simulator.redis import find_free_port
from companion.store.store import open_store
from tests.integration.conftest import until
from tests.integration.redis_process import is_up, redis_process


@contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    """Run a Redis with these options."""
    port = find_free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with redis_process(folder, *options, "--port", str(port), "--bind", "127.0.0.1"):
        until(lambda: is_up(url))
        yield url


def test_a_cluster(tmp_path: Path) -> None:
    """A node of a Redis Cluster would answer MOVED to most commands."""
    with (
        server(tmp_path, "--cluster-enabled", "yes") as url,
        pytest.raises(ConfigError, match=r"use redis\+cluster://"),
    ):
        open_store(RedisSection(url=url))


def test_no_cluster(tmp_path: Path) -> None:
    """A single server behind the URL of a Cluster has no map of slots."""
    with server(tmp_path) as url, pytest.raises(ConfigError, match="is no Redis Cluster: use redis://"):
        open_store(RedisSection(url=url.replace("redis://", "redis+cluster://")))


def test_a_sentinel(tmp_path: Path) -> None:
    """A Sentinel knows where the Redis is, and is none."""
    file = tmp_path / "sentinel.conf"
    file.write_text("")
    with server(tmp_path, str(file), "--sentinel") as url, pytest.raises(ConfigError, match="is a Sentinel"):
        open_store(RedisSection(url=url))
