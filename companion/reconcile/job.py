"""Decide when to compare a node with the store: at start, where events may be missing, and every few hours."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from companion import log
from companion.config import Config, OpensipsSection
from companion.errors import MiError, UsageError
from companion.opensips.mi import Mi, open_mi
from companion.reconcile.comparison import DUMP_SECONDS, reconcile
from companion.reconcile.result import Reconciliation
from companion.store.leases import select_leased
from companion.store.locks import acquire_dump_lock
from companion.store.nodes import Feed, load_feed, load_feeds
from companion.store.reconciliations import load_reconciliation, save_reconciliation
from companion.store.store import Store
from companion.times import now_ms

EVERY_SECONDS: Final = 15.0
PAUSE_MS: Final = 60_000
PAUSE_FACTOR: Final = 10
"""A dump slows OpenSIPS down: the next one waits this many times as long as the last one took."""
RESTARTED_MS: Final = 5_000
"""How exactly an up time tells when OpenSIPS started, given two clocks."""
AHEAD_MS: Final = 10_000
"""A last comparison further in the future was at no time that we can count from."""
LOCKED: Final = "another companion is comparing it, or is removing a contact of it: try again"
LOCK_SECONDS: Final = DUMP_SECONDS + 120

logger = log.get(__name__)


@dataclass(frozen=True, slots=True)
class LastReconciliation:
    """Hold the last comparison of a node: when, the feed and OpenSIPS of that time, and how often it failed since."""

    at: int = 0
    run: int = 0
    steady_since: int = 0
    up_since: int = 0
    seconds: float = 0.0
    failures: int = 0
    result: str = ""

    def pause_ms(self, every_ms: int) -> int:
        """Return how long the next comparison waits: longer after failures and after a long dump."""
        longest = max(PAUSE_MS << min(self.failures, 12), round(1000 * PAUSE_FACTOR * self.seconds))
        return min(longest, max(every_ms, PAUSE_MS))


def explain_due(last: LastReconciliation, feed: Feed, up_since: int, every_ms: int, now: int) -> str:
    """Return why a node is to be compared now, "" when it is not. All times are epoch ms."""
    if not last.at:
        return "it was never compared"
    if last.at > now + AHEAD_MS:
        return "the clock was set back"
    if now - last.at < last.pause_ms(every_ms):
        return ""
    reasons = {
        "the last time failed": last.failures > 0,
        "the bridge was started": feed.run != last.run,
        "events may be missing": feed.steady_since != last.steady_since,
        "OpenSIPS was started": up_since > last.up_since + RESTARTED_MS,
        "the last time was long ago": now - last.at >= every_ms,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


class Reconciler:
    """Compare each node that has an `[[opensips]]` table and a recorder, when it is due."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._started: set[str] = set()
        self._episodes = log.Episodes(logger)

    async def run(self) -> None:
        if not self._config.reconcile.enabled:
            return
        feeds = await asyncio.to_thread(self._recorded)
        compared: set[str] = set()
        for table in self._config.opensips:
            if table.node in feeds:
                async with open_mi(table) as mi:
                    await self._compare_due(table.node, mi, feeds[table.node], compared)

    def _recorded(self) -> dict[str, Feed]:
        feeds = load_feeds(self._store)
        return {node: feeds[node] for node in select_leased(self._store, list(feeds))}

    async def _compare_due(self, node: str, mi: Mi, feed: Feed, compared: set[str]) -> None:
        checked_at = now_ms()
        try:
            up_since = checked_at - 1000 * await mi.uptime_seconds()
        except MiError as error:
            self._episodes.warn("MI does not answer: contacts can not be compared", node=node, error=str(error))
            return
        reason = await asyncio.to_thread(self._due, node, feed, up_since)
        cluster = self._config.cluster(node)
        if not reason:
            return
        logger.info("comparing with OpenSIPS' contacts", node=node, because=reason)
        if cluster in compared:  # its nodes hold the same contacts
            await asyncio.to_thread(
                _save, self._store, Reconciliation(node, up_since=up_since), feed, LastReconciliation()
            )
        elif report := await compare_node(node, mi, self._store, self._config, checked_at):
            _log(report)
            compared |= {cluster} if report.is_complete else set()
        self._started.add(node)

    def _due(self, node: str, feed: Feed, up_since: int) -> str:
        last, every_ms = load_last(self._store, node), self._config.reconcile.every_ms
        reason = explain_due(last, feed, up_since, every_ms, now_ms())
        if not reason and node not in self._started and now_ms() - last.at >= last.pause_ms(every_ms):
            return "the companion was started"
        return reason


def _log(report: Reconciliation) -> None:
    fields = {name: value for name, value in report.to_json().items() if name not in ("refused", "up_since")}
    if report.refused:
        logger.warning("the contacts of OpenSIPS were not stored", because=report.refused, **fields)
    else:
        logger.info("compared with OpenSIPS' contacts", **fields)


async def compare_node(node: str, mi: Mi, store: Store, config: Config, checked_at: int) -> Reconciliation | None:
    """Compare a node; return None when its cluster is locked, or was compared since `checked_at` (epoch ms)."""
    lock = await asyncio.to_thread(acquire_dump_lock, store, config.cluster(node), LOCK_SECONDS)
    if lock is None:
        return None
    try:
        feed, last = await asyncio.to_thread(lambda: (load_feed(store, node)[0], load_last(store, node)))
        if last.at >= checked_at:
            return None
        report = await reconcile(node, mi, store, config)
        await asyncio.to_thread(_save, store, report, feed, last)
    finally:
        if not await asyncio.to_thread(lock.release):
            logger.warning("comparing took longer than the lifetime of its lock")
    return report


async def compare_nodes(names: Sequence[str], store: Store, config: Config, *, dry_run: bool) -> list[Reconciliation]:
    """Compare these nodes, or all that have a table. Raises UsageError for a node without one."""
    reports: list[Reconciliation] = []
    for table in _tables(names, config):
        async with open_mi(table) as mi:
            if dry_run:
                report = await _rehearse(table.node, mi, store, config)
            else:
                report = await compare_node(table.node, mi, store, config, now_ms())
            reports.append(report or Reconciliation(table.node, refused=LOCKED))
    return reports


async def _rehearse(node: str, mi: Mi, store: Store, config: Config) -> Reconciliation | None:
    """Compare a node and correct nothing; return None when its cluster is locked."""
    lock = await asyncio.to_thread(acquire_dump_lock, store, config.cluster(node), LOCK_SECONDS)
    if lock is None:
        return None
    try:
        return await reconcile(node, mi, store, config, dry_run=True)
    finally:
        await asyncio.to_thread(lock.release)


def _tables(names: Sequence[str], config: Config) -> list[OpensipsSection]:
    tables = {table.node: table for table in config.opensips}
    if not tables:
        raise UsageError("there is no [[opensips]] table in the configuration, so nobody to ask")
    for name in names:
        if name not in tables:
            raise UsageError(f"no [[opensips]] table names a node {name!r}, only {', '.join(tables)}")
    return [tables[name] for name in names or tables]


def load_last(store: Store, node: str) -> LastReconciliation:
    """Return the last comparison of a node."""
    kinds = {name: type(value) for name, value in asdict(LastReconciliation()).items()}
    texts = load_reconciliation(store, node)
    return LastReconciliation(**{name: kinds[name](text) for name, text in texts.items() if name in kinds})


def _save(store: Store, report: Reconciliation, feed: Feed, last: LastReconciliation) -> None:
    """Store when a node was compared, with its feed as it was before."""
    done = LastReconciliation(
        at=now_ms(),
        run=feed.run,
        steady_since=feed.steady_since,
        up_since=report.up_since or last.up_since,
        seconds=report.seconds,
        failures=0 if report.is_complete else last.failures + 1,
        result=report.refused or f"{report.gone} gone, {report.added} found, {report.dropped} dropped",
    )
    save_reconciliation(store, report.node, asdict(done))
