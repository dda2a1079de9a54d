"""A pair of Redis servers that three Sentinels watch: the companion follows to the new master by itself."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from companion.config import RedisSection
from companion.errors import UnavailableError
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.store.connection import Unreachable
from companion.store.store import open_store
from tests.integration.conftest import Feeder, MakeSetup, Setup, eventually, until
from tests.integration.redis_process import is_up, redis_process
from tests.integration.test_failover import client, replicates

SECONDS = 60.0
NAME = "main"
CONFIG = """
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor main 127.0.0.1 {master} 2
sentinel down-after-milliseconds main 1000
sentinel failover-timeout main 3000
"""


class Pair:
    """Two servers, and the ports of the Sentinels that watch them."""

    def __init__(self, first: EmbeddedRedis, second: EmbeddedRedis, sentinels: list[int]) -> None:
        self.first = first
        self.second = second
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{NAME}"

    def is_watched(self) -> bool:
        """Return whether each Sentinel knows the replica and the other Sentinels."""
        states = [_master_of(port) for port in self.sentinels]
        return all(state["num-slaves"] == 1 and state["num-other-sentinels"] == 2 for state in states)


def _master_of(port: int) -> dict[str, int]:
    with Redis(port=port, decode_responses=True) as sentinel:
        state: dict[str, int] = sentinel.sentinel_master(NAME)
        return state


@contextmanager
def watched_pair(folder: Path) -> Iterator[Pair]:
    """Run a master, its replica and three Sentinels."""
    with EmbeddedRedis(folder / "a") as first, EmbeddedRedis(folder / "b") as second, ExitStack() as stack:
        with client(second) as replica:
            until(lambda: replicates(replica, first))
        pair = Pair(first, second, [stack.enter_context(sentinel(folder, first.port)) for _ in range(3)])
        until(pair.is_watched)
        yield pair


@contextmanager
def sentinel(folder: Path, master: int) -> Iterator[int]:
    port = find_free_port()
    file = folder / f"sentinel-{port}.conf"
    file.write_text(CONFIG.format(port=port, folder=folder, master=master))
    with redis_process(folder, str(file), "--sentinel"):
        until(lambda: is_up(f"redis://127.0.0.1:{port}"))
        yield port


@pytest.mark.parametrize("cut_off_seconds", [0.0, 2.0])
async def test_the_master_is_killed(make_setup: MakeSetup, tmp_path: Path, cut_off_seconds: float) -> None:
    """Consumer and scheduler go on with the other server: every event is stored, also when it lacked the last ones."""
    with watched_pair(tmp_path) as pair:
        setup = make_setup(server=pair, consumer={"batch_ms": 50}, api={"dashboard": False})
        with setup.process("consumer", "scheduler"):
            async with Feeder(setup) as feeder:
                await eventually(lambda: setup.events_done() > 500, SECONDS)
                if cut_off_seconds:
                    _cut_off(pair.first)
                    await asyncio.sleep(cut_off_seconds)  # what is written meanwhile dies with the master
                os.kill(pair.first.pid, signal.SIGKILL)
                killed_at = feeder.published
                await eventually(lambda: _is_promoted(pair.second), SECONDS)
                await eventually(lambda: _events_done(setup) > killed_at + 2000, SECONDS)
                await feeder.pause()
                await eventually(lambda: _events_done(setup) == feeder.published, SECONDS)
                assert setup.samples() == feeder.published
        assert setup.feed().missed == 0


def _cut_off(master: EmbeddedRedis) -> None:
    """End the replication from a master, and refuse it from then on."""
    with client(master) as connection:
        connection.execute_command("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf")
        connection.execute_command("CLIENT", "KILL", "TYPE", "replica")


def _events_done(setup: Setup) -> int:
    try:
        return setup.events_done()
    except Unreachable:
        return 0


def _is_promoted(server: EmbeddedRedis) -> bool:
    with client(server) as connection:
        return bool(connection.info("replication")["role"] == "master")


def test_an_unknown_name(tmp_path: Path) -> None:
    """Sentinels that know no master of that name are named, with what to do."""
    with watched_pair(tmp_path) as pair:
        url = pair.url.replace(f"/{NAME}", "/other")
        with pytest.raises(UnavailableError, match=r"other of the Sentinels .* look at the Sentinels"):
            open_store(RedisSection(url=url))
