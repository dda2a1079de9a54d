"""event_zeromq in a real OpenSIPS: what it publishes, and that it stands every fault."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from companion.bus.curve import Curve
from tests.acceptance.conftest import BUILD_MODULE, Build
from tests.acceptance.event_zeromq import Answers, Node, listening, wait_until

pytestmark = pytest.mark.timeout(600)
Start = Callable[..., Node]
Record = Callable[[str, object], None]
SMALL_RING = 1 << 20
HALT_SECONDS = 10


@pytest.fixture
def start(build: Build, event_zeromq: Path, tmp_path: Path) -> Start:
    return lambda **settings: Node(build, tmp_path, event_zeromq, **settings)


def test_events(start: Start) -> None:
    """Every event arrives once, in order, with rising times; a clean stop ends the run, and OpenSIPS stops at once."""
    with start() as node, listening(node.bus) as bus:
        node.flood(20_000)
        wait_until(lambda: bus.hear().received == 20_000)
        assert node.statistics() == {"published": 20_000, "lost": 0, "queued_bytes": 0, "restarts": 0}
        wait_until(lambda: bus.hear().heartbeats >= 2)
        started = time.monotonic()
        node.stop()
        assert time.monotonic() - started < 8
        wait_until(lambda: bus.hear().ended == bus.runs)
        assert (bus.received, bus.missed, bus.repeated) == (20_000, 0, 0)


def test_a_publisher_that_is_killed(start: Start) -> None:
    """A killed publisher is restarted: its run is ended for it, and nothing that was raised meanwhile is lost."""
    with start() as node, listening(node.bus) as bus:
        node.flood(1000)
        wait_until(lambda: bus.hear().received == 1000)
        for kill in range(1, 4):
            os.kill(node.publisher, signal.SIGKILL)
            node.flood(5000)
            wait_until(lambda: bus.hear().received >= 1000 + 5000 * kill)  # noqa: B023 - called at once
        wait_until(lambda: node.statistics()["queued_bytes"] == 0)
        assert (bus.received, bus.missed, bus.repeated) == (16_000, 0, 0)
        assert (len(bus.runs), bus.ended) == (4, bus.runs[:3])
        assert node.statistics() == {"published": 16_000, "lost": 0, "queued_bytes": 0, "restarts": 3}
        assert node.log.count("the publisher was ended by signal 9") == 3


def test_a_stop_with_a_full_ring(start: Start) -> None:
    """A halted publisher goes on to end its run; what it can not send by then is counted by the subscriber, too."""
    with start(ring_size=128 << 20) as node, listening(node.bus) as bus:
        node.flood(1)
        wait_until(lambda: bus.hear().received == 1)
        os.kill(node.publisher, signal.SIGSTOP)
        node.flood(200_000)
        node.await_floods(2)
        node.stop()
        wait_until(lambda: bus.hear().ended == bus.runs)
        wait_until(lambda: bus.hear().received + bus.missed == 200_001)


def test_opensips_is_killed(start: Start) -> None:
    """The publisher ends with an OpenSIPS that was killed, and leaves its endpoint to the next one."""
    with start() as node, listening(node.bus) as bus:
        node.flood(100)
        wait_until(lambda: bus.hear().received == 100)
        publisher = node.publisher
        os.kill(node.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{publisher}").exists())
        assert bus.hear().ended == bus.runs
        node.kill()


def test_a_publisher_that_is_stopped(start: Start) -> None:
    """A publisher that somebody stops ends its run, once, and another one goes on."""
    with start() as node, listening(node.bus) as bus:
        node.flood(100)
        wait_until(lambda: bus.hear().received == 100)
        os.kill(node.publisher, signal.SIGTERM)
        wait_until(lambda: len(bus.hear().runs) == 2)
        assert (bus.ended, bus.missed) == (bus.runs[:1], 0)


def test_restarts_under_load(start: Start) -> None:
    """OpenSIPS restarts three times while events are raised: with hold_ms a subscriber that comes back misses none."""
    with start(hold_ms=20_000) as node, listening(node.bus) as bus:
        for run in range(1, 4):
            node.flood(20_000)
            node.await_floods(run)
            node.stop()
            wait_until(lambda: len(bus.hear().ended) == run)  # noqa: B023 - called at once
            node.start()
            node.wait()
        node.flood(100)
        wait_until(lambda: bus.hear().received == 60_100)
        assert (bus.missed, bus.repeated, len(bus.runs)) == (0, 0, 4)


def test_a_full_ring(start: Start, record_property: Record) -> None:
    """What a full ring can not take holds up no worker, and is counted on both sides, exactly."""
    with start(ring_size=SMALL_RING) as node, listening(node.bus) as bus:
        node.flood(1)
        wait_until(lambda: bus.hear().received == 1)
        publisher = node.publisher
        os.kill(publisher, signal.SIGSTOP)
        node.flood(20_000)
        node.await_floods(2)
        wait_until(lambda: "events are lost" in node.log)
        full = node.request(1000)
        os.kill(publisher, signal.SIGCONT)
        wait_until(lambda: bus.hear().received + bus.missed == 21_001)
        figures = node.statistics()
        assert figures["published"] + figures["lost"] == 21_001
        assert (bus.received, bus.missed) == (figures["published"], figures["lost"])
        assert figures["lost"] > 10_000
        assert node.log.count("events are lost") == 1
        note(record_property, full=full)


def test_a_halted_publisher(start: Start, record_property: Record) -> None:
    """A publisher that is halted for ten seconds holds up no SIP worker, and loses nothing that the ring can take."""
    with start(ring_size=128 << 20) as node, listening(node.bus) as bus:
        running = node.request(1000)
        wait_until(lambda: bus.hear().received == 1000)
        publisher, halted_at = node.publisher, time.monotonic()
        os.kill(publisher, signal.SIGSTOP)
        halted, floods = Answers(), 0
        while time.monotonic() < halted_at + HALT_SECONDS:
            node.flood(500)  # the process of MI takes the lock, too
            floods += 1
            halted += node.request(200)
            time.sleep(0.1)
        os.kill(publisher, signal.SIGCONT)
        raised = 1000 + 500 * floods + len(halted.raises_us)
        wait_until(lambda: bus.hear().received == raised)
        assert (bus.missed, bus.repeated, len(bus.runs)) == (0, 0, 1)
        assert halted.slowest < HALT_SECONDS / 2, "a worker waited"
        note(record_property, running=running, halted=halted)


def note(record_property: Record, **answers: Answers) -> None:
    """Print how long `raise` holds up a worker, and check that it is no more than the scheduling of a full machine."""
    for state, measured in answers.items():
        p50, p99 = measured.percentile_us(50), measured.percentile_us(99)
        record_property(f"raise_{state}_us", f"p50 {p50}, p99 {p99}")
        print(f"raise, {state}: p50 {p50} µs, p99 {p99} µs of {len(measured.raises_us)}")
        assert p50 < 1000


def test_a_slow_subscriber(start: Start) -> None:
    """A subscriber that does not read loses messages of its own and can count them; nobody else does."""
    with start(hwm=1000) as node, listening(node.bus) as bus, listening(node.bus, slow=True) as slow:
        wait_until(lambda: bus.hear().heartbeats and slow.hear().heartbeats)
        for turn in range(1, 71):
            node.flood(900)
            wait_until(lambda: bus.hear().received + bus.missed == 900 * turn)  # noqa: B023 - called at once
        assert (node.statistics()["lost"], bus.received, bus.missed) == (0, 63_000, 0)
        wait_until(lambda: slow.hear().received + slow.missed == 63_000)
        assert slow.missed > 0


def test_an_endpoint_in_use(start: Start) -> None:
    """OpenSIPS lives while its endpoint is taken, says so once, and publishes what waited as soon as it is free."""
    occupant = socket.socket()
    occupant.bind(("127.0.0.1", 0))
    occupant.listen()
    bus = f"tcp://127.0.0.1:{occupant.getsockname()[1]}"
    with start(publish=bus, socket=f"zeromq:{bus}") as node:
        wait_until(lambda: "the bus can not be opened" in node.log)
        node.flood(100)
        node.await_floods(1)
        time.sleep(2.5)  # two more attempts
        assert node.log.count("the bus can not be opened") == 1
        occupant.close()
        with listening(bus) as listener:
            wait_until(lambda: listener.hear().received == 100)


def test_keys(start: Start) -> None:
    """A subscriber with a key that is not in the list is refused and named once; the others hear everything."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    mine, friend = zmq.curve_keypair(), zmq.curve_keypair()
    with (
        start(curve_secret_key=secret, curve_clients=mine[0].decode()) as node,
        listening(node.bus, Curve(friend[1].decode(), server=public)) as stranger,
        listening(node.bus, Curve(mine[1].decode(), server=public)) as bus,
    ):
        node.flood(100)
        wait_until(lambda: bus.hear().received == 100)
        wait_until(lambda: friend[0].decode() in node.log)
        assert node.log.count("was refused") == 1
        assert stranger.hear().received == 0


def test_strangers(start: Start) -> None:
    """Strangers with a new key each time fill no log, and do not keep a subscriber out."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    mine = zmq.curve_keypair()
    with start(curve_secret_key=secret, curve_clients=mine[0].decode()) as node, ExitStack() as strangers:
        for _ in range(20):
            curve = Curve(zmq.curve_keypair()[1].decode(), server=public)
            strangers.enter_context(listening(node.bus, curve))
        wait_until(lambda: "was refused" in node.log)
        with listening(node.bus, Curve(mine[1].decode(), server=public)) as bus:
            node.flood(100)
            wait_until(lambda: bus.hear().received == 100)
        assert node.log.count("was refused") == 1


def test_a_second_endpoint(start: Start) -> None:
    """One OpenSIPS has one endpoint: another one is refused over MI, and the log says why."""
    with start() as node:
        answer = node.call("event_subscribe", event="E_COMPANION_TEST", socket="zeromq:tcp://127.0.0.1:1")
        assert answer["error"]["code"] == 400
        assert f"one OpenSIPS publishes at one endpoint; it is {node.bus}" in node.log
        for refused in (
            *("zeromq", "zeromq:", "zeromq:udp://127.0.0.1:1", "zeromq:tcp://192.0.2.1:5555", "zeromq:tcp://localhost"),
            *("zeromq:tcp://127.0.0.1:0", "zeromq:tcp://127.0.0.1:99999", f"zeromq:ipc://{'x' * 300}"),
        ):
            assert "error" in node.call("event_subscribe", event="E_COMPANION_TEST", socket=refused)
        answer = node.call("event_subscribe", event="E_COMPANION_TEST", socket=f"zeromq:{node.bus}", expire=600)
        assert answer["result"] == "OK"


def test_virtual(start: Start) -> None:
    """A group of event_virtual reaches the bus and the other transports."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(10)
        with (
            start(socket=f"virtual:PARALLEL zeromq:BUS udp:127.0.0.1:{ear.getsockname()[1]}") as node,
            listening(node.bus) as bus,
        ):
            node.flood(10)
            wait_until(lambda: bus.hear().received == 10)
            assert b"E_COMPANION_TEST" in ear.recv(65536)


@pytest.mark.usefixtures("event_zeromq")
def test_a_build_for_another_opensips(build: Build, tmp_path: Path) -> None:
    """A module that the running OpenSIPS would refuse is not built, and the reason is given."""
    other = tmp_path / "opensips"
    other.write_text(f"#!/bin/sh\n{build.binary} -V | sed 's/STATS: On/STATS: Off/'\n")
    other.chmod(0o755)
    command = ["sh", str(BUILD_MODULE), os.environ["OPENSIPS_SRC"], str(tmp_path / "built"), str(other)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "STATS: Off" in done.stderr
    assert not (tmp_path / "built/event_zeromq.so").exists()


def test_wrong_parameters(build: Build, event_zeromq: Path, tmp_path: Path) -> None:
    """A parameter that can not be right keeps OpenSIPS from starting, with its reason."""
    for name, value, reason in (
        ("node", "a b", "node is not"),
        ("publish", "tcp://0.0.0.0:5555", "clear text"),
        ("ring_size", 1000, "ring_size"),
        ("curve_secret_key", "short", "curve_secret_key"),
    ):
        parameters: dict[str, Any] = {name: value} if name != "node" else {}
        folder = tmp_path / name
        folder.mkdir()
        node = Node(build, folder, event_zeromq, **parameters)
        if name == "node":
            node.kill()
            file = folder / "opensips.cfg"
            file.write_text(file.read_text().replace('"sip1"', f'"{value}"'))
            node.start()
        wait_until(lambda: not node.is_running)  # noqa: B023 - called at once
        assert reason in node.log
