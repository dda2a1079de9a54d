"""Run everything at once with a fault every few seconds: `make soak MINUTES=30 SEED=1`. Exits with 1 when it failed.

Two Redis servers behind a proxy, three bridges, two consumers, two schedulers and the API with its dashboard run in
processes of their own. Two nodes send `rate` events a second, all of which are accounted for at the end. A third one
has phones that live, sleep, move and die, and tells whether a removed phone could be reached.
"""

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from companion import log
from companion.bus.envelope import HEARTBEAT, HEARTBEAT_SECONDS
from companion.store.nodes import load_feed
from tests.fake_clock import LIBRARY
from tests.soak.faults import FAULTS, Faults, is_chosen
from tests.soak.verdict import Finding, balance, judge
from tests.soak.waiting import wait_until
from tests.soak.watch import Watch
from tests.soak.world import LOADS, World

CALM_SECONDS: Final = 10.0
"""There is no fault at the beginning and at the end."""
RECOVERY_SECONDS: Final = 90.0
LONGEST_MINUTES: Final = 55.0
"""The clock is set by an hour: times of a longer run would meet those of before."""


def main() -> int:
    options = _parse_options()
    log.configure(level="error")
    logging.getLogger("companion.simulator.calls").disabled = True  # pages repeat what was refused
    if LIBRARY is None:
        print("no libfaketime here (apt-get install faketime): the faults of the clock are left out")
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        folder = Path(options.folder or made)
        folder.mkdir(parents=True, exist_ok=True)
        findings = uvloop.run(_run(options, folder))
    for finding in findings:
        print(f"{'good' if finding.is_good else 'BAD '}  {finding.name}")
        for figure in finding.figures:
            print(f"        {figure}")
    failed = [finding.name for finding in findings if not finding.is_good]
    print(f"seed {options.seed}: " + (f"FAILED: {'; '.join(failed)}" if failed else "passed"))
    return bool(failed)


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help=f"at most {LONGEST_MINUTES:g}")
    parser.add_argument("--seed", type=int, default=1, help="chooses the faults and their order")
    parser.add_argument("--rate", type=int, default=2000, help="events a second")
    parser.add_argument("--every", type=float, default=20.0, help="seconds from one fault to the next")
    parser.add_argument(
        "--only",
        default="",
        help=f"faults with one of these, A,B,…, in their names: {', '.join(f.name for f in FAULTS)}",
    )
    parser.add_argument("--folder", default="", help="keep logs and data there")
    options = parser.parse_args()
    if not any(is_chosen(fault, options.only) for fault in FAULTS):
        parser.error(f"no fault has {options.only!r} in its name")
    if not 0 < options.minutes <= LONGEST_MINUTES:
        parser.error(f"a run takes {LONGEST_MINUTES:g} minutes at most")
    return options


async def _run(options: argparse.Namespace, folder: Path) -> list[Finding]:
    world = World(folder, options.seed, options.rate)
    async with world.running():
        faults = Faults(world, options.every, options.only)
        watch = Watch(world, faults)
        watching = asyncio.create_task(watch.run())
        ends = time.monotonic() + options.minutes * 60 - CALM_SECONDS
        await asyncio.sleep(CALM_SECONDS)
        await faults.run(ends)
        await asyncio.sleep(max(0.0, ends - time.monotonic()) + CALM_SECONDS)
        ready = await _is_settled(world)
        watch.jobs.finish()
        balances = await asyncio.gather(*(asyncio.to_thread(balance, world, load) for load in world.loads))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await world.stop()
        return judge(world, watch, faults.spans, balances, ready=ready)


async def _is_settled(world: World) -> bool:
    """Wait until the companion is ready, then end the events and wait until all of them are stored."""
    is_ready = await _comes(world.is_ready, "a companion that is ready")
    await world.stop_events()
    await asyncio.sleep(2 * HEARTBEAT_SECONDS)
    return is_ready and await _comes(lambda: all(_is_stored(world, node) for node in LOADS), "the last event")


async def _comes(condition: Callable[[], bool], what: str) -> bool:
    """Return whether a condition comes true in time, and print what did not."""
    try:
        await wait_until(condition, RECOVERY_SECONDS, what)
    except TimeoutError as error:
        print(error)
        return False
    return True


def _is_stored(world: World, node: str) -> bool:
    feed, seqs = load_feed(world.store, node)
    run, published = world.tap.last_run(node)
    return feed.run == run and all(seqs.get(event, -1) >= seq for event, seq in published.items() if event != HEARTBEAT)


if __name__ == "__main__":
    sys.exit(main())
