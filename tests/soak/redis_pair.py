"""Two Redis servers, a master and its replica, behind a proxy; and what can happen to them."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from redis import Redis

from companion.simulator.redis import EmbeddedRedis
from tests.soak.waiting import wait_until

SYNC_SECONDS: Final = 60.0
CHUNK: Final = 1 << 16


class Proxy:
    """Carry TCP connections to the port `target`. A connection keeps the server that it began with, as with HAProxy."""

    def __init__(self) -> None:
        self.target = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server
        self._server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until an end fails or closes, and close the other one then."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class RedisPair:
    """Run master and replica, each with its data on disk; `url` leads to the master through the proxy."""

    def __init__(self, folder: Path) -> None:
        self._servers = [EmbeddedRedis(folder / "redis-a"), EmbeddedRedis(folder / "redis-b")]
        self._proxy = Proxy()

    @property
    def url(self) -> str:
        return self._proxy.url

    @property
    def master(self) -> EmbeddedRedis:
        return self._servers[0]

    async def __aenter__(self) -> Self:
        master, replica = self._servers
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in self._servers))
        self._command(replica, lambda client: client.replicaof("127.0.0.1", str(master.port)))
        await self._wait_for_replica()
        self._proxy.target = master.port
        await self._proxy.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._proxy.__aexit__()
        for server in self._servers:
            await asyncio.to_thread(server.stop)

    async def kill(self, seconds: float) -> None:
        """Kill the master, and start it again with what it had on its disk."""
        await asyncio.to_thread(self.master.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.master.start)

    async def freeze(self, seconds: float) -> None:
        """Stop the master's process for a while: its connections stay and nothing answers."""
        with frozen(self.master.pid):
            await asyncio.sleep(seconds)

    async def fail_over(self) -> None:
        """Make the replica the master, without a lost write; old connections stay with the server that it was."""
        await self._wait_for_replica()
        old, new = self._servers
        command = ("FAILOVER", "TO", "127.0.0.1", new.port)
        self._command(old, lambda client: client.execute_command(*command))  # type: ignore[no-untyped-call]
        await wait_until(lambda: self._replication(new)["role"] == "master", SYNC_SECONDS, "the failover")
        self._servers.reverse()
        self._proxy.target = new.port

    async def change_password(self, seconds: float) -> None:
        """Ask for a password that nobody has, end all other connections, and take it back."""
        with self._configured("requirepass", "changed", before="") as client:
            client.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(seconds)

    async def fill(self, seconds: float) -> None:
        """Let the memory be full for a while, without eviction: all that writes is refused."""
        with self._configured("maxmemory", "1", before="0"):
            await asyncio.sleep(seconds)

    @contextmanager
    def _configured(self, name: str, value: str, *, before: str) -> Iterator[Redis]:
        with Redis(port=self.master.port, single_connection_client=True) as client:
            client.config_set(name, value)
            try:
                yield client
            finally:
                client.config_set(name, before)

    async def _wait_for_replica(self) -> None:
        replica = self._servers[1]
        await wait_until(
            lambda: self._replication(replica).get("master_link_status") == "up", SYNC_SECONDS, "the replica's copy"
        )

    def _replication(self, server: EmbeddedRedis) -> dict[str, Any]:
        info: dict[str, Any] = self._command(server, lambda client: client.info("replication"))
        return info

    def _command(self, server: EmbeddedRedis, send: Callable[[Redis], Any]) -> Any:
        with Redis(port=server.port, decode_responses=True, socket_timeout=SYNC_SECONDS) as client:
            return send(client)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process, and let it continue."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
