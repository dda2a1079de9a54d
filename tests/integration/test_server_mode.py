"""Servers that are no plain Redis are refused by their names, and not command by command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from companion.config import Config, RedisSection
from companion.doctor import gather
from companion.doctor import redis as doctor
from companion.doctor.finding import Finding
from companion.errors import ConfigError
from companion.simulator.redis import find_free_port
from companion.store.store import open_store
from tests.integration.conftest import cli, until
from tests.integration.redis_process import is_up, redis_process


@contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    """Run a Redis with these options."""
    port = find_free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with redis_process(folder, *options, "--port", str(port), "--bind", "127.0.0.1"):
        until(lambda: is_up(url))
        yield url


def doctor_finding(url: str) -> Finding:
    """Return what the doctor says of such a server, which `companion check-config` does not ask."""
    (finding,) = doctor.check(gather._stored(Config.model_validate({"redis": {"url": url}}))).findings
    assert finding.level == "failure"
    assert cli("check-config", COMPANION_REDIS__URL=url).returncode == 0
    return finding


def test_a_cluster(tmp_path: Path) -> None:
    """A node of a Redis Cluster would answer MOVED to most commands."""
    with server(tmp_path, "--cluster-enabled", "yes") as url:
        with pytest.raises(ConfigError, match=r"use redis\+cluster://"):
            open_store(RedisSection(url=url))
        assert "use redis+cluster://" in doctor_finding(url).text


def test_no_cluster(tmp_path: Path) -> None:
    """A single server behind the URL of a Cluster has no map of slots."""
    with server(tmp_path) as url:
        wrong = url.replace("redis://", "redis+cluster://")
        with pytest.raises(ConfigError, match="is no Redis Cluster: use redis://"):
            open_store(RedisSection(url=wrong))
        assert "is no Redis Cluster: use redis://" in doctor_finding(wrong).text


def test_a_sentinel(tmp_path: Path) -> None:
    """A Sentinel knows where the Redis is, and is none."""
    file = tmp_path / "sentinel.conf"
    file.write_text("")
    with server(tmp_path, str(file), "--sentinel") as url:
        with pytest.raises(ConfigError, match="is a Sentinel"):
            open_store(RedisSection(url=url))
        assert "use redis+sentinel://" in doctor_finding(url).text
