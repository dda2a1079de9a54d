"""No fault makes remediation remove a live contact: each removal is checked against the simulated phone's own state.

Most of it runs on a clock of its own (`World`): phones, OpenSIPS' pings and restarts are simulated, and what comes
after is real: the bridge's stamping, the recorder, Redis, the sweep, MI over HTTP.
"""

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from companion import steady_clock
from companion.bridge.bridge import Bridge
from companion.bridge.stamps import Stamps
from companion.bus import envelope
from companion.bus.publisher import Publisher
from companion.config import Config
from companion.consumer.future_limit import FutureLimit
from companion.consumer.recorder import Recorder
from companion.opensips import mi
from companion.query.now import load_view
from companion.query.summary import compute_summary
from companion.remediation import audit
from companion.remediation.safety import ClockWatch
from companion.remediation.sweep import Sweeper
from companion.simulator.mi import SimulatedMi
from companion.simulator.mi_server import Fault, MiServer
from companion.simulator.node import Node, Settings
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import PhoneState, SimulatedPhone
from companion.simulator.redis import EmbeddedRedis
from companion.simulator.subscriptions import Subscriptions
from companion.steady_clock import SteadyClock
from companion.store import sweeps
from companion.store.connection import Unreachable
from companion.store.devices import load_device
from companion.store.summary import save_summary
from companion.text import Json
from tests.integration.conftest import Kind, MakeSetup, Process, Setup, eventually, record_batch

PING = 30.0
LOST_AFTER = 3
SETTLE = 4.0
"""Seconds after a ping until its loss is known, and some more."""
HOUR = 3600.0


class Wire:
    """In place of the bus' socket: keeps what was sent. No subscriber asks for anything."""

    closed = False

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def send(self, frame: bytes, _: int) -> None:
        self.frames.append(frame)

    def recv(self, _: int) -> bytes:
        raise zmq.Again

    def close(self) -> None:
        pass

    def take(self) -> list[tuple[bytes, bytes]]:
        frames, self.frames = self.frames, []
        return list(zip(frames[::2], frames[1::2], strict=True))


MANY_AT_ONCE: Json = {"mode": "enforce", "max_per_sweep": 100_000, "max_per_minute": 100_000, "breaker_share": 1.0}
"""No breaker: what else keeps phones from being removed is to be seen."""


class World:
    """One OpenSIPS, its phones and a companion, on a clock that only `pass_time` moves.

    `clock_error` is how far the companion's machine is off, in seconds. `on_mi` is called with each MI call before that
    is done. `lost_on_the_way` tells which of OpenSIPS' events never reach the bridge's subscriber.
    """

    def __init__(self, setup: Setup, phones: Sequence[SimulatedPhone], **remediation: Any) -> None:
        self.setup, self.store = setup, setup.store
        self.clock_error = 0.0
        self.bridge_is_up = True
        self.on_mi: Callable[[str, Json], None] = lambda *_: None
        self.lost_on_the_way: Callable[[Json], bool] = lambda _: False
        self.looks: Counter[str] = Counter()
        self.removals: list[tuple[str, bool]] = []
        self.waits: list[float] = []
        self._looked_at = 0.0
        self._waiting: list[envelope.Message] = []
        self._start = float(round(time.time()))
        self.node = Node(Settings(ping_interval=PING, timer_interval=PING), self._raise, lambda now: self._start + now)
        self.phones = list(phones)
        self.server = MiServer(self._answer, "127.0.0.1:0")
        self._remediation = MANY_AT_ONCE | remediation

    # Clocks

    def steady(self) -> float:
        return self.node.agenda.now

    def clock(self) -> float:
        return self._start + self.steady() + self.clock_error

    async def pass_time(self, seconds: float, deliver_until: float = 1.0) -> None:
        """Let time pass and all be recorded that happens in it, or only the first part of it."""
        self.node.advance(self.steady() + seconds)
        if self.bridge_is_up:
            self.bridge._beat()
        self._waiting += [envelope.decode(*frames) for frames in self.wire.take()]
        if self.bridge_is_up:
            await self.deliver(deliver_until)

    async def deliver(self, part: float = 1.0) -> None:
        count = round(len(self._waiting) * part)
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        if batch:
            await record_batch(self.recorder, batch)

    async def pings(self, count: int) -> None:
        for _ in range(count):
            await self.pass_time(PING)

    async def sweep(self) -> None:
        await self.sweeper.run()

    async def sweep_and_ping(self, count: int) -> None:
        for _ in range(count):
            await self.pings(1)
            await self.sweep()

    # The bridge

    async def restart_bridge(self) -> None:
        """What was said while it was down is lost."""
        self.bridge_is_up = True
        self.wire.take()
        self._waiting.clear()
        self.bridge.publisher.new_run()
        await self.pass_time(1)

    def _raise(self, _: str, text: bytes) -> None:
        if not self.bridge_is_up:
            return
        before = len(self.wire.frames)
        self.bridge.receive(text)
        if self.lost_on_the_way(json.loads(text)["params"]):
            del self.wire.frames[before:]

    # MI

    def _answer(self, body: bytes) -> bytes | None:
        call = json.loads(body)
        self.on_mi(call["method"], call["params"])
        if call["method"] == "ul_rm_contact":
            self._check_removal(call["params"]["aor"], call["params"]["contact"])
        answer = self.mi.answer(body)
        if call["method"] == "ul_show_contact":
            self.looks[call["params"]["aor"]] += 1
            self._looked_at = time.perf_counter()
        return answer

    def _check_removal(self, aor: str, uri: str) -> None:
        binding = self.node.usrloc.find(aor, uri)
        if binding:
            owner = self.node._owners[binding.key]
            here = (owner.uri, owner.received) == (binding.contact.uri, binding.contact.received)
            self.removals.append((aor, here and owner.state is PhoneState.ON and not owner.muted))
            self.waits.append(time.perf_counter() - self._looked_at)

    # What is to be seen

    def phone(self, aor: str) -> SimulatedPhone:
        return next(phone for phone in self.phones if phone.aor == aor)

    def outcomes(self) -> Counter[str]:
        return Counter(entry["result"] for _, entry in audit.read(self.store, count=100_000))

    def troubles(self) -> str:
        return str(self.store.connection.call("HGET", self.store.keys.sweep(), "troubles"))

    def registered(self) -> set[str]:
        return {binding.contact.aor for binding in self.node.usrloc}

    def breaker_is_open(self) -> bool:
        return bool(self.store.connection.call("EXISTS", self.store.keys.breaker("opensips")))

    def no_wrong_removals(self, expected: int) -> None:
        """Of the removals OpenSIPS carried out none struck a live phone; `expected` is how many there were."""
        wrong = sum(live for _, live in self.removals)
        print(f"wrong removals: {wrong} of {len(self.removals)}")
        assert wrong == 0
        assert len(self.removals) == expected

    @asynccontextmanager
    async def living(self) -> AsyncIterator["World"]:
        """Everybody registered and answered, the warm-up is over."""
        subscriptions = Subscriptions()
        subscriptions.add("E_COMPANION_PUSH", "route:E_COMPANION_PUSH")
        self.mi = SimulatedMi(self.node, subscriptions, lambda *_: None)
        await self.server.start()
        self.setup.config = Config.model_validate(
            self.setup.tables
            | {
                "pings": {"interval": PING, "lost_after": LOST_AFTER},
                "opensips": [{"node": "opensips", "mi_url": self.server.url, "mi_timeout": 0.1}],
                "remediation": self._remediation,
            }
        )
        self._make_companion()
        for phone in self.phones:
            self.node.add(phone)
        try:
            await self.pass_time(SETTLE)
            await self.pings(3)
            save_summary(self.store, compute_summary(self.store, load_view(self.setup.config, self.store)))
            await self.sweep()
            assert self.troubles() == ""
            yield self
        finally:
            await self.recorder.tenure.close()
            await self.server.stop()

    def _make_companion(self) -> None:
        config = self.setup.config
        self.recorder, self.sweeper = Recorder(config, self.store), Sweeper(config, self.store)
        self.recorder._applier._future_limit = FutureLimit(self.clock, self.steady)
        self.sweeper._troubles._clock = ClockWatch(self.clock, self.steady)
        self.bridge = Bridge(config.bridge)
        assert isinstance(self.bridge.publisher, Publisher)
        self.bridge.publisher.close()
        self.wire = Wire()
        self.bridge.publisher._socket = self.wire  # type: ignore[assignment]
        self.bridge._clock = SteadyClock(self.clock, self.steady)
        self.bridge._stamps = Stamps(self.bridge._clock.now)


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(make_setup: MakeSetup, monkeypatch: pytest.MonkeyPatch) -> MakeWorld:
    """Makes a World, by whose clock all of the companion goes from then on."""

    def make(
        *phones: SimulatedPhone, kind: Kind = "module", server: EmbeddedRedis | None = None, **remediation: Any
    ) -> World:
        world = World(make_setup(kind, server), phones, **remediation)
        monkeypatch.setattr(time, "time", world.clock)
        monkeypatch.setattr(steady_clock, "_PROCESS", SteadyClock(world.clock, world.steady))
        monkeypatch.setattr(mi, "PAUSES", (0.01, 0.01))
        return world

    return make


def crowd(count: int, name: str = "phone", **fields: Any) -> list[SimulatedPhone]:
    made: Json = {"transport": "udp", "latency_ms": 30.0, "jitter": 0.1, "lifetime": 86_400.0}
    return [
        SimulatedPhone(f"{name}{n}", f"00000000-0000-4000-8000-{hash((name, n)) % 10**12:012d}", **made | fields)
        for n in range(count)
    ]


def mute(phones: Sequence[SimulatedPhone]) -> None:
    for phone in phones:
        phone.mute()


def unmute(phones: Sequence[SimulatedPhone]) -> None:
    for phone in phones:
        phone.unmute()


# OpenSIPS


@pytest.mark.parametrize("keeps_contacts", [False, True])
async def test_opensips_restarts(make_world: MakeWorld, keeps_contacts: bool) -> None:  # noqa: FBT001
    """OpenSIPS restarts in the middle of a sweep, with an empty usrloc or with one from a database.

    What was not removed before is gone, or was not pinged yet: it is left alone, and the living come back. The dead
    that usrloc still has are removed once they lost further pings.
    """
    dead, living = crowd(20, "dead"), crowd(20, "live", transport="ws")
    async with make_world(*dead, *living).living() as world:
        mute(dead)
        await world.pings(LOST_AFTER)

        def restart(method: str, _: Json) -> None:
            if method == "ul_show_contact" and len(world.removals) == 5:
                world.on_mi = lambda *_: None
                if keeps_contacts:
                    for binding in world.node.usrloc:
                        binding.contact.latency = 0
                else:
                    world.node.restart()

        world.on_mi = restart
        await world.sweep()
        assert world.outcomes() == {"removed": 5, "came-back" if keeps_contacts else "already-gone": 15}
        await world.sweep_and_ping(6)

        world.no_wrong_removals(20 if keeps_contacts else 5)
        assert {phone.aor for phone in living} <= world.registered()


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SLOW])
async def test_mi_fails(make_world: MakeWorld, fault: Fault) -> None:
    """MI that fails is asked for three contacts a sweep and no more; healed, it is asked again before each removal.

    Who came back meanwhile, unheard, stays. The same failure is written down once.
    """
    dead, back = crowd(6, "dead"), crowd(2, "back")
    async with make_world(*dead, *back, *crowd(4, "live")).living() as world:
        mute([*dead, *back])
        await world.pings(LOST_AFTER)
        world.server.fail(fault)
        failed = "mi-refused" if fault is Fault.UNAUTHORIZED else "mi-unreachable"
        for count in (3, 6, 8, 8):
            await world.sweep()
            assert world.outcomes() == {failed: count}
        assert not world.removals
        unmute(back)
        for phone in back:
            phone.reregister()
        world.server.heal()
        await world.sweep()
        await world.sweep()
        await world.sweep_and_ping(5)

        world.no_wrong_removals(len(dead))
        assert {phone.aor for phone in back} <= world.registered()
        assert world.outcomes() == {failed: 8, "removed": 6, "came-back": 2}


async def test_an_answer_that_is_lost(make_world: MakeWorld) -> None:
    """A removal that was done, its answer lost, is not sent again: the next look finds the contact gone."""
    dead = crowd(3, "dead")
    async with make_world(*dead, *crowd(2, "live")).living() as world:
        mute(dead)
        await world.pings(LOST_AFTER)

        def fail_after(method: str, _: Json) -> None:
            if method == "ul_show_contact":
                world.server.fail(Fault.CLOSE_AFTER, times=1)

        world.on_mi = fail_after
        await world.sweep()
        world.on_mi = lambda *_: None
        world.server.heal()
        assert world.outcomes() == {"mi-unreachable": 3}
        await world.sweep()

        world.no_wrong_removals(3)
        assert world.outcomes() == {"mi-unreachable": 3, "already-gone": 3}


# The feed


async def test_the_bridge_is_down(make_world: MakeWorld) -> None:
    """After twenty ping intervals without a bridge nothing is done until it has been back for two.

    By then phones are back with the same URIs and with new ones, and losses from before do not count.
    """
    same, new, dead, lossy = crowd(5, "same"), crowd(5, "new", transport="ws"), crowd(5, "dead"), crowd(5, "lossy")
    async with make_world(*same, *new, *dead, *lossy, *crowd(5, "live")).living() as world:
        mute([*same, *new, *dead, *lossy])
        await world.pings(LOST_AFTER - 1)
        world.bridge_is_up = False
        for step in range(20):
            await world.pass_time(PING)
            await world.recorder.tick(round(world.clock() * 1000))
            if step == 10:
                unmute([*same, *new, *lossy])
                for phone in same:
                    phone.reregister()
                for phone in new:
                    phone.switch_on()
            if step == 18:
                mute(lossy)
            await world.sweep()
        assert not world.removals
        await world.restart_bridge()
        await world.sweep_and_ping(1)
        assert "warming up" in world.troubles()
        unmute(lossy)
        await world.sweep_and_ping(8)

        assert {*(phone.aor for phone in (*same, *new, *lossy))} <= world.registered()
        assert not {phone.aor for phone in dead} & world.registered()
        world.no_wrong_removals(len(dead) + len(new))


@pytest.mark.parametrize("kind", ["module", "plain"])
async def test_answers_lost_on_the_way(make_world: MakeWorld, kind: Kind) -> None:
    """A phone whose answers are lost on the bus is not removed, though its record says lost, lost, lost.

    OpenSIPS says that the last ping was lost, too, and the warm-up is over: only the gap tells. Who is dead goes.
    """
    (flaky,), dead = crowd(1, "flaky"), crowd(3, "dead")
    async with make_world(flaky, *dead, *crowd(3, "live"), kind=kind, warm_up=PING).living() as world:
        mute(dead)
        lost_in_a_row = []
        for turn in range(25):
            answers, is_delivered = (True, False, True, False, False)[turn % 5], turn % 5 != 2
            flaky.muted = not answers
            world.lost_on_the_way = lambda params, delivered=is_delivered: params["aor"] == "flaky0" and not delivered  # type: ignore[misc]
            await world.pings(1)
            await world.sweep()
            device = load_device(world.store, f"flaky0/urn:uuid:{flaky.instance}")
            assert device is not None
            lost_in_a_row.append(device.contacts[0].consecutive_lost)

        assert lost_in_a_row == [0, 1, 1, 2, 3] * 5
        assert world.troubles() == ""
        world.no_wrong_removals(len(dead))


@pytest.mark.parametrize("part", [0.5, 0.62, 0.75])
async def test_a_backlog(make_world: MakeWorld, part: float) -> None:
    """While the consumer works off what came minutes ago, nothing is done on what it knows so far."""
    flaky = crowd(20, "flaky")
    async with make_world(*flaky, *crowd(3, "live")).living() as world:
        for muted in (True, True, True, False, True):
            (mute if muted else unmute)(flaky)
            await world.pass_time(PING, deliver_until=0)
        await world.deliver(part)
        await world.sweep()
        assert not world.removals
        await world.deliver()
        await world.sweep()
        unmute(flaky)
        await world.sweep_and_ping(3)

        world.no_wrong_removals(0)


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_the_clock_jumps(make_world: MakeWorld, jump: float) -> None:
    """The companion's clock is set by an hour, and nobody is robbed of the grace for coming back.

    The dead go in the end, after a step back not before the hour is over.
    """
    roaming, dead, dropped = crowd(5, "roaming", transport="ws"), crowd(5, "dead"), crowd(5, "gone", transport="ws")
    async with make_world(*roaming, *dead, *dropped, *crowd(5, "live")).living() as world:
        mute(dead)
        await world.pings(LOST_AFTER - 1)
        await world.pass_time(PING - SETTLE - 1)
        for phone in (*roaming, *dropped):
            phone.drop_connection()
        await world.pass_time(0.5)
        world.clock_error = jump
        for _ in range(5):
            await world.pass_time(1)
            await world.sweep()
        assert not world.removals
        for phone in roaming:
            phone._dial_again()
        await world.pass_time(SETTLE)
        await world.sweep_and_ping(6)
        unaffected = {phone.aor for phone in roaming}
        assert unaffected <= world.registered()
        if jump < 0:
            for _ in range(int(HOUR / PING / 10)):
                await world.pings(10)
        await world.sweep_and_ping(3)

        assert unaffected <= world.registered()
        world.no_wrong_removals(len(dead) + len(dropped))


@pytest.mark.parametrize("change", ["a pause", "a gap", "a lost turn", "a silent feed"])
async def test_a_change_behind_the_look(make_world: MakeWorld, change: str) -> None:
    """What forbids to act forbids it also when it comes up between a look and its removal."""
    async with make_world(*crowd(3, "dead"), *crowd(2, "live")).living() as world:
        mute(world.phones[:3])
        await world.pings(LOST_AFTER)
        call, keys, now = world.store.connection.call, world.store.keys, round(world.clock() * 1000)

        def happen(method: str, _: Json) -> None:
            if method == "ul_show_contact" and change == "a pause":
                sweeps.pause(world.store, 60)
            elif method == "ul_show_contact" and change == "a lost turn":
                call("SET", keys.sweeper(), "another's")
            elif method == "ul_show_contact":
                field, value = ("steady_since", now) if change == "a gap" else ("heartbeat_at", now - 60_000)
                call("HSET", keys.node("opensips"), field, value)

        world.on_mi = happen
        await world.sweep()

        assert world.looks.total() == 1
        assert not world.outcomes()
        world.no_wrong_removals(0)


# Mass events


async def test_five_thousand(make_world: MakeWorld) -> None:
    """5,000 phones that lose a ping, or three, in the same second: nothing is removed.

    Not even by a sweep that comes when only a few hundred of the third losses are stored. The breaker opens, is seen,
    and closes when they answer again; then who is dead goes.
    """
    everyone, dead = crowd(5000), crowd(5, "dead")
    async with make_world(*everyone, *dead, breaker_share=0.2).living() as world:
        mute(everyone)
        await world.pings(1)
        await world.sweep()
        assert not world.breaker_is_open()
        unmute(everyone)
        await world.pings(1)
        mute([*everyone, *dead])
        await world.pings(LOST_AFTER - 1)
        await world.pass_time(PING - SETTLE / 2)
        await world.pass_time(SETTLE / 2, deliver_until=0.05)
        await world.sweep()
        assert world.breaker_is_open()
        await world.deliver()
        await world.sweep()
        assert "the breaker is open" in world.troubles()
        assert not world.looks
        unmute(everyone)
        await world.sweep_and_ping(1)
        assert world.breaker_is_open()
        await world.sweep_and_ping(3)

        assert not world.breaker_is_open()
        world.no_wrong_removals(len(dead))


# Races


async def test_back_before_the_look(make_world: MakeWorld) -> None:
    """A phone that registers the same URI again just before the look is left alone: a thousand times of a thousand."""
    everyone = crowd(1000)
    async with make_world(*everyone).living() as world:
        mute(everyone)
        await world.pings(LOST_AFTER)
        phones = {phone.aor: phone for phone in everyone}

        def come_back(method: str, params: Json) -> None:
            if method == "ul_show_contact":
                phones[params["aor"]].unmute()
                phones[params["aor"]].reregister()

        world.on_mi = come_back
        await world.sweep()

        assert len(world.looks) == 1000  # a look that took too long on a busy machine is asked for again
        assert world.outcomes() == {"came-back": 1000}
        world.no_wrong_removals(0)
        await world.sweep_and_ping(3)
        assert not world.removals


async def test_back_behind_the_look(make_world: MakeWorld) -> None:
    """What can not be closed: a phone that registers between look and removal goes with its old contact.

    OpenSIPS has no "remove if unchanged". The gap is the time between two requests; the phone is back at its next
    REGISTER.
    """
    everyone = crowd(100)
    async with make_world(*everyone).living() as world:
        mute(everyone)
        await world.pings(LOST_AFTER)
        phones = {phone.aor: phone for phone in everyone}

        def come_back(method: str, params: Json) -> None:
            if method == "ul_rm_contact":
                phones[params["aor"]].unmute()
                phones[params["aor"]].reregister()

        world.on_mi = come_back
        await world.sweep()
        world.on_mi = lambda *_: None

        wrong, waits = sum(live for _, live in world.removals), sorted(world.waits)
        print(
            f"wrong removals by a REGISTER between look and removal: {wrong} of {len(world.removals)}; "
            f"the gap: p50 {statistics.median(waits) * 1000:.1f} ms, max {waits[-1] * 1000:.1f} ms"
        )
        assert wrong == len(world.removals) == 100
        for phone in everyone:
            phone.reregister()
        await world.sweep_and_ping(3)
        assert len(world.registered()) == 100
        assert len(world.removals) == 100


# Redis and other companions


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(tmp_path / "redis") as redis:
        yield redis


@pytest.mark.parametrize("back_at_once", [True, False])
async def test_redis_restarts(make_world: MakeWorld, own_redis: EmbeddedRedis, back_at_once: bool) -> None:  # noqa: FBT001
    """Redis dies in the middle of a sweep: what was done is not done again, the rest follows when it is back."""
    dead = crowd(10, "dead")
    async with make_world(*dead, *crowd(5, "live"), server=own_redis).living() as world:
        mute(dead)
        await world.pings(LOST_AFTER)

        def restart(method: str, _: Json) -> None:
            if method == "ul_rm_contact" and len(world.removals) == 3:
                own_redis.kill()
                if back_at_once:
                    own_redis.start()

        world.on_mi = restart
        if back_at_once:
            await world.sweep()
        else:
            with pytest.raises(Unreachable):
                await world.sweep()
        world.on_mi = lambda *_: None
        await asyncio.to_thread(own_redis.start)
        for lock in (world.store.keys.sweeper(), world.store.keys.dump_lock("opensips")):
            world.store.connection.call("DEL", lock)  # its time is Redis' own, and runs out by itself
        await world.sweep_and_ping(3)

        world.no_wrong_removals(len(dead))
        assert len({aor for aor, _ in world.removals}) == len(dead)


class RemovalWatch(SimulatedOpenSIPS):
    """A simulated OpenSIPS that keeps who was removed, and whether that phone was alive."""

    def watch(self) -> list[tuple[str, bool]]:
        removals: list[tuple[str, bool]] = []
        command = self.mi._commands["ul_rm_contact"]

        def handle(params: Any) -> Any:
            binding = self.core.usrloc.find(params["aor"], params["contact"])
            owner = self.core._owners.get((params["aor"], params["contact"]))
            removals.append(
                (params["aor"], bool(binding and owner and owner.state is PhoneState.ON and not owner.muted))
            )
            return command.handler(params)

        self.mi._commands["ul_rm_contact"] = command._replace(handler=handle)
        return removals


def config_file(setup: Setup, opensips: SimulatedOpenSIPS, mi_timeout: float) -> Path:
    setup.tables["pings"] = {"interval": 0.4, "lost_after": LOST_AFTER}
    remediation = {"mode": "enforce", "sweep_interval": 0.2, "warm_up": 0.3, "max_per_sweep": 4, "breaker_share": 1.0}
    setup.tables["remediation"] = remediation
    path = setup.file()
    table = f'[[opensips]]\nnode = "opensips"\nmi_url = "{opensips.mi_url}"\nmi_timeout = {mi_timeout}\n'
    path.write_text(f"{path.read_text()}{table}")
    return path


@asynccontextmanager
async def companions(
    setup: Setup, opensips: RemovalWatch, mi_timeout: float, count: int
) -> AsyncIterator[list[Process]]:
    """Bridge and consumer here, so many schedulers in processes of their own; everybody has answered."""
    async with setup.running("bridge", "consumer"):
        expected = len(opensips.fleet)
        await eventually(lambda: sum(bool(page["last_latency_at"]) for page in setup.pages().values()) == expected)
        file = config_file(setup, opensips, mi_timeout)
        started = []
        try:
            for _ in range(count):
                started.append(Process(file, ("scheduler",)))  # noqa: PERF401 - those started must be ended
            yield started
        finally:
            for process in started:
                process.end()


def turns(setup: Setup) -> int:
    return int(setup.store.connection.call("GET", setup.store.keys.fence()) or 0)


async def test_two_companions(make_setup: MakeSetup) -> None:
    """Two companions that enforce remove each dead contact once, in turns; each action has its turn's number."""
    setup, dead = make_setup(), crowd(24, "dead")
    opensips = RemovalWatch("opensips", [*dead, *crowd(12, "live")], setup.udp, ping_interval=0.4, ping_threshold=0.1)
    async with opensips, companions(setup, opensips, 5, 2) as (first, second):
        removals = opensips.watch()
        await eventually(lambda: turns(setup) >= 6)
        for phone in dead:
            opensips.mute(phone)
        await eventually(lambda: len(removals) >= len(dead), 30)
        last = turns(setup)
        await eventually(lambda: turns(setup) >= last + 4)
        busy = [
            {line["device"] for line in process.log() if line["event"] == "remediation"} for process in (first, second)
        ]

    decisions = [entry for _, entry in audit.read(setup.store)]
    print(f"wrong removals: {sum(live for _, live in removals)} of {len(removals)}")
    assert Counter(aor for aor, _ in removals) == {phone.aor: 1 for phone in dead}
    assert not any(live for _, live in removals)
    assert [entry["result"] for entry in decisions] == ["removed"] * len(dead)
    fences = [entry["fence"] for entry in decisions]
    assert fences == sorted(fences)
    assert max(Counter(fences).values()) <= 4
    assert not busy[0] & busy[1]


async def test_a_companion_is_killed(make_setup: MakeSetup) -> None:
    """When the companion that sweeps is killed, the other one takes over within 15 s."""
    setup, dead = make_setup(), crowd(2, "dead")
    opensips = RemovalWatch("opensips", [*dead, *crowd(3, "live")], setup.udp, ping_interval=0.4, ping_threshold=0.1)
    async with opensips, companions(setup, opensips, 60, 1) as (first,):
        removals = opensips.watch()
        await eventually(lambda: turns(setup) >= 2)
        opensips.mi_server.fail(Fault.HANG)
        for phone in dead:
            opensips.mute(phone)
        await eventually(lambda: opensips.mi_server.is_busy)
        second = Process(setup.folder / "config.toml", ("scheduler",))
        try:
            await eventually(lambda: any(line["event"] for line in second.log()) or second.popen.poll() is None)
            first.kill()
            killed_at, last = time.monotonic(), turns(setup)
            opensips.mi_server.heal()
            await eventually(lambda: turns(setup) > last, 20)
            took = time.monotonic() - killed_at
            await eventually(lambda: len(removals) >= len(dead), 20)
        finally:
            second.end()

    print(f"taken over after {took:.1f} s; wrong removals: {sum(live for _, live in removals)} of {len(removals)}")
    assert took <= 15
    assert Counter(aor for aor, _ in removals) == {phone.aor: 1 for phone in dead}
    assert not any(live for _, live in removals)
