"""Run a real RabbitMQ with ports, data and an Erlang port mapper of its own, as whoever runs the tests."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

import aio_pika
from aio_pika.exceptions import ChannelNotFoundEntity

from companion.bus.rabbitmq import QUEUE
from companion.simulator.redis import find_free_port
from tests.integration.certificates import Certificates

START_SECONDS: Final = 240.0
SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's own on PATH changes to the user rabbitmq first."""

PASSWORD: Final = "s/e@c:r%t"
"""That of the user `companion`, who has the rights in docs/bus.md."""
USERS: Final = {
    "vhosts": [{"name": "/"}],
    "users": [
        {"name": "guest", "password": "guest", "tags": "administrator"},
        {"name": "companion", "password": PASSWORD, "tags": ""},
    ],
    "permissions": [
        {"vhost": "/", "user": user, **dict.fromkeys(("configure", "write", "read"), pattern)}
        for user, pattern in (("guest", ".*"), ("companion", "^companion"))
    ],
}
CONFIG: Final = """
listeners.tcp.local = 127.0.0.1:{server.port}
listeners.ssl.local = 127.0.0.1:{server.tls_port}
ssl_options.cacertfile = {certificates.ca}
ssl_options.certfile = {certificates.certificate}
ssl_options.keyfile = {certificates.key}
load_definitions = {users}
disk_free_limit.absolute = 1MB
"""


def find_rabbitmq() -> Path | None:
    """Return the program that starts RabbitMQ, None where it or Erlang is missing."""
    return SERVER if SERVER.exists() and shutil.which("epmd") else None


class RabbitServer:
    """Run RabbitMQ with its data in `folder`; it keeps ports and data over a kill and a restart."""

    def __init__(self, folder: Path) -> None:
        self.port = find_free_port()
        self.tls_port = find_free_port()
        self.certificates = Certificates.make(folder)
        self._folder = folder
        self._mapper_port = find_free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._environment = self._make_environment(find_free_port())

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def tls_url(self, ca: Path, password: str = PASSWORD) -> str:
        """Return its URL for the user `companion`, who trusts this authority."""
        return f"amqps://companion:{quote(password, safe='')}@127.0.0.1:{self.tls_port}/?cafile={ca}"

    def _make_environment(self, distribution_port: int) -> dict[str, str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "rabbitmq.conf"
        config.write_text(CONFIG.format(server=self, certificates=self.certificates, users=self._folder / "users.json"))
        (self._folder / "users.json").write_text(json.dumps(USERS))
        (self._folder / "plugins").write_text("[].")
        (self._folder / "environment").touch()
        return os.environ | {
            "HOME": str(self._folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": f"companion-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def __enter__(self) -> Self:
        program = shutil.which("epmd")
        assert program
        self._mapper = subprocess.Popen([program, "-port", str(self._mapper_port), "-address", "127.0.0.1"])
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._mapper:
            self._mapper.terminate()
            self._mapper.wait(10)

    def start(self) -> None:
        """Start it and wait until it listens."""
        program = find_rabbitmq()
        assert program
        with (self._folder / "output.log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(program)], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            assert self._server.poll() is None, (self._folder / "output.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "RabbitMQ does not start"
            time.sleep(0.1)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End it as kill -9 does."""
        if self._server:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait(10)
            self._server = None

    def delete_queue(self, node: str = "opensips") -> None:
        """Delete the queue of a node."""
        asyncio.run(self._delete(QUEUE + node))

    async def _delete(self, name: str) -> None:
        async with await aio_pika.connect(self.url) as connection:
            await (await connection.channel()).queue_delete(name)

    async def read_queue(self, node: str = "opensips") -> tuple[int, int]:
        """Return how many messages wait in the queue of a node, and how many consumers read it."""
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            try:
                queue = await channel.declare_queue(QUEUE + node, passive=True)
            except ChannelNotFoundEntity:
                return 0, 0
            result = queue.declaration_result
            return result.message_count or 0, result.consumer_count or 0
