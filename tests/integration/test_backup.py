"""The store is backed up and restored as docs/operations.md says, and tells the same afterwards."""

import shutil
import subprocess
from pathlib import Path

import pytest

from companion.simulator.redis import EmbeddedRedis, find_redis_server
from companion.store.connection import Connection
from tests.integration.conftest import MakeSetup, until
from tests.integration.web import fill


def find_redis_cli() -> Path | None:
    """The redis-cli beside the server of these tests, else the system's."""
    beside = find_redis_server().binary.with_name("redis-cli")
    on_path = shutil.which("redis-cli")
    return beside if beside.is_file() else Path(on_path) if on_path else None


REDIS_CLI = find_redis_cli()


@pytest.mark.skipif(REDIS_CLI is None, reason="needs redis-cli (apt-get install redis-tools)")
@pytest.mark.parametrize("modules", [True, False], ids=["timeseries", "streams"])
def test_backup_and_restore(make_setup: MakeSetup, tmp_path: Path, modules: bool) -> None:  # noqa: FBT001 - two engines
    """A copy that `redis-cli --rdb` made, in the folder of a new Redis, holds every key, sample and status."""
    assert REDIS_CLI
    new = tmp_path / "new"
    new.mkdir()
    with EmbeddedRedis(tmp_path / "old", modules=modules) as old:
        setup = make_setup(server=old)
        fill(setup)
        pages, keys = setup.pages(), setup.store.connection.call("KEYS", "*")
        setup.store.connection.call("CONFIG SET", "repl-diskless-sync-delay", 0)
        REDIS_CLI.chmod(0o755)
        done = subprocess.run(
            [REDIS_CLI, "-u", old.url, "--rdb", new / "dump.rdb"], capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    with EmbeddedRedis(new, modules=modules, persistent=False) as restored:
        copy = make_setup(server=restored, redis={"prefix": setup.config.redis.prefix})
        assert sorted(copy.store.connection.call("KEYS", "*")) == sorted(keys)
        assert len(pages) == 4
        assert {device: timeless(page) for device, page in copy.pages().items()} == {
            device: timeless(page) for device, page in pages.items()
        }
        make_persistent(restored)
    with EmbeddedRedis(new, modules=modules) as again:
        assert sorted(make_setup(server=again).store.connection.call("KEYS", "*")) == sorted(keys)


def make_persistent(server: EmbeddedRedis) -> None:
    """Switch the append-only file on, as one does after the restore."""
    connection = Connection(server.url)
    connection.call("CONFIG SET", "appendonly", "yes")
    until(lambda: not connection.call("INFO", "persistence")["aof_rewrite_in_progress"])
    connection.close()


def timeless(page: dict[str, object]) -> dict[str, object]:
    """A page without what only says when it was asked for."""
    return {name: value for name, value in page.items() if name not in {"from", "to", "now", "window"}}
