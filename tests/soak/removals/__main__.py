"""Run many seeds: `make soak-removals SEEDS=500 SWEEPS=200`. Exits with 1 after a wrong removal, and names its seed."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from companion import log
from companion.simulator.redis import EmbeddedRedis
from tests.soak.removals.companion import SoakReport, run_seed

CHUNK = 10


def main() -> int:
    parser = argparse.ArgumentParser(description="Live through random faults and check every removal.")
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--sweeps", type=int, default=200, help="sweeps of a seed")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    reports: list[SoakReport] = []
    with ProcessPoolExecutor(options.processes) as pool:
        jobs = [pool.submit(_run, chunk, options.sweeps) for chunk in chunks]
        for job in as_completed(jobs):
            reports += job.result()
            wrong_so_far = sum(len(report.wrong) for report in reports)
            print(f"{len(reports)} of {len(seeds)} seeds, {wrong_so_far} wrong removals", file=sys.stderr, flush=True)
    return _summarise(reports)


def _summarise(reports: list[SoakReport]) -> int:
    wrong = [report for report in reports if report.wrong]
    calm = [report for report in reports if report.seed % 5 == 0]
    print(f"{len(reports)} seeds, {sum(report.sweeps for report in reports)} sweeps")
    print(f"{sum(report.removed for report in reports)} removals, {sum(len(report.wrong) for report in wrong)} wrong")
    removed, left = sum(report.removed for report in calm), sum(report.left for report in calm)
    print(f"without faults: {removed} dead contacts removed, {left} left: {removed / max(1, removed + left):.1%} gone")
    for report in wrong:
        print(f"seed {report.seed}: {report.wrong}")
    return bool(wrong)


def _run(seeds: Iterable[int], sweeps: int) -> list[SoakReport]:
    log.configure(level="error")
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), persistent=False) as server:
        return [asyncio.run(run_seed(seed, server.url, sweeps=sweeps)) for seed in seeds]


if __name__ == "__main__":
    sys.exit(main())
