"""Streams: one poller for all who watch the same thing, bounded in number and in what waits, ended in good order."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from companion import metrics
from companion.errors import NoSuchDeviceError
from companion.http.events import hub as streams
from companion.http.events.hub import EventStream, Hub
from companion.http.problems import ProblemError
from companion.store.connection import NotNowError
from companion.text import Json


class Fleet:
    """Stands in for the Reader: what it is told happens, and it counts how often it is asked."""

    def __init__(self) -> None:
        self.samples: list[tuple[int, int | None]] = []
        self.entries: list[Json] = []
        self.row: Json = {"device": "ann/1", "status": "online"}
        self.paused = 0
        self.reads = 0
        self.error: Exception | None = None

    def news(self, device: str, since_ms: int) -> Json:
        self.reads += 1
        if self.error:
            raise self.error
        samples = [sample for sample in self.samples if sample[0] > since_ms]
        return {**self.row, "samples": samples, "timeline": list(self.entries)}

    def summary(self) -> Json:
        return {"at": str(time.monotonic()), "devices": {"total": 1}, "nodes": []}

    def nodes(self) -> Json:
        return {"nodes": [{"node": "a", "alive": True, "heartbeat_at": str(time.monotonic())}]}

    def remediation(self) -> Json:
        return {"mode": "observe", "paused_seconds": self.paused, "last_sweep_at": None}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(streams, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 5.0)
    return Fleet()


def make_hub(fleet: Fleet) -> Hub:
    return Hub(fleet)  # type: ignore[arg-type]


def always() -> bool:
    return True


class Client:
    """Listens to a stream as ASGI hands it to a server; reads when it is told to."""

    def __init__(self, stream: EventStream, *, slow: bool = False) -> None:
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        if not slow:
            self.reads.set()
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.task = asyncio.create_task(stream({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> Json:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self._frames.put_nowait(message.get("body", b""))

    async def events(self) -> AsyncIterator[tuple[str, Any, str]]:
        """(name, data, id) of each event as it comes."""
        while True:
            text = (await self._frames.get()).decode()
            fields = dict(
                line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(":")
            )
            if "event" in fields:
                yield fields["event"], json.loads(fields["data"]), fields.get("id", "")

    async def next(self) -> tuple[str, Any, str]:
        async with asyncio.timeout(5):
            return await anext(self.events())

    async def leave(self) -> None:
        self.gone.set()
        await self.ended()

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            await self.task


def ms(seconds_ago: float = 0) -> int:
    return int((time.time() - seconds_ago) * 1000)


async def test_a_device(fleet: Fleet) -> None:
    """Who joins is told how the device is, then each sample and entry once, and its row when that has changed."""
    fleet.samples = [(ms(30), 40)]
    client = Client(await make_hub(fleet).open_device("ann", 0, always))
    assert await client.next() == ("status", fleet.row, "")
    sample = (ms(), 50)
    fleet.samples.append(sample)
    assert await client.next() == ("sample", list(sample), str(sample[0]))
    fleet.entries.append({"at": "2027-01-15T08:00:00.125Z", "event": "lost"})
    assert await client.next() == ("timeline", fleet.entries[0], "1800000000125")
    for status in ("losing", "online"):
        fleet.row = {**fleet.row, "status": status}
        assert await client.next() == ("status", fleet.row, "")
    await client.leave()


async def test_late_samples(fleet: Fleet) -> None:
    """A sample that becomes visible behind a newer one is told all the same."""
    client = Client(await make_hub(fleet).open_device("ann", 0, always))
    await client.next()
    newer, older = (ms(), 50), (ms(20), None)
    fleet.samples.append(newer)
    assert (await client.next())[1] == list(newer)
    fleet.samples.append(older)
    assert (await client.next())[1] == list(older)
    await client.leave()


async def test_coming_back(fleet: Fleet) -> None:
    """Who comes back with the id of the last event gets what was missed, once, though others watch as well."""
    missed = (ms(10), 60)
    fleet.samples = [(ms(20), 50), missed]
    hub = make_hub(fleet)
    other = Client(await hub.open_device("ann", 0, always))
    client = Client(await hub.open_device("ann", ms(15), always))
    assert (await client.next())[0] == "status"
    assert (await client.next())[1] == list(missed)
    following = (ms(), 70)
    fleet.samples.append(following)
    assert (await client.next())[1] == list(following)
    await client.leave()
    await other.leave()


async def test_many_watch_one_device(fleet: Fleet) -> None:
    """However many watch a device, it is read by one poller; that ends with the last of them."""
    hub = make_hub(fleet)
    clients = [Client(await hub.open_device(name, 0, always)) for name in ("ann", "ann/1", "ann", "ann")]
    fleet.samples.append((ms(), 50))
    for client in clients:
        assert [(await client.next())[0], (await client.next())[0]] == ["status", "sample"]
    assert list(hub._watches) == ["ann/1"]
    for client in clients:
        await client.leave()
    assert hub._watches == {}
    reads = fleet.reads
    await asyncio.sleep(0.05)
    assert reads == fleet.reads


async def test_the_fleet(fleet: Fleet) -> None:
    """Of the fleet one is told how it is, and then what has changed; clocks alone are no change."""
    client = Client(await make_hub(fleet).open_fleet(always))
    assert [(await client.next())[0] for _ in range(3)] == ["summary", "nodes", "remediation"]
    fleet.paused = 60
    name, data, number = await client.next()
    assert (name, data["paused_seconds"], number) == ("remediation", 60, "")
    fleet.paused = 0
    assert (await client.next())[1]["paused_seconds"] == 0
    await client.leave()


async def test_redis_goes_away(fleet: Fleet) -> None:
    """While there is nothing to be told that is told, once; afterwards the stream goes on without a hole."""
    client = Client(await make_hub(fleet).open_device("ann", 0, always))
    await client.next()
    fleet.error = NotNowError("LOADING")
    name, problem, _ = await client.next()
    assert (name, problem["status"]) == ("trouble", 503)
    fleet.samples.append((ms(), 50))
    fleet.error = None
    assert (await client.next())[0] == "sample"
    await client.leave()


async def test_no_such_device(fleet: Fleet) -> None:
    """A device that is none has no stream, and nothing is left of the try; one that vanishes ends its streams."""
    hub = make_hub(fleet)
    client = Client(await hub.open_device("ann", 0, always))
    fleet.error = NoSuchDeviceError("ann")
    await client.ended()
    with pytest.raises(NoSuchDeviceError):
        await hub.open_device("ann", 0, always)
    assert (hub._open, hub._watches) == (0, {})


async def test_a_poller_that_fails(fleet: Fleet) -> None:
    """A mistake of ours ends the streams it concerns, is counted, and the next stream is a new one."""
    hub, errors = make_hub(fleet), metrics.total(metrics.API_ERRORS)
    client = Client(await hub.open_device("ann", 0, always))
    fleet.error = ZeroDivisionError()
    await client.ended()
    assert metrics.total(metrics.API_ERRORS) == errors + 1
    fleet.error = None
    again = Client(await hub.open_device("ann", 0, always))
    assert (await again.next())[0] == "status"
    await again.leave()


async def test_too_many_streams(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many streams and no more; when one ends there may be another."""
    monkeypatch.setattr(streams, "MAX_STREAMS", 2)
    hub, refused = make_hub(fleet), metrics.total(metrics.API_STREAMS_REFUSED)
    clients = [Client(await hub.open_fleet(always)) for _ in range(2)]
    with pytest.raises(ProblemError) as problem:
        await hub.open_device("ann", 0, always)
    assert (problem.value.status, problem.value.headers["retry-after"]) == (503, "5")
    assert metrics.total(metrics.API_STREAMS_REFUSED) == refused + 1
    await clients[0].leave()
    clients[0] = Client(await hub.open_fleet(always))
    for client in clients:
        await client.leave()


async def test_a_slow_client(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not keep up is sent away, counted, and costs the others nothing."""
    monkeypatch.setattr(streams, "QUEUE_EVENTS", 3)
    hub, dropped = make_hub(fleet), metrics.total(metrics.DROPPED, queue="stream")
    slow, quick = (
        Client(await hub.open_device("ann", 0, always), slow=True),
        Client(await hub.open_device("ann", 0, always)),
    )
    await quick.next()
    for n in range(6):
        fleet.samples.append((ms() + n, 50 + n))
        assert (await quick.next())[1][1] == 50 + n
    slow.reads.set()
    await slow.ended()
    assert metrics.total(metrics.DROPPED, queue="stream") == dropped + 1
    await quick.leave()


async def test_a_client_that_takes_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose connection is stuck is given up, and its place is free again."""
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.05)
    hub = make_hub(fleet)
    stuck = Client(await hub.open_device("ann", 0, always), slow=True)
    await stuck.ended()
    assert (hub._open, hub._watches) == (0, {})


async def test_silence(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing happens a comment now and then keeps proxies from hanging up."""
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.01)
    client = Client(await make_hub(fleet).open_device("ann", 0, always))
    async with asyncio.timeout(5):
        while await client._frames.get() != b": alive\n\n":
            pass
    await client.leave()


async def test_the_session_ends(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream ends when who listens may not read any more, whether anything happens or not."""
    monkeypatch.setattr(streams, "ALIVE_SECONDS", 0.01)
    client = Client(await make_hub(fleet).open_device("ann", 0, lambda: False))
    await client.ended()


async def test_stopping(fleet: Fleet) -> None:
    """When the server stops, all streams end by themselves and none begins."""
    hub = make_hub(fleet)
    clients = [Client(await hub.open_device("ann", 0, always)), Client(await hub.open_fleet(always))]
    hub.close()
    for client in clients:
        await client.ended()
    with pytest.raises(ProblemError):
        await hub.open_fleet(always)
