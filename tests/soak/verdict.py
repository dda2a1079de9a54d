"""Judge a run: what was published and stored, the jobs, the memory, the logs, the removals and the answers."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from companion.opensips.events import DELETE, INSERT, LATENCY, UPDATE
from companion.services.scheduler import JOBS
from companion.store.nodes import load_feed
from companion.store.reading import read
from companion.store.records import prepare_records
from companion.text import Json
from companion.usrloc.contact import FOR_EVER
from tests.soak.faults import Span
from tests.soak.load import Load, Visit
from tests.soak.service import Rss, Service
from tests.soak.watch import Gap, Watch
from tests.soak.world import World

INTERVALS: Final = 3
SLACK_SECONDS: Final = 5.0
"""A job's run is seen up to a second late, and later when the machine is busy."""
WARM_UP_SECONDS: Final = 300.0
GROWTH_SHARE: Final = 0.10
GROWTH_BYTES: Final = 8 << 20
PROBE_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
"""Twice what is promised: the machine is shared with all that goes wrong."""
LINES: Final = 12
CHUNK: Final = 500


class Finding(NamedTuple):
    """Hold one judgement and the figures behind it."""

    name: str
    is_good: bool
    figures: list[str]


class Balance(NamedTuple):
    """Hold what one node published and what of it is stored, by event, and how many events were counted as missed.

    `traceless` are contacts that were deleted and of which nothing is stored, as neither of their registrations came:
    whether the E_UL_CONTACT_DELETE was taken, nobody can see.
    """

    node: str
    published: Counter[str]
    stored: Counter[str]
    missed: int
    traceless: int

    @property
    def is_exact(self) -> bool:
        """Return whether published = stored + counted as missed."""
        lost = self.published.total() - self.stored.total()
        return lost - self.traceless <= self.missed <= lost

    def describe(self) -> list[str]:
        published, stored = self.published, self.stored
        events = (
            f"{event} {published[event]:,} published = {stored[event]:,} stored + {published[event] - stored[event]:,}"
            for event in sorted(published)
        )
        return [*(f"{self.node}: {event}" for event in events), f"{self.node}: {self.missed:,} counted as missed"]


def balance(world: World, load: Load) -> Balance:
    """Count in the store what one load published. Blocking."""
    stored: Counter[str] = Counter()
    read, keys = world.store.series.read, world.store.keys
    for device in load.devices:
        stored[LATENCY] += len(read(world.store.connection, keys.latency(device), 0, FOR_EVER))
    stored[INSERT] += sum("registered_at" in record for _, record in _records(world, load, load.phones))
    traceless = 0
    for visit, record in _records(world, load, load.visits):
        traceless += not record and visit.contact.uri in world.tap.deleted
        stored[INSERT] += _has_insert(record)
        stored[UPDATE] += record.get("cseq") == 2
        stored[DELETE] += record.get("ended_by") == "unregistered"
    missed = load_feed(world.store, load.node)[0].missed
    return Balance(load.node, world.tap.count_published(load.node), stored, missed, traceless)


def _records(world: World, load: Load, visits: Sequence[Visit]) -> Iterator[tuple[Visit, Json]]:
    """Yield each visit with the stored record of its contact, {} where there is none."""
    for start in range(0, len(visits), CHUNK):
        part = visits[start : start + CHUNK]
        keys = [world.store.keys.contact(visit.contact.aor, visit.id(load.node)) for visit in part]
        records = read(world.store.connection, prepare_records(world.store, keys))
        yield from ((visit, json.loads(text or "{}")) for visit, text in zip(part, records, strict=True))


def _has_insert(record: Json) -> bool:
    """Return whether the first registration of a visit was stored: an E_UL_CONTACT_UPDATE alone leaves one time."""
    is_renewed = record.get("cseq") == 2
    return bool(record) and (not is_renewed or record["registered_at"] != record["last_register_at"])


def judge(
    world: World, watch: Watch, spans: Sequence[Span], balances: Sequence[Balance], *, ready: bool
) -> list[Finding]:
    services = list(world.services.values())
    removals = [f"{world.phones.removed} removals", *world.phones.wrong]
    return [
        _judge_balances(balances),
        _judge_jobs(watch, spans),
        _judge_memory(services, watch.began),
        _judge_logs(services),
        Finding("no wrong removal", not world.phones.wrong, removals),
        _judge_answers(world),
        Finding("ready at the end", ready, []),
        _judge_ends(services),
        Finding("nothing failed in the harness", not world.failures, world.failures),
    ]


def _judge_balances(balances: Sequence[Balance]) -> Finding:
    """Each event is stored or counted as missed; without any the run proves nothing."""
    is_exact = all(one.is_exact and one.stored for one in balances)
    return Finding("published = stored + missed", is_exact, [line for one in balances for line in one.describe()])


def _judge_jobs(watch: Watch, spans: Sequence[Span]) -> Finding:
    """Each job ran within three of its intervals, and the time of the faults meanwhile."""
    every = {job.name: job.every(watch.config) + job.jitter for job in JOBS}
    gaps = watch.jobs.gaps
    late = [gap for gap in gaps if seconds_late(gap, every[gap.job], spans) > 0]
    longest = {job: max((gap.seconds for gap in gaps if gap.job == job), default=0) for job in every}
    figures = [f"{job}: longest gap {seconds:.0f} s, interval {every[job]:g} s" for job, seconds in longest.items()]
    figures += [f"late: {gap.service} {gap.job} {gap.seconds:.0f} s at {gap.since - watch.began:.0f} s" for gap in late]
    never = [f"never ran: {job}" for job in watch.jobs.never_ran()]
    return Finding("every job ran", not late and not never, [*never, *figures])


def seconds_late(gap: Gap, interval: float, spans: Sequence[Span]) -> float:
    """Return by how many seconds a job ran later than it may, given the faults; negative when it did not."""
    faulty = sum(max(0.0, min(gap.until, span.until) - max(gap.since, span.since)) for span in spans)
    return gap.seconds - INTERVALS * interval - faulty - SLACK_SECONDS


def _judge_memory(services: Sequence[Service], began: float) -> Finding:
    """Memory is flat when the median of the last third is no more than a tenth and 8 MB above that of the first third.

    The services of a kind are judged together, over all their lives: they swap roles, and one that stands by keeps
    messages beside what it needed before. The thirds are those after the warm-up; the same faults come in each.
    """
    kinds = dict.fromkeys(service.kind for service in services)
    sizes = {kind: [sample for one in services if one.kind == kind for sample in one.rss] for kind in kinds}
    medians = {kind: find_medians(samples, began) for kind, samples in sizes.items()}
    grown = [kind for kind, pair in medians.items() if has_grown(*pair)]
    figures = [f"{kind}: {first / 1e6:.0f} MB, then {last / 1e6:.0f} MB" for kind, (first, last) in medians.items()]
    return Finding("memory is flat", not grown, [*figures, *(f"grown: {kind}" for kind in grown)])


def has_grown(first: float, last: float) -> bool:
    """Return whether a size is far above the first one; 0 is none."""
    return first > 0 and last > first * (1 + GROWTH_SHARE) + GROWTH_BYTES


def find_medians(samples: Sequence[Rss], began: float) -> tuple[float, float]:
    """Return the median of the first and of the last third after the warm-up. A short run has none: (0, 0)."""
    end = max((sample.at for sample in samples), default=began)
    if end - began <= 2 * WARM_UP_SECONDS:
        return 0.0, 0.0
    since = began + WARM_UP_SECONDS
    third = (end - since) / 3
    first = [sample.size for sample in samples if since <= sample.at <= since + third]
    last = [sample.size for sample in samples if sample.at >= end - third]
    return statistics.median(first or [0]), statistics.median(last or [0])


def _judge_logs(services: Sequence[Service]) -> Finding:
    """There is no traceback in any log."""
    kinds: Counter[str] = Counter()
    warnings: defaultdict[str, int] = defaultdict(int)
    for service in services:
        for line in service.log_file.read_text(errors="replace").splitlines():
            if "Traceback (most recent" in line:
                kinds[f"{service.kind}: {_summarise(line)}"] += 1
            elif '"level": "error"' in line:
                warnings[f"{service.kind}: {_summarise(line)}"] += 1
    tracebacks = [f"{count} × {kind}" for kind, count in kinds.most_common(LINES)]
    errors = [f"error without traceback: {count} × {kind}" for kind, count in sorted(warnings.items())[:LINES]]
    return Finding("no traceback", not kinds, [f"{kinds.total()} tracebacks", *tracebacks, *errors])


def _summarise(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line[:160]
    last = str(entry.get("exception", "")).strip().splitlines()[-1:]
    return f"{entry.get('event')}: {last[0][:160] if last else entry.get('error', '')}"


def _judge_answers(world: World) -> Finding:
    """No answer is 500; probes and answers come in time."""
    statuses, slowest = world.readers.answers.statuses, world.readers.answers.slowest
    broken = {f"broken: {path}" for path, counts in statuses.items() if any(_is_broken(status) for status in counts)}
    slow = {f"slow: {path}" for path, seconds in slowest.items() if seconds > _limit_seconds(path)}
    figures = [f"{path}: {dict(counts)}, slowest {slowest[path]:.1f} s" for path, counts in sorted(statuses.items())]
    streams = f"{world.readers.streamed:,} events streamed, {world.readers.page_messages:,} messages to pages"
    return Finding("answers in time, none 500", not broken and not slow, [*figures, streams, *sorted(broken | slow)])


def _is_broken(status: str) -> bool:
    return status.startswith("5") and status != "503"


def _limit_seconds(path: str) -> float:
    return ANSWER_SECONDS if path.startswith("/api") else PROBE_SECONDS


def _judge_ends(services: Sequence[Service]) -> Finding:
    ends = [end for service in services for end in service.unexpected_ends]
    return Finding("no service ended by itself", not ends, ends)
