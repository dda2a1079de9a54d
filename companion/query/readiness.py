"""Decide from facts whether the companion does all of its work, and name each reason why not. No I/O."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from companion.store.consumers import ConsumerReport
from companion.store.jobs import JobRun
from companion.store.nodes import Feed
from companion.store.redis_errors import DISK, FULL, REPLICA
from companion.store.server import ServerState
from companion.text import times
from companion.times import MINUTE_MS, SECOND_MS, format_seconds

REASONS: Final = (
    "redis-away",
    "store-format",
    "redis-refuses",
    "redis-evicts",
    "no-consumer",
    "bus-refused",
    "no-bridge",
    "feed-silent",
    "events-lost",
    "events-refused",
    "consumer-behind",
    "no-scheduler",
    "job-late",
)
"""Every reason that there is; docs/operations.md says of each what to do."""

REPORT_MS: Final = 15 * SECOND_MS
"""A consumer reports every two seconds; one that has not for so long does not run, or can not write."""
RECENT_MS: Final = MINUTE_MS
"""So long a loss, a refusal or a lag is a reason. It ends by itself, and does not come and go with each event."""
EVICTED_MS: Final = 10 * MINUTE_MS
"""So long an eviction is a reason: what was evicted is missing for longer."""
MISSED_INTERVALS: Final = 3
JOB_FLOOR_MS: Final = 10 * SECOND_MS
"""A job with an interval of a second may well be late by three of them."""


class Reason(NamedTuple):
    """Hold the name of a reason, one of REASONS, and a text for people."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Hold what readiness depends on. Times are epoch ms, 0 = never.

    `server` is None where Redis does not tell. `evicted_at`: when Redis was last seen to evict keys.
    `format_error`: why the data in Redis can not be read, "" if it can.
    """

    now: int
    feeds: Mapping[str, Feed] = field(default_factory=dict)
    consumers: Mapping[str, ConsumerReport] = field(default_factory=dict)
    jobs: Mapping[str, JobRun] = field(default_factory=dict)
    server: ServerState | None = None
    evicted_at: int = 0
    format_error: str = ""

    def is_recent(self, at: int, within_ms: int) -> bool:
        """Return whether a time is near now, on either side: the clocks of machines differ, and may be set."""
        return bool(at) and abs(self.now - at) <= within_ms


def find_reasons(situation: Situation) -> list[Reason]:
    """Return every reason, causes before what follows from them."""
    return [
        *_check_server(situation),
        *_check_consumers(situation),
        *_check_feeds(situation),
        *_check_jobs(situation),
    ]


def _check_server(situation: Situation) -> Iterator[Reason]:
    if situation.format_error:
        yield Reason("store-format", situation.format_error)
    if situation.is_recent(situation.evicted_at, EVICTED_MS):
        seconds = format_seconds(abs(situation.now - situation.evicted_at) // SECOND_MS)
        policy = (
            f" (maxmemory-policy {situation.server.policy})" if situation.server and situation.server.policy else ""
        )
        yield Reason("redis-evicts", f"Redis evicted keys {seconds} ago{policy}: devices vanish; set noeviction")


def _check_consumers(situation: Situation) -> Iterator[Reason]:
    fresh = _fresh_consumers(situation)
    if not fresh:
        yield _explain_no_consumer(situation.server)
        return
    for error in sorted({report.error for report in fresh if report.error}):
        yield Reason("redis-refuses", f"Redis does not take the events: {error}")
    refused = {endpoint: why for report in fresh for endpoint, why in report.refused.items()}
    for endpoint, why in sorted(refused.items()):
        yield Reason("bus-refused", f"no events from {endpoint}: {why}")
    if any(situation.is_recent(report.behind_at, RECENT_MS) for report in fresh):
        yield Reason("consumer-behind", "the consumer lies behind: events waited for more than ten seconds")


def _fresh_consumers(situation: Situation) -> list[ConsumerReport]:
    return [report for report in situation.consumers.values() if situation.is_recent(report.at, REPORT_MS)]


def _explain_no_consumer(server: ServerState | None) -> Reason:
    """Return why no consumer reports: Redis may not take what it writes."""
    if server and server.is_replica:
        return Reason("redis-refuses", f"Redis takes no writes: {REPLICA}")
    if server and server.is_full:
        return Reason("redis-refuses", f"Redis is full and takes no writes: {FULL}")
    if server and not server.can_save:
        return Reason("redis-refuses", f"Redis takes no writes: {DISK}")
    return Reason("no-consumer", "no consumer has reported within 15 s: is one running, and may it write?")


def _check_feeds(situation: Situation) -> Iterator[Reason]:
    """Check the feeds. Without a consumer they are all silent; that is no reason of its own."""
    fresh = _fresh_consumers(situation)
    if not situation.feeds and not any(report.refused for report in fresh):
        yield Reason("no-bridge", "no bridge has been heard of: is one running?")
    for feed in situation.feeds.values():
        if fresh and not feed.is_alive(situation.now):
            yield Reason("feed-silent", f"the feed of node {feed.node} is silent")
        if situation.is_recent(feed.lost_at, RECENT_MS):
            yield Reason("events-lost", f"events of node {feed.node} were lost within the last minute")
        if situation.is_recent(feed.refused_at, RECENT_MS):
            text = f"events of node {feed.node} were refused within the last minute: {feed.refused_why}"
            yield Reason("events-refused", text)


def _check_jobs(situation: Situation) -> Iterator[Reason]:
    """Check that each job did its work within three of its intervals, and the time that it takes."""
    late = sorted(name for name, run in situation.jobs.items() if not situation.is_recent(run.at, _limit_ms(run)))
    if len(late) == len(situation.jobs):
        yield Reason("no-scheduler", "no job has run: is a scheduler running?")
    elif late:
        yield Reason("job-late", f"{times(len(late), 'job')} did not run for three intervals: {', '.join(late)}")


def _limit_ms(run: JobRun) -> int:
    return max(JOB_FLOOR_MS, round(MISSED_INTERVALS * (run.every_seconds + run.seconds) * 1000))
