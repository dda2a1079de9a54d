"""Kill a master of a Redis Cluster under load: `python -m tests.soak.cluster`. Exits with 1 when a sample is missing.

A consumer and the API run in processes of their own. Each kill has a Cluster of its own. It prints after how long the
replica was the master, after how long from then on the API answered again, and how many samples are missing in the end.
With `--move` a slot with a sixty-fourth of the devices moves to another master instead.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx2

from companion.query.devices import iterate_devices
from companion.simulator.redis import find_free_port
from companion.store.connection import Unreachable
from companion.store.redis_errors import RedisError
from companion.store.slots import slot_of
from companion.times import now_ms
from tests.integration.conftest import Feeder, Setup
from tests.integration.redis_cluster import RedisCluster, redis_cluster

SECONDS: Final = 120.0
PHONES: Final = 3000
FORGETFUL: Final = """
from companion.consumer.rewind import Rewind
Rewind.batches = lambda self: [prepared for _, _, prepared in list(self._kept)[-2:]]
"""
"""What a consumer does that keeps no batches but the one that is refused and the next."""


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.soak.cluster", description=__doc__)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", type=int, default=5000, help="events a second")
    parser.add_argument("--cut-off", type=float, default=0.0, help="seconds without replication before each kill")
    parser.add_argument("--move", action="store_true", help="move a slot in place of each kill")
    parser.add_argument("--no-rewind", action="store_true", help="write nothing again, to see what that would lose")
    options = parser.parse_args()
    missing = 0
    for number in range(options.kills):
        with tempfile.TemporaryDirectory(prefix="cluster-") as made, redis_cluster(Path(made)) as cluster:
            missing += asyncio.run(_run(cluster, Path(made), options, number))
    print(f"{missing} samples missing in all")
    return bool(missing) and not options.no_rewind


async def _run(cluster: RedisCluster, folder: Path, options: argparse.Namespace, number: int) -> int:
    """Kill one master; return how many samples are missing."""
    setup = Setup(
        cluster, folder, consumer={"batch_ms": 100}, api={"dashboard": False, "listen": f"127.0.0.1:{find_free_port()}"}
    )
    own = cluster.owner(slot_of(setup.store.keys.node("opensips")))
    victim = cluster.masters.index([one for one in cluster.masters if one is not own][number % 2])
    (folder / "sitecustomize.py").write_text(FORGETFUL if options.no_rewind else "")
    with setup.process("api"), setup.process("consumer", PYTHONPATH=f"{folder}:."):
        async with Feeder(setup, per_second=options.rate, phones=PHONES) as feeder:
            await _until(lambda: _events_done(setup) > 3 * options.rate)
            if options.move:
                await asyncio.to_thread(_move, setup, cluster, number)
            else:
                await _kill(setup, cluster, victim, options.cut_off)
            killed_at = feeder.published
            await _until(lambda: _events_done(setup) > killed_at + 5 * options.rate)
            await feeder.pause()
            await _until(lambda: _events_done(setup) == feeder.published)
            missing = feeder.published - _count_samples(setup)
            feed = setup.feed()
            print(
                f"{feeder.published} events, {missing} samples missing, {feed.missed} lost on the bus, "
                f"a loss of Redis {'noticed' if feed.lost_at else 'not noticed'}",
                flush=True,
            )
    setup.store.close()
    return missing


async def _kill(setup: Setup, cluster: RedisCluster, victim: int, cut_off_seconds: float) -> None:
    url = f"http://{setup.config.api.listen}/api/v1/devices?limit=200"
    async with httpx2.AsyncClient(timeout=5) as client:
        await _until_answered(client, url)
        if cut_off_seconds:
            cluster.cut_off(victim)
            await asyncio.sleep(cut_off_seconds)
        cluster.masters[victim].kill()
        killed_at = time.monotonic()
        await _until(cluster.replicas[victim].is_master)
        promoted_at = time.monotonic()
        await _until_answered(client, url)
    seconds = promoted_at - killed_at, time.monotonic() - promoted_at
    print(f"promoted after {seconds[0]:.1f} s, the API answers {seconds[1]:.1f} s later", flush=True)


def _move(setup: Setup, cluster: RedisCluster, number: int) -> None:
    slot, began = slot_of(setup.store.keys.devices(number)), time.monotonic()
    source = cluster.owner(slot)
    keys = source.call("CLUSTER COUNTKEYSINSLOT", slot)
    cluster.move_slot(slot, next(server for server in cluster.masters if server is not source))
    print(f"a slot of {keys} keys moved in {time.monotonic() - began:.1f} s", flush=True)


async def _until_answered(client: httpx2.AsyncClient, url: str) -> None:
    async with asyncio.timeout(SECONDS):
        while not await _answers(client, url):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


async def _answers(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def _count_samples(setup: Setup) -> int:
    """Return how many pings are stored. Their times run ahead of the clock: there is one a millisecond."""
    store, ends_at = setup.store, 2 * now_ms()
    devices = [device.id for device in iterate_devices(store)]
    return sum(len(store.series.read(store.connection, store.keys.latency(one), 0, ends_at)) for one in devices)


def _events_done(setup: Setup) -> int:
    try:
        return setup.events_done()
    except (RedisError, *Unreachable):
        return 0


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - the condition is anything, not an event
            await asyncio.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
