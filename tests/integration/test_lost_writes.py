"""Redis loses what was written: the consumer reads its memory anew instead of trusting it."""

import os
import signal
from pathlib import Path

import pytest

from companion.consumer import rewind
from companion.consumer.recorder import Recorder
from companion.simulator.redis import EmbeddedRedis
from companion.times import now_ms
from tests.integration.conftest import Feeder, MakeSetup, Setup, eventually, message, phone_event, record_batch
from tests.integration.test_failover import SECONDS, client, proxied, replicates

INSERT, DELETE, LATENCY = "E_UL_CONTACT_INSERT", "E_UL_CONTACT_DELETE", "E_UL_LATENCY_UPDATE"
QUICK = {"batch_ms": 50}


def register(feeder: Feeder, aor: str) -> None:
    feeder.say(INSERT, phone_event(aor))
    answer(feeder, aor)


def answer(feeder: Feeder, aor: str) -> None:
    feeder.say(LATENCY, phone_event(aor, latency=30_000))
    feeder.beat()


def status(setup: Setup, aor: str) -> str:
    pages = [page for device, page in setup.pages().items() if device.startswith(f"{aor}/")]
    return str(pages[0]["status"]) if pages else ""


def is_back(setup: Setup, feeder: Feeder, aor: str) -> bool:
    """Return whether a phone is shown; it answers once more meanwhile."""
    answer(feeder, aor)
    return status(setup, aor) == "online"


def is_online(setup: Setup, feeder: Feeder, aor: str) -> bool:
    """Return whether a phone is shown as online, without another answer of it."""
    feeder.beat()
    return status(setup, aor) == "online"


async def test_a_failover_that_loses_the_last_writes(make_setup: MakeSetup, tmp_path: Path) -> None:
    """A master dies with writes that its replica lacks: they are written again, and remediation waits."""
    with (
        EmbeddedRedis(tmp_path / "a") as first,
        EmbeddedRedis(tmp_path / "b") as second,
        proxied(first.port) as proxy,
        client(second) as replica,
    ):
        await eventually(lambda: replicates(replica, first), SECONDS)
        setup = make_setup(server=proxy, consumer=QUICK)
        with setup.process("consumer"):
            async with Feeder.silent(setup) as feeder:
                assert await feeder.publisher.subscribed(60)
                register(feeder, "ended")
                await eventually(lambda: setup.events_done() == 2, SECONDS)
                with client(first) as master:
                    await eventually(lambda: master.wait(1, 0) == 1, SECONDS)
                replica.replicaof("NO", "ONE")
                register(feeder, "lost")
                feeder.say(DELETE, phone_event("ended"))
                await eventually(lambda: setup.events_done() == 5, SECONDS)
                assert (status(setup, "lost"), status(setup, "ended")) == ("online", "offline")

                os.kill(first.pid, signal.SIGKILL)
                proxy.target = second.port
                answer(feeder, "other")
                await eventually(lambda: setup.feed().lost_at, SECONDS)
                await eventually(lambda: setup.events_done() == feeder.published, SECONDS)
                await eventually(lambda: is_online(setup, feeder, "lost"), SECONDS)
                assert status(setup, "ended") == "offline"
                assert setup.samples() == 3


async def test_loss_that_is_noticed_late(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes without progress show no loss: however many follow, what was written before is kept and written again."""
    monkeypatch.setattr(rewind, "SECONDS", 0.0)
    setup = make_setup()
    recorder, start = Recorder(setup.config, setup.store), now_ms()
    await record_batch(recorder, [message(INSERT, phone_event("lost"), start, 0)])
    setup.store.connection.call("FLUSHALL")
    for _ in range(3):
        await recorder.write()
    await record_batch(recorder, [message(INSERT, phone_event("other"), start + 1, 1)])
    assert {page["aor"] for page in setup.pages().values()} == {"lost", "other"}


async def test_all_data_is_deleted(make_setup: MakeSetup, tmp_path: Path) -> None:
    """After FLUSHALL every phone is shown again with its next ping, and remediation waits for the feed to settle."""
    with EmbeddedRedis(tmp_path / "a") as server:
        setup = make_setup(server=server, consumer=QUICK)
        with setup.process("consumer"):
            async with Feeder.silent(setup) as feeder:
                assert await feeder.publisher.subscribed(60)
                register(feeder, "alice")
                await eventually(lambda: status(setup, "alice") == "online", SECONDS)
                flushed_at = now_ms()
                setup.store.connection.call("FLUSHALL")
                await eventually(lambda: is_back(setup, feeder, "alice"), SECONDS)
                assert setup.feed().steady_since >= flushed_at
