"""What goes wrong in a run: one fault after the other, each healed before the next one begins."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import Final, NamedTuple

from companion.simulator.mi_server import Fault as MiFault
from tests.fake_clock import LIBRARY
from tests.soak.strangers import knock_with_wrong_key
from tests.soak.world import World

HOUR: Final = 3600
TEN_YEARS: Final = 315_360_000
PAST_LEASE_SECONDS: Final = 13.0
"""A lease lasts ten seconds: by then the standby has taken over."""
QUIET_SECONDS: Final = 0.7

Work = Callable[[World, Random], Awaitable[None]]


class Fault(NamedTuple):
    """Name a fault; `work` lets it begin, last and end."""

    name: str
    work: Work


class Span(NamedTuple):
    """Hold when a fault lasted, by the monotonic clock."""

    name: str
    since: float
    until: float


async def kill_active_consumer(world: World, chance: Random) -> None:
    consumer = await asyncio.to_thread(world.active_consumer)
    await consumer.kill(chance.uniform(1, 5))


async def freeze_consumer(world: World, chance: Random) -> None:
    consumer = await asyncio.to_thread(world.active_consumer)
    await consumer.freeze(chance.uniform(1, 6))


async def freeze_consumer_past_lease(world: World, _: Random) -> None:
    consumer = await asyncio.to_thread(world.active_consumer)
    await consumer.freeze(PAST_LEASE_SECONDS)


async def restart_consumer(world: World, chance: Random) -> None:
    await chance.choice(world.consumers()).restart(1)


async def kill_redis(world: World, chance: Random) -> None:
    await world.redis.kill(chance.uniform(1, 6))


async def freeze_redis(world: World, chance: Random) -> None:
    await world.redis.freeze(chance.uniform(3, 14))


async def fail_over(world: World, _: Random) -> None:
    await world.redis.fail_over()


async def change_password(world: World, chance: Random) -> None:
    await world.redis.change_password(chance.uniform(2, 8))


async def fill_redis(world: World, chance: Random) -> None:
    await world.redis.fill(chance.uniform(2, 8))


async def restart_bridge(world: World, chance: Random) -> None:
    await chance.choice(world.bridges()).restart(chance.uniform(0, 3))


async def kill_bridge(world: World, chance: Random) -> None:
    """Kill a bridge when all that it sent has arrived: of what a killed process still held nobody can know."""
    bridge = chance.choice(world.bridges())
    with world.quiet(bridge.name.removeprefix("bridge-")):
        await asyncio.sleep(QUIET_SECONDS)
        await bridge.kill(chance.uniform(0, 3))


async def kill_scheduler(world: World, chance: Random) -> None:
    await chance.choice(world.schedulers()).kill(chance.uniform(0, 3))


async def freeze_scheduler(world: World, chance: Random) -> None:
    await chance.choice(world.schedulers()).freeze(chance.uniform(3, 14))


async def freeze_api(world: World, chance: Random) -> None:
    await world.services["api"].freeze(chance.uniform(1, 6))
    world.readers.thawed_at = time.monotonic()


async def set_writers_clock(world: World, chance: Random) -> None:
    """Set the clock of bridges and consumers by an hour: so the times of a run never meet those of another step."""
    world.writers_clock.set(chance.choice((-HOUR, HOUR)))
    await asyncio.sleep(chance.uniform(5, 12))
    world.writers_clock.set(0)


async def set_readers_clock(world: World, chance: Random) -> None:
    """Set the clock of schedulers and API."""
    world.readers_clock.set(chance.choice((-HOUR, -60, 60, HOUR, TEN_YEARS)))
    await asyncio.sleep(chance.uniform(5, 12))
    world.readers_clock.set(0)


async def break_mi(world: World, chance: Random) -> None:
    server = world.phones.opensips.mi_server
    server.fail(chance.choice(list(MiFault)))
    await asyncio.sleep(chance.uniform(5, 12))
    server.heal()


async def restart_opensips(world: World, _: Random) -> None:
    world.phones.opensips.restart()


async def knock(world: World, chance: Random) -> None:
    await knock_with_wrong_key(tuple(world.publishers), world.server_key, chance.uniform(3, 8))


def _by_http(attack: str) -> Work:
    async def work(world: World, chance: Random) -> None:
        await getattr(world.http_strangers, attack)(chance.uniform(5, 12))

    return work


async def babble_on_bus(world: World, chance: Random) -> None:
    await world.bus_stranger.babble(chance.uniform(3, 10))


FAULTS: Final = (
    Fault("consumer killed", kill_active_consumer),
    Fault("consumer frozen", freeze_consumer),
    Fault("consumer frozen past its lease", freeze_consumer_past_lease),
    Fault("consumer restarted", restart_consumer),
    Fault("Redis killed", kill_redis),
    Fault("Redis frozen", freeze_redis),
    Fault("Redis failed over", fail_over),
    Fault("Redis password changed", change_password),
    Fault("Redis full", fill_redis),
    Fault("bridge restarted", restart_bridge),
    Fault("bridge killed", kill_bridge),
    Fault("scheduler killed", kill_scheduler),
    Fault("scheduler frozen", freeze_scheduler),
    Fault("API frozen", freeze_api),
    Fault("clock of the writers set", set_writers_clock),
    Fault("clock of the readers set", set_readers_clock),
    Fault("MI broken", break_mi),
    Fault("OpenSIPS restarted", restart_opensips),
    Fault("idle HTTP clients", _by_http("idle")),
    Fault("unfinished HTTP requests", _by_http("unfinished")),
    Fault("bad logins", _by_http("log_in_badly")),
    Fault("socket.io strangers", _by_http("poll_socket_io")),
    Fault("invented calls", _by_http("report_invented_calls")),
    Fault("nonsense on the bus", babble_on_bus),
    Fault("wrong CURVE key", knock),
)
_OF_THE_CLOCK: Final = {set_writers_clock, set_readers_clock}


class Faults:
    """Let one fault begin every `every` seconds, in an order that chance chooses."""

    def __init__(self, world: World, every: float, only: str = "") -> None:
        self.spans: list[Span] = []
        self.current = ""
        self._world = world
        self._every = every
        self._faults = [fault for fault in FAULTS if is_chosen(fault, only) and _is_possible(fault)]

    async def run(self, until: float) -> None:
        begin = time.monotonic()
        for fault in self._choose():
            if begin + self._every > until:
                return
            self.current = fault.name
            await fault.work(self._world, self._world.chance)
            self.current = ""
            self.spans.append(Span(fault.name, begin, time.monotonic()))
            begin = max(begin + self._every, time.monotonic())
            await asyncio.sleep(max(0.0, begin - time.monotonic()))

    def _choose(self) -> Iterator[Fault]:
        """Yield all faults by chance, then all again."""
        while True:
            yield from self._world.chance.sample(self._faults, len(self._faults))


def is_chosen(fault: Fault, only: str) -> bool:
    """Return whether its name has one of these parts, separated by commas."""
    return any(part.strip().lower() in fault.name.lower() for part in only.split(","))


def _is_possible(fault: Fault) -> bool:
    return LIBRARY is not None or fault.work not in _OF_THE_CLOCK
