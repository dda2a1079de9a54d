"""A consumer that was stopped, and goes on after another took over: nothing old overwrites what is newer."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from companion import metrics
from companion.bus.envelope import HEARTBEAT, Message
from companion.consumer.recorder import Recorder
from companion.opensips.events import DELETE, INSERT, LATENCY, LOST_PING_US
from companion.store.corrections import Identified, append_corrections, encode_correction
from companion.store.nodes import load_feed
from companion.usrloc.contact import Binding
from tests.integration.conftest import (
    Feeder,
    MakeSetup,
    Setup,
    clean_environment,
    eventually,
    message,
    phone_event,
    record_batch,
)
from tests.integration.test_series import contents

PHONES = [f"phone{number}" for number in range(10)]
SHARDED = {"redis": {"shards": 8}}


class Story:
    """The events of one node, numbered as its bridge does."""

    def __init__(self) -> None:
        self._ts = count(int(time.time() * 1000) - 60_000)
        self._seqs: dict[str, int] = {}

    def events(self, name: str, phones: Sequence[str], **params: Any) -> list[Message]:
        return [self._event(name, phone_event(phone, **params)) for phone in phones]

    def heartbeat(self) -> Message:
        return self._event(HEARTBEAT, {"seqs": {}})

    def _event(self, name: str, params: dict[str, Any]) -> Message:
        self._seqs[name] = seq = self._seqs.get(name, -1) + 1
        return message(name, params, next(self._ts), seq)


def expire_lease(setup: Setup) -> None:
    """Let the lease run out, as it does some seconds after its holder was stopped."""
    keys = setup.store.keys
    setup.store.connection.call("DEL", keys.cluster_lease("opensips"), keys.lease("opensips"))


def refuse_again(recorder: Recorder) -> None:
    """Let a consumer ask for the lease at once."""
    recorder.tenure.leases._refused_at.clear()


def stop_before_the_next_write(recorder: Recorder, meanwhile: Callable[[], object]) -> None:
    """Stop a consumer between its look at the lease and its write, and let it go on after `meanwhile`."""
    write = recorder._writer._batch.write

    def write_late(*what: Any) -> None:
        recorder._writer._batch.write = write  # type: ignore[method-assign]
        meanwhile()
        write(*what)

    recorder._writer._batch.write = write_late  # type: ignore[assignment,method-assign]


def without_samples(everything: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in everything.items() if ":latency:" not in key and ":lost:" not in key}


def test_lost_node_takes_no_other_along(make_setup: MakeSetup) -> None:
    """A batch that is refused because one of its nodes was lost is taken again for the others: no event is left out."""
    setup = make_setup()
    late, current = Recorder(setup.config, setup.store), Recorder(setup.config, setup.store)
    now = int(time.time() * 1000) - 60_000
    first = [message(INSERT, phone_event(f"first-of-{node}"), now, 0, node) for node in ("lost", "kept")]
    second = [message(INSERT, phone_event(f"second-of-{node}"), now + 1, 1, node) for node in ("lost", "kept")]
    asyncio.run(record_batch(late, first))

    def take_over() -> None:
        keys = setup.store.keys
        setup.store.connection.call("DEL", keys.cluster_lease("lost"), keys.lease("lost"))
        asyncio.run(record_batch(current, second[:1]))

    stop_before_the_next_write(late, take_over)
    asyncio.run(record_batch(late, second))

    assert {node: setup.events_done(node) for node in ("lost", "kept")} == {"lost": 2, "kept": 2}
    assert setup.pages().keys() == {
        f"{phone}-of-{node}/{phone}-of-{node}" for phone in ("first", "second") for node in ("lost", "kept")
    }


@pytest.mark.parametrize("kind", ["module", "plain"])
@pytest.mark.parametrize("sections", [{}, SHARDED], ids=["one shard", "eight shards"])
def test_late_write_changes_nothing(make_setup: MakeSetup, kind: str, sections: dict[str, Any]) -> None:
    """What a consumer writes after another one took over changes no contact, index, timeline and progress.

    Its samples are those that the other one wrote too. It notices at once, stands by, and can take over again.
    """
    setup = make_setup(kind, **sections)
    late, current, story = Recorder(setup.config, setup.store), Recorder(setup.config, setup.store), Story()
    asyncio.run(record_batch(late, [*story.events(INSERT, PHONES), *story.events(LATENCY, PHONES, latency=20_000)]))
    losses = story.events(LATENCY, PHONES, latency=LOST_PING_US)
    ends = [*story.events(DELETE, PHONES[:5]), *story.events(LATENCY, PHONES[5:], latency=30_000)]
    after: dict[str, Any] = {}

    def take_over() -> None:
        expire_lease(setup)
        asyncio.run(record_batch(current, [*losses, *ends, story.heartbeat()]))
        after.update(contents(setup))

    stop_before_the_next_write(late, take_over)
    fenced = metrics.total(metrics.FENCED)
    asyncio.run(record_batch(late, losses))

    assert contents(setup) == after
    assert metrics.total(metrics.FENCED) == fenced + 1
    assert {page["status"] for page in setup.pages().values()} == {"online", "offline"}
    assert not late._memory.feeds.held
    refuse_again(late)
    more = story.events(LATENCY, PHONES[5:], latency=40_000)
    asyncio.run(record_batch(late, [*ends, *more[:2]]))
    assert contents(setup) == after
    asyncio.run(current.tenure.close())
    refuse_again(late)
    asyncio.run(record_batch(late, more[2:]))
    pages = setup.pages().values()
    assert [page["last_latency_ms"] for page in pages if page["status"] == "online"] == [40] * 5
    assert setup.events_done() == 45
    assert setup.feed().missed == 0


def test_a_lease_that_nobody_took(make_setup: MakeSetup) -> None:
    """A consumer whose lease ran out while nobody else was there goes on with what it has in memory."""
    setup, story = make_setup(), Story()
    recorder = Recorder(setup.config, setup.store)
    asyncio.run(record_batch(recorder, story.events(INSERT, PHONES)))
    memory = recorder._memory.usrloc
    expire_lease(setup)
    recorder.tenure.leases._renewed_at.clear()
    asyncio.run(record_batch(recorder, story.events(LATENCY, PHONES, latency=20_000)))
    assert setup.events_done() == 20
    assert recorder._memory.usrloc is memory


def test_a_node_that_came_back(make_setup: MakeSetup) -> None:
    """A consumer does not go on with an old memory when another one had the node for a while and gave it back."""
    setup, story = make_setup(), Story()
    first, second = Recorder(setup.config, setup.store), Recorder(setup.config, setup.store)
    asyncio.run(record_batch(first, story.events(INSERT, PHONES)))
    expire_lease(setup)
    asyncio.run(record_batch(second, ended := story.events(DELETE, PHONES[:5])))
    asyncio.run(second.tenure.close())
    first.tenure.leases._renewed_at.clear()
    asyncio.run(record_batch(first, [*ended, *story.events(LATENCY, PHONES[5:], latency=20_000), story.heartbeat()]))
    assert sorted(page["status"] for page in setup.pages().values()) == ["offline"] * 5 + ["online"] * 5
    assert setup.events_done() == 20
    assert setup.feed().missed == 0


def test_corrections_of_a_late_consumer(make_setup: MakeSetup) -> None:
    """A correction stays in its queue when the batch that applied it was refused: the other one applies it."""
    setup, story = make_setup(), Story()
    late, current = Recorder(setup.config, setup.store), Recorder(setup.config, setup.store)
    asyncio.run(record_batch(late, story.events(INSERT, PHONES[:1])))
    binding = Binding("opensips", "location", PHONES[0], f"sip:{PHONES[0]}@192.0.2.1:5060")
    append_corrections(setup.store, "opensips", [encode_correction(Identified(binding, "urn:uuid:1"))])

    def take_over() -> None:
        expire_lease(setup)
        asyncio.run(current.take(pings))

    pings = story.events(LATENCY, PHONES[:1], latency=20_000)
    stop_before_the_next_write(late, take_over)
    asyncio.run(record_batch(late, pings))
    assert setup.store.connection.call("XLEN", setup.store.keys.corrections("opensips")) == 1
    asyncio.run(record_batch(current, []))
    assert setup.store.connection.call("XLEN", setup.store.keys.corrections("opensips")) == 0
    assert [device for device, page in setup.pages().items() if page["contacts"]] == ["phone0/urn:uuid:1"]


def test_a_store_that_lost_everything(make_setup: MakeSetup) -> None:
    """When Redis lost its data the consumer goes on, and its writes are fenced again."""
    setup, story = make_setup(), Story()
    first, second = Recorder(setup.config, setup.store), Recorder(setup.config, setup.store)
    asyncio.run(record_batch(first, story.events(INSERT, PHONES)))
    setup.store.connection.pipeline(("DEL", key) for key in contents(setup))
    pings = story.events(LATENCY, PHONES, latency=20_000)
    asyncio.run(record_batch(first, pings[:5]))
    assert setup.events_done() == 15

    def take_over() -> None:
        expire_lease(setup)
        asyncio.run(record_batch(second, pings))

    stop_before_the_next_write(first, take_over)
    asyncio.run(record_batch(first, pings[5:6]))
    assert setup.events_done() == 20


async def test_slow_write_keeps_its_lease(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer whose write takes longer than a lease keeps its nodes: two busy ones would rob each other."""
    monkeypatch.setattr("companion.store.leases.RENEW_SECONDS", 0.1)
    monkeypatch.setattr("companion.consumer.tenure.RENEW_SECONDS", 0.1)
    setup, story = make_setup(), Story()
    recorder, written = Recorder(setup.config, setup.store), threading.Event()
    await record_batch(recorder, story.events(INSERT, PHONES))
    stop_before_the_next_write(recorder, written.wait)
    await recorder.take(story.events(LATENCY, PHONES, latency=20_000))
    keeping, writing = asyncio.create_task(recorder.tenure.keep()), asyncio.create_task(recorder.write())
    lease = setup.store.keys.lease("opensips")
    for _ in range(2):
        setup.store.connection.call("PEXPIRE", lease, 5000)
        await eventually(lambda: setup.store.connection.call("PTTL", lease) > 7000)
    keeping.cancel()
    written.set()
    await writing
    assert setup.events_done() == 2 * len(PHONES)


STOPPED = """
import pathlib, signal, sys, threading
from companion.store.batch import Batch
write = Batch.write
def write_late(self, prepared, progress=()):
    if progress and pathlib.Path(sys.argv[-1]).with_name("stop").exists():
        pathlib.Path(sys.argv[-1]).with_name("stop").unlink()
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # else this thread may run on for a while
    write(self, prepared, progress)
Batch.write = write_late
from companion.__main__ import main
main()
"""


@contextmanager
def consumer_that_stops(setup: Setup) -> Iterator[subprocess.Popen[bytes]]:
    """Run a consumer that stops itself before the next write once there is a file `stop`."""
    arguments = [sys.executable, "-c", STOPPED, "run", "consumer", "-c", str(setup.file())]
    with (setup.folder / "late.log").open("wb") as log:
        late = subprocess.Popen(arguments, stdout=log, stderr=log, env=clean_environment())
        try:
            yield late
        finally:
            late.kill()
            late.wait()


async def test_a_stopped_process(make_setup: MakeSetup) -> None:
    """A consumer stopped by SIGSTOP before its write, continued after the take-over, puts nothing back."""
    setup = make_setup()
    with consumer_that_stops(setup) as late:
        async with Feeder.silent(setup) as feeder:
            assert await feeder.publisher.subscribed(60)
            for phone in PHONES:
                feeder.say(INSERT, phone_event(phone))
            feeder.beat()
            await eventually(lambda: setup.events_done() == 10)
            async with setup.running("consumer"):
                await eventually(lambda: feeder.consumers() == 2)
                (setup.folder / "stop").touch()
                for phone in PHONES:
                    feeder.say(LATENCY, phone_event(phone, latency=LOST_PING_US))
                feeder.beat()
                await eventually(lambda: is_stopped(late.pid))
                expire_lease(setup)
                for phone in PHONES:
                    feeder.say(DELETE, phone_event(phone))
                await eventually(lambda: feeder.beat() or setup.events_done() == 30)
                late.send_signal(signal.SIGCONT)
                await eventually(lambda: "this batch was refused" in (setup.folder / "late.log").read_text())
                pages, (feed, seqs) = setup.pages(), load_feed(setup.store, "opensips")
                await eventually(lambda: feeder.beat() or setup.feed().heartbeat_at > feed.heartbeat_at)
    assert {page["status"] for page in pages.values()} == {"offline"}
    assert (len(pages), feed.missed, seqs[DELETE], seqs[LATENCY]) == (10, 0, 9, 9)


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
