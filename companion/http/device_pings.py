"""Ping devices for the API and the dashboard, within limits, and store each run as one entry of a timeline."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from companion import log
from companion.config import Config
from companion.errors import UsageError
from companion.http.access.throttle import TokenBucket
from companion.pinging.pinger import Pinger, PingReply, load_target
from companion.pinging.run import PingRun
from companion.pinging.target import PingTarget
from companion.query.device_ids import find_device_id
from companion.store.connection import ResponseError, Unreachable
from companion.store.store import Store
from companion.store.timeline import append_ping_run

PER_SECOND: Final = 5
"""The number of pings that a node sends for people: OpenSIPS has other work."""
RUN_GAP_SECONDS: Final = 10.0
"""A run ends when its device was not pinged for so long."""

episodes = log.Episodes(log.get(__name__))


class PingRefusedError(UsageError):
    """Report that a device can not be pinged yet; it may be in `seconds`."""

    def __init__(self, detail: str, seconds: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.seconds = seconds


class _OpenRun:
    """Hold a run that goes on: its pings, the node of the last one, and what will end it."""

    def __init__(self) -> None:
        self.summary = PingRun()
        self.node = ""
        self.timer: asyncio.TimerHandle | None = None


class DevicePings:
    """Ping devices: one ping of a device at a time, and PER_SECOND through a node."""

    def __init__(self, config: Config, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._pinger = Pinger()
        self._buckets: dict[str, TokenBucket] = {}
        self._busy: set[str] = set()
        self._runs: dict[str, _OpenRun] = {}
        self._writes: set[asyncio.Task[None]] = set()

    async def ping(self, name: str) -> tuple[str, PingReply]:
        """Ping the device that a person calls so; return its id and what came of it.

        Raises NoSuchDeviceError, SeveralDevicesError, CanNotPingError and PingRefusedError.
        """
        target = await asyncio.to_thread(self._load_target, name)
        if target.device in self._busy:
            raise PingRefusedError("a ping of this device is under way")
        self._check_limits(target)
        self._busy.add(target.device)
        try:
            reply = await self._pinger.ping(target)
        finally:
            self._busy.discard(target.device)
        self._add_to_run(target.device, reply)
        return target.device, reply

    def end_run(self, device: str) -> None:
        """Store the run of a device; nothing where none is open."""
        run = self._runs.pop(device, None)
        if run is None:
            return
        if run.timer:
            run.timer.cancel()
        write = asyncio.create_task(self._write(device, run))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def aclose(self) -> None:
        """Store all open runs and close the sockets."""
        for device in list(self._runs):
            self.end_run(device)
        await asyncio.gather(*self._writes)
        await self._pinger.aclose()

    def _load_target(self, name: str) -> PingTarget:
        return load_target(self._store, find_device_id(self._store, name), self._config)

    def _check_limits(self, target: PingTarget) -> None:
        now = self._clock()
        buckets = [self._bucket(table.node, now) for table in target.tables]
        if any(bucket.wait(now) for bucket in buckets):
            raise PingRefusedError(f"a node sends {PER_SECOND} pings a second at most")
        for bucket in buckets:
            bucket.use()

    def _bucket(self, node: str, now: float) -> TokenBucket:
        if node not in self._buckets:
            self._buckets[node] = TokenBucket(PER_SECOND, 1 / PER_SECOND, now)
        return self._buckets[node]

    def _add_to_run(self, device: str, reply: PingReply) -> None:
        run = self._runs.setdefault(device, _OpenRun())
        run.summary.add(reply.result, reply.duration_ms)
        run.node = reply.node
        if run.timer:
            run.timer.cancel()
        run.timer = asyncio.get_running_loop().call_later(RUN_GAP_SECONDS, self.end_run, device)

    async def _write(self, device: str, run: _OpenRun) -> None:
        try:
            await asyncio.to_thread(append_ping_run, self._store, device, run.summary.to_entry(run.node))
        except (*Unreachable, ResponseError) as error:
            episodes.warn("a run of pings could not be stored", error=type(error).__name__)
