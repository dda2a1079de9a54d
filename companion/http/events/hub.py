"""Stream server-sent events: all clients to one thing share one poller."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import anyio
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from companion import log, metrics
from companion.errors import NoSuchDeviceError, SeveralDevicesError
from companion.http import problems
from companion.http.events.sources import DeviceSource, Event, EventSource, FleetSource
from companion.query.reader import Reader
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.times import now_ms

MAX_STREAMS: Final = 200
POLL_SECONDS: Final = 1.0
REST: Final = 4
"""A poller rests so many times as long as its poll took, so slow reads are made less often."""
ALIVE_SECONDS: Final = 15.0
RETRY_MS: Final = 3000
SEND_SECONDS: Final = 30.0
"""A client that takes nothing for so long is cut off."""
QUEUE_EVENTS: Final = 500
LOOK_BACK_MS: Final = 3_600_000
"""A client that comes back gets what it missed, of the last hour at most."""
THREADS: Final = 4
"""How many polls run at once: other requests must find a thread while Redis is slow."""

_AWAY: Final = (*Unreachable, NotNowError, ResponseError)
_FLEET: Final = ""
"""The key of the fleet's watch; the others are device ids."""

logger = log.get(__name__)


class StreamClient:
    """Queue the events of one client. A client with a full queue is cut off, and may come back for them."""

    def __init__(self, may_go_on: Callable[[], bool], leave: Callable[["StreamClient"], None]) -> None:
        self._may_go_on = may_go_on
        self._leave = leave
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ended = False

    def offer(self, frame: bytes) -> None:
        if self._queue.qsize() >= QUEUE_EVENTS:
            metrics.DROPPED.labels("stream").inc()
            self.end()
        elif not self._ended:
            self._queue.put_nowait(frame)

    def end(self) -> None:
        """End the stream, and drop what is queued."""
        self._ended = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def close(self) -> None:
        self._leave(self)

    async def frames(self, first: Sequence[Event]) -> AsyncIterator[bytes]:
        """Yield the first events, then new ones as they come, and a comment when there are none for a while.

        The stream ends when the client may not read any more: its session has ended.
        """
        yield format_sse_event(retry=RETRY_MS)
        for event in first:
            yield event.encode()
        sent = {event.encode() for event in first if event.at}
        while (following := await self._next()) and self._may_go_on():
            if following not in sent:
                yield following

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(ALIVE_SECONDS):
                return await self._queue.get()
        except TimeoutError:
            return format_sse_event(comment="alive")


class EventStream(EventSourceResponse):
    """Send the frames of a client; with the end of either both are over.

    FastAPI would frame what a route yields by itself, but for each client anew, and would wait for a stuck client
    without end.
    """

    def __init__(self, client: StreamClient, first: Sequence[Event]) -> None:
        headers = {"X-Accel-Buffering": "no"}
        super().__init__(client.frames(first), headers=headers)
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, sending)
        except TimeoutError:
            metrics.DROPPED.labels("stream").inc()
        finally:
            self._client.close()


class _Watch:
    """Poll one source for its clients."""

    def __init__(self, source: EventSource, limiter: anyio.CapacityLimiter) -> None:
        self.source = source
        self.clients: set[StreamClient] = set()
        self.stopped = False
        self._limiter = limiter
        self._beginning = asyncio.Lock()
        self._away = False
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Poll once and go on polling, so that clients get all that is new from here on."""
        async with self._beginning:
            if not self._task:
                await self._poll()
                self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        self.stopped = True
        if self._task:
            self._task.cancel()
        for client in self.clients:
            client.end()

    async def _run(self) -> None:
        try:
            while True:
                started = time.monotonic()
                for frame in await self._read_new():
                    for client in self.clients:
                        client.offer(frame)
                await asyncio.sleep(max(POLL_SECONDS, REST * (time.monotonic() - started)))
        except (NoSuchDeviceError, SeveralDevicesError):  # the device is no more
            self.stop()
        except Exception:
            metrics.API_ERRORS.inc()
            logger.exception("the poller of a stream failed")
            self.stop()

    async def _read_new(self) -> list[bytes]:
        """Return what is new as frames; while Redis is away one frame that says so, once."""
        try:
            events = await self._poll()
        except _AWAY as error:
            was_away, self._away = self._away, True
            return [] if was_away else [Event("trouble", problems.redis_away(error).body).encode()]
        self._away = False
        return [event.encode() for event in events]

    async def _poll(self) -> list[Event]:
        return await anyio.to_thread.run_sync(self.source.poll, limiter=self._limiter, abandon_on_cancel=True)


class Hub:
    """Hold all streams: a bounded number, and one watch for each source."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._limiter = anyio.CapacityLimiter(THREADS)
        self._watches: dict[str, _Watch] = {}
        self._open = 0
        self._closed = False

    async def open_device(self, name: str, since: int, may_go_on: Callable[[], bool]) -> EventStream:
        """Open the stream of a device, with what happened to it after `since` (epoch ms, 0 = now).

        Raises NoSuchDeviceError and SeveralDevicesError as Reader does, ProblemError when there are too many streams.
        """
        self._check()
        now = now_ms()
        news = await anyio.to_thread.run_sync(self._reader.news, name, now)
        device: str = news["device"]
        source = partial(DeviceSource, self._reader, device, now)
        return await self._join(device, source, max(since, now - LOOK_BACK_MS) if since else 0, may_go_on)

    async def open_fleet(self, may_go_on: Callable[[], bool]) -> EventStream:
        """Open the stream of the fleet; otherwise as `open_device`."""
        self._check()
        return await self._join(_FLEET, partial(FleetSource, self._reader), 0, may_go_on)

    def close(self) -> None:
        """End all streams, and open no more: the server stops."""
        self._closed = True
        for watch in self._watches.values():
            watch.stop()

    def _check(self) -> None:
        if self._closed or self._open >= MAX_STREAMS:
            metrics.API_STREAMS_REFUSED.inc()
            raise problems.too_many_streams(MAX_STREAMS)

    async def _join(
        self, key: str, make: Callable[[], EventSource], since: int, may_go_on: Callable[[], bool]
    ) -> EventStream:
        self._check()
        watch = self._watches.get(key)
        if not watch or watch.stopped:
            watch = self._watches[key] = _Watch(make(), self._limiter)
        client = StreamClient(may_go_on, partial(self._leave, key, watch))
        watch.clients.add(client)
        self._count(1)
        try:
            await watch.begin()
            first = await anyio.to_thread.run_sync(watch.source.first, since)
        except BaseException:
            client.close()
            raise
        return EventStream(client, first)

    def _leave(self, key: str, watch: _Watch, client: StreamClient) -> None:
        watch.clients.remove(client)
        self._count(-1)
        if not watch.clients:
            watch.stop()
            if self._watches.get(key) is watch:
                del self._watches[key]

    def _count(self, more: int) -> None:
        self._open += more
        metrics.API_STREAMS.set(self._open)
