"""Give random input to every parser: `make fuzz COUNT=1000000`. Exits with 1 at a crash, and names what made it.

Each input has a number of its own: `--first N --count 1` makes the same one again.
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import accumulate
from random import Random
from typing import Final, NamedTuple

from companion import log
from tests.fuzz.targets import TARGETS, Target
from tests.fuzz.web import WebFuzz

CHUNK: Final = 10_000
SLOW_SECONDS: Final = 2.0
"""An input that takes longer is a finding, too."""
MAX_CRASHES: Final = 20
WEB_SHARE: Final = 50
"""One input of so many goes to the HTTP application."""


class Chunk(NamedTuple):
    """Hold what came of some inputs: how many each target answered and refused, and the crashes as text."""

    answered: Counter[str]
    refused: Counter[str]
    crashes: list[str]


def run_chunk(first: int, count: int, *, web: bool = True) -> Chunk:
    """Give inputs number `first` and so on to the parsers, each to one of them."""
    log.configure(level="error")
    chunk = Chunk(Counter(), Counter(), [])
    totals = list(accumulate(target.weight for target in TARGETS))
    for number in range(first, first + count):
        random = Random(number)
        target = random.choices(TARGETS, cum_weights=totals)[0]
        run_one(target, random, number, chunk)
    if web:
        with WebFuzz() as fuzz:
            for number in range(first, first + count // WEB_SHARE):
                run_one(fuzz.target, Random(number), number, chunk)
    return chunk


def run_one(target: Target, random: Random, number: int, chunk: Chunk) -> None:
    """Give one input to a target, and note what came of it."""
    payload = target.make(random)
    started = time.process_time()
    try:
        target.read(payload)
    except target.errors:
        chunk.refused[target.name] += 1
    except Exception:  # noqa: BLE001 - this is what is looked for
        chunk.crashes.append(f"{target.name}, input {number}: {payload!r:.500}\n{traceback.format_exc(limit=-4)}")
    else:
        chunk.answered[target.name] += 1
    if (seconds := time.process_time() - started) > SLOW_SECONDS:
        chunk.crashes.append(f"{target.name}, input {number} took {seconds:.1f} s: {payload!r:.500}")


def main() -> int:
    options = _parse_arguments()
    deadline, total = time.monotonic() + options.seconds, Chunk(Counter(), Counter(), [])
    with ProcessPoolExecutor(options.processes) as pool:
        for chunk in _run(pool, options, deadline):
            total.answered.update(chunk.answered)
            total.refused.update(chunk.refused)
            total.crashes.extend(chunk.crashes)
            done = total.answered.total() + total.refused.total() + len(total.crashes)
            print(
                *chunk.crashes, f"{done:,} inputs, {len(total.crashes)} crashes", sep="\n", file=sys.stderr, flush=True
            )
            if len(total.crashes) >= MAX_CRASHES:
                break
        pool.shutdown(cancel_futures=True)
    return _summarise(total)


def _run(pool: ProcessPoolExecutor, options: argparse.Namespace, deadline: float) -> Iterator[Chunk]:
    """Run the chunks, as long as there is time."""
    starts = range(options.first, options.first + options.count, CHUNK)
    jobs = [pool.submit(run_chunk, start, min(CHUNK, options.first + options.count - start)) for start in starts]
    for job in as_completed(jobs):
        yield job.result()
        if time.monotonic() > deadline:
            print("the time is over", file=sys.stderr)
            return


def _summarise(total: Chunk) -> int:
    for name in sorted({*total.answered, *total.refused}):
        print(f"{name:<24} {total.answered[name]:>10,} answered {total.refused[name]:>10,} refused")
    print(f"{total.answered.total() + total.refused.total():,} inputs, {len(total.crashes)} crashes")
    return bool(total.crashes)


def _parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description="Give random input to every parser.")
    parser.add_argument("--count", type=int, default=100_000, help="how many inputs (%(default)s)")
    parser.add_argument(
        "--first", type=int, default=0, help="the number of the first one: the same one is the same again"
    )
    parser.add_argument("--seconds", type=float, default=3600, help="begin nothing new after this time (%(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
