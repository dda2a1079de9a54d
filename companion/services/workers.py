"""Serve the API in processes of its own: start them, start those anew that end, and stop them."""

import asyncio
import contextlib
import secrets
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from typing import Final

from companion import log, metrics
from companion.config import Config
from companion.http.listeners import open_listeners
from companion.http.monitoring.exposition import answer_metrics
from companion.http.siblings import Siblings, make_inboxes
from companion.services.worker import Order, encode_order

MAIN: Final = "main"
STOP_SECONDS: Final = 4.5
"""How long a worker may take to end; then it is killed."""
PAUSE_SECONDS: Final = 1.0
MAX_PAUSE_SECONDS: Final = 30.0
EARLY_SECONDS: Final = 60.0
"""A worker that ended is started anew after a pause, which doubles for one that ended so early."""


class Workers:
    """Run `[api] workers` processes that serve the API at one address.

    Their sockets are ours: while a worker is started anew, its new connections wait for it. A worker ends when its
    standard input does, so none outlives us, whatever ends us.
    """

    def __init__(self, config: Config) -> None:
        self._config = share_session_key(config)
        names = [f"api-{number}" for number in range(1, config.api.workers + 1)]
        self._listeners = dict(zip(names, open_listeners(config.api, "api", len(names)), strict=True))
        self._inboxes, self._outboxes = make_inboxes([MAIN, *names])
        self._stopping = asyncio.Event()
        self._episodes = log.Episodes(log.get(__name__))
        self._processes: dict[str, Process] = {}
        self.siblings = Siblings(MAIN, self._inboxes[MAIN], self._others(MAIN))
        answer_metrics(self.siblings)

    async def run(self) -> None:
        self.siblings.start()
        try:
            await asyncio.gather(*map(self._keep_running, self._listeners))
        finally:
            self.siblings.stop()
            self._close()

    def stop(self) -> None:
        """End all workers. New connections are refused at once."""
        self._stopping.set()
        for sockets in self._listeners.values():
            for listener in sockets:
                listener.close()
        for process in self._processes.values():
            _end_input(process)
        asyncio.get_running_loop().call_later(STOP_SECONDS, self._kill)

    def _kill(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()

    async def _keep_running(self, name: str) -> None:
        pause = PAUSE_SECONDS / 2
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(name)
            if self._stopping.is_set():
                return
            metrics.WORKERS_ENDED.inc()
            self._episodes.warn("a process of the API ended and is started anew", name=name, code=code)
            is_early = time.monotonic() - started < EARLY_SECONDS
            pause = min(2 * pause, MAX_PAUSE_SECONDS) if is_early else PAUSE_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run_once(self, name: str) -> int | str:
        """Run a worker until it ends; return its exit code, or why it could not be started."""
        try:
            process = self._processes[name] = await self._start(name)
        except OSError as error:  # there is no memory, or there are too many processes: the other services go on
            return str(error)
        if self._stopping.is_set():
            _end_input(process)
        return await process.wait()

    async def _start(self, name: str) -> Process:
        order = self._make_order(name)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "companion.services.worker"),
            stdin=PIPE,
            pass_fds=order.descriptors,
            start_new_session=True,  # a Ctrl-C in the terminal is for us
        )
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        with contextlib.suppress(ConnectionError):  # it has ended: that is noticed by its end
            process.stdin.write(encode_order(order))
            await process.stdin.drain()
        return process

    def _make_order(self, name: str) -> Order:
        return Order(
            config=self._config.model_dump(mode="json"),
            name=name,
            listeners=[listener.fileno() for listener in self._listeners[name]],
            inbox=self._inboxes[name].fileno(),
            others={other: end.fileno() for other, end in self._others(name).items()},
        )

    def _others(self, name: str) -> dict[str, socket.socket]:
        return {other: end for other, end in self._outboxes.items() if other != name}

    def _close(self) -> None:
        for end in (*self._inboxes.values(), *self._outboxes.values()):
            end.close()


def _end_input(process: Process) -> None:
    """Tell a worker to end."""
    assert process.stdin is not None  # noqa: S101 - it is a pipe
    process.stdin.close()


def share_session_key(config: Config) -> Config:
    """Return the configuration with a key that signs logins, so that each worker knows the logins of the others."""
    if config.api.session_key:
        return config
    api = config.api.model_copy(update={"session_key": secrets.token_urlsafe(32)})
    return config.model_copy(update={"api": api})
