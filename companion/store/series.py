"""Store the pings of each device, in one of two engines that give the same answers.

`timeseries` needs the RedisTimeSeries module (Redis 8, Redis Stack), `streams` plain Redis 6.2 or Valkey. Each device
has two series: latencies in ms, and lost pings, whose value is the number of the contact that lost them.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Final, Literal, NamedTuple

from companion import metrics
from companion.store.connection import Command, Connection, ResponseError
from companion.store.keys import Keys
from companion.store.reading import Reading, check, read

Kind = Literal["latency", "lost"]
Point = tuple[int, int]
"""(epoch ms, value)"""
Row = tuple[str, int, int]
"""(key, epoch ms, value)"""


class Aggregate(NamedTuple):
    """Hold the lowest, the sum, the highest and the number of values in a bucket from `start` (epoch ms) on."""

    start: int
    least: int
    total: int
    most: int
    points: int


MADD_ROWS: Final = 256
CHUNK_BYTES: Final[dict[Kind, int]] = {"latency": 512, "lost": 128}
"""A series costs its first chunk at once. Small chunks cost more a sample: with 512 bytes a week costs 5 % more than
with 4,096, with 256 bytes 20 %, with 128 bytes 47 %."""


class Series(ABC):
    """Store and read samples. `commands` and `settle` are the two halves of a write around one pipeline."""

    name: str

    def __init__(self, retention_ms: int, ttl_ms: int, keys: Keys) -> None:
        self._retention_ms = retention_ms
        self._ttl_ms = ttl_ms
        self._keys = keys

    @abstractmethod
    def commands(self, rows: Sequence[Row]) -> list[Command]:
        """Return the commands that store these rows."""

    def settle(self, connection: Connection, kind: Kind, rows: Sequence[Row], replies: Sequence[Any]) -> None:
        """Check the replies to `commands(rows)`: repair what can be repaired, count the rest."""
        del connection, rows
        _count(kind, replies)

    @abstractmethod
    def prepare_points(self, key: str, since: int, until: int) -> Reading[list[Point]]:
        """Prepare to read all points from `since` to `until`, both included, oldest first."""

    def read(self, connection: Connection, key: str, since: int, until: int) -> list[Point]:
        """Return all points from `since` to `until`, both included, oldest first."""
        return read(connection, self.prepare_points(key, since, until))

    @abstractmethod
    def aggregates(self, connection: Connection, key: str, since: int, until: int, bucket_ms: int) -> list[Aggregate]:
        """Return the points as `aggregate` does; a server that can aggregate need not send them all."""


def aggregate(points: Iterable[Point], bucket_ms: int) -> list[Aggregate]:
    """Put points, oldest first, in buckets of one width that begin at its multiples; empty ones are left out."""
    buckets = groupby(points, lambda point: point[0] // bucket_ms * bucket_ms)
    return [_aggregate(start, [value for _, value in group]) for start, group in buckets]


def _aggregate(start: int, values: Sequence[int]) -> Aggregate:
    return Aggregate(start, min(values), sum(values), max(values), len(values))


class TimeSeries(Series):
    """Use RedisTimeSeries: TS.MADD of many series at once; integer ms cost 3.3 bytes a sample."""

    name = "timeseries"

    def commands(self, rows: Sequence[Row]) -> list[Command]:
        return [("TS.MADD", *chain.from_iterable(part)) for part in self._parts(rows)]

    def settle(self, connection: Connection, kind: Kind, rows: Sequence[Row], replies: Sequence[Any]) -> None:
        if all(type(reply) is list and set(map(type, reply)) == {int} for reply in replies):
            metrics.STORED.labels(kind).inc(len(rows))
            return
        outcomes = self._outcomes(rows, replies)
        keyless = [row for row, outcome in outcomes if _is_keyless(outcome)]
        _count(kind, [outcome for _, outcome in outcomes if not _is_keyless(outcome)])
        if keyless:
            self._create(connection, kind, sorted({key for key, _, _ in keyless}))
            replies = connection.pipeline(self.commands(keyless), raise_on_error=False)
            _count(kind, [outcome for _, outcome in self._outcomes(keyless, replies)])

    def _create(self, connection: Connection, kind: Kind, keys: Sequence[str]) -> None:
        options = ("RETENTION", self._retention_ms, "CHUNK_SIZE", CHUNK_BYTES[kind], "DUPLICATE_POLICY", "LAST")
        commands: list[Command] = []
        for key in keys:
            commands += ("TS.CREATE", key, *options), ("PEXPIRE", key, self._ttl_ms)
        connection.pipeline(commands, raise_on_error=False)

    def _parts(self, rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
        """Return the rows that one command takes: of one shard."""
        for own in self._by_shard(rows):
            for start in range(0, len(own), MADD_ROWS):
                yield own[start : start + MADD_ROWS]

    def _by_shard(self, rows: Sequence[Row]) -> Iterable[Sequence[Row]]:
        if self._keys.shards == 1:
            return [rows]
        shards: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            shards[self._keys.shard_of(row[0])].append(row)
        return shards.values()

    def _outcomes(self, rows: Sequence[Row], replies: Sequence[Any]) -> list[tuple[Row, Any]]:
        """Pair each row with its own reply; a command that failed whole failed for each of its rows."""
        outcomes: list[tuple[Row, Any]] = []
        for part, reply in zip(self._parts(rows), replies, strict=True):
            outcomes += zip(part, reply if isinstance(reply, list) else [reply] * len(part), strict=True)
        return outcomes

    def prepare_points(self, key: str, since: int, until: int) -> Reading[list[Point]]:
        return Reading([("TS.RANGE", key, max(0, since), max(0, until))], _make_points)

    def aggregates(self, connection: Connection, key: str, since: int, until: int, bucket_ms: int) -> list[Aggregate]:
        """Send four TS.RANGE in one transaction, so that all four numbers are of the same points.

        One TS.RANGE takes one aggregator.
        """
        options = [("ALIGN", 0, "AGGREGATION", name, bucket_ms) for name in ("min", "sum", "max", "count")]
        replies = self._ranges(connection, key, since, until, options)
        starts = [start for start, _ in replies[0]]
        columns = [[int(float(value)) for _, value in rows] for rows in replies]
        return list(map(Aggregate._make, zip(starts, *columns, strict=True)))

    def _ranges(
        self, connection: Connection, key: str, since: int, until: int, options: Sequence[Command]
    ) -> list[list[Any]]:
        """Return the reply of TS.RANGE with each of these options; empty lists where there is no such series."""
        commands = [("TS.RANGE", key, max(0, since), max(0, until), *own) for own in options]
        try:
            return connection.pipeline(commands, one_moment=True)
        except ResponseError as error:
            if _is_keyless(error):
                return [[] for _ in options]
            raise


class Streams(Series):
    """Use plain Redis streams: one XADD a sample with the time as its id; 23 bytes a sample."""

    name = "streams"

    def commands(self, rows: Sequence[Row]) -> list[Command]:
        return [
            ("XADD", key, "MINID", "~", max(0, ts - self._retention_ms), f"{ts}-0", "v", value)
            for key, ts, value in rows
        ]

    def prepare_points(self, key: str, since: int, until: int) -> Reading[list[Point]]:
        return Reading([("XRANGE", key, max(0, since), max(0, until))], _make_points_of_entries)

    def aggregates(self, connection: Connection, key: str, since: int, until: int, bucket_ms: int) -> list[Aggregate]:
        """Read all points and aggregate them here: plain Redis can not."""
        return aggregate(self.read(connection, key, since, until), bucket_ms)


def detect(connection: Connection) -> type[Series]:
    """Return TimeSeries where the server has its commands, else Streams."""
    return TimeSeries if any(connection.call("COMMAND INFO", "TS.MADD")) else Streams


def _make_points(replies: Sequence[Any]) -> list[Point]:
    (rows,) = replies
    return [] if _is_keyless(rows) else [(ts, int(float(value))) for ts, value in check(rows)]


def _make_points_of_entries(replies: Sequence[Any]) -> list[Point]:
    (rows,) = replies
    return [(int(entry.partition("-")[0]), int(value)) for entry, (_, value) in check(rows)]


def _is_keyless(outcome: Any) -> bool:
    """Return whether there is no such series, which TS.MADD of TimeSeries 1.12 calls "not a TSDB key"."""
    return isinstance(outcome, Exception) and str(outcome).endswith(("key does not exist", "is not a TSDB key"))


def _count(kind: Kind, outcomes: Sequence[Any]) -> None:
    refused = [str(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    for error in refused:
        older = "equal or smaller" in error or "older than retention" in error
        metrics.REFUSED.labels("older" if older else "redis").inc()
    metrics.STORED.labels(kind).inc(len(outcomes) - len(refused))
