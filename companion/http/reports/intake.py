"""Take the reports of browsers: check their tokens, sizes and rates, and store them.

A report is read and checked in the event loop; only the writes to Redis run in a thread. While too much waits, reports
are refused and pages send them again.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from companion import log, metrics
from companion.config import Config, MediaSection
from companion.errors import InvalidReportError, InvalidTokenError, ReportBudgetError
from companion.http import problems
from companion.http.access import cors
from companion.http.access.guard import bearer
from companion.http.middleware.body_limit import content_length
from companion.http.reports.limits import Limits
from companion.media import report
from companion.media.advice import Advice, Policy
from companion.media.report import Report
from companion.query.device_ids import find_or_accept_device_id
from companion.store.call_reports import CallReport, ReportOutcome, WrittenReport, write_reports
from companion.store.calls import call_ref
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.report_budgets import ReportLimits
from companion.store.store import Store
from companion.times import now_ms
from companion.tokens import call
from companion.tokens.call import Claims

MAX_REPORT: Final = 256 * 1024
BATCH_SECONDS: Final = 0.02
"""How long a report waits for others: nobody waits for its answer, and a write together costs half as much."""
BATCH_MOST: Final = 100
MAX_BYTES: Final = 32 << 20
MAX_STRANGERS_BYTES: Final = 8 << 20
"""Bytes of reports that are read or wait; the second for those that bring their token only in the body."""
MEGABYTE: Final = 1_000_000
BODY_SECONDS: Final = 10.0
"""How long a body may take to come in."""
BYTES_A_TRY: Final = 8192
"""A report counts as one for each so many bytes begun."""

logger = log.get(__name__)


class Receipt(msgspec.Struct, frozen=True):
    """Answer a page: how many items were stored, which one comes next, and how much media to send at most."""

    stored: int
    next: int
    advice: Advice | None


class Gate:
    """Let in so many bytes at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0

    @contextmanager
    def entered(self, size: int) -> Iterator[None]:
        """Hold room for so many bytes; raise ProblemError when there is none."""
        if self._inside + size > self._most:
            raise problems.too_busy()
        self._inside += size
        try:
            yield
        finally:
            self._inside -= size


class Writer:
    """Write reports in a thread, together with those that come at about the same time."""

    def __init__(self, store: Store, policy: Policy | None, limits: ReportLimits) -> None:
        self._store = store
        self._policy = policy
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, "media")
        self._waiting: list[tuple[CallReport, asyncio.Future[WrittenReport]]] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, report: CallReport) -> WrittenReport:
        """Write a report; raise what write_reports returns for it."""
        future: asyncio.Future[WrittenReport] = asyncio.get_running_loop().create_future()
        self._waiting.append((report, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            await asyncio.sleep(BATCH_SECONDS)
            batch, self._waiting = self._waiting[:BATCH_MOST], self._waiting[BATCH_MOST:]
            outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue  # the client is gone
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

    def _write(self, batch: Sequence[tuple[CallReport, Any]]) -> Sequence[ReportOutcome]:
        try:
            return write_reports(self._store, [report for report, _ in batch], self._policy, self._limits)
        except Exception as error:  # noqa: BLE001 - each caller gets it, and knows what to do
            return [error] * len(batch)


class Intake:
    """Take reports, for the event loop of one process."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config.media
        self._store = store
        self._limits = Limits(config.media.reports_per_minute, config.media.max_calls)
        self._gate, self._strangers_gate = Gate(MAX_BYTES), Gate(MAX_STRANGERS_BYTES)
        self._writer = Writer(store, advice_policy(config.media), report_limits(config.media))
        self._episodes = log.Episodes(logger)
        metrics.MEDIA_CALLS.set_function(self._limits.live)

    async def take(self, request: Request, call_id: str, device: str) -> Receipt:
        """Take one report of a call; raise ProblemError when it is refused.

        Args:
            request: The report.
            call_id: The call that it is about.
            device: The device that the token must be for; "" for any.

        """
        started = time.perf_counter()
        try:
            answer = await self._take(request, call_id, device)
        except problems.ProblemError as problem:
            raise self._count_refusal(problem) from None
        except ReportBudgetError as error:
            raise self._count_refusal(problems.over_budget(error)) from None
        except (*Unreachable, NotNowError, ResponseError) as error:
            raise self._count_refusal(problems.redis_away(error)) from None
        metrics.MEDIA_SECONDS.observe(time.perf_counter() - started)
        return answer

    def make_token(self, name: str, call_id: str, minutes: int | None) -> tuple[str, int]:
        """Make a token for reporting a call of the device with this name; return it and its end (epoch seconds).

        Raises ProblemError, and what find_or_accept_device_id raises.
        """
        if not self._config.secret:
            raise problems.media_off()
        claims, now = Claims(find_or_accept_device_id(self._store, name), call_id), int(time.time())
        seconds = 60 * (minutes or self._config.token_minutes)
        return call.make(self._config.secret, claims, now, seconds), now + seconds

    async def _take(self, request: Request, call_id: str, device: str) -> Receipt:
        if not self._config.secret:
            raise problems.media_off()
        if not cors.is_allowed(request.scope, self._config.origins):
            raise problems.foreign_origin()
        secret = bearer(request.scope)
        claims = self._check_token(secret, call_id, device) if secret else None
        with (self._gate if claims else self._strangers_gate).entered(content_length(request.scope) or MAX_REPORT):
            body = await _read_body(request)
            claims = claims or self._check_token(report.read_token(body), call_id, device)
            self._limit(claims, len(body))
            return await self._store_report(claims, _decode(body, self._store.retention_ms))

    def _check_token(self, secret: str, call_id: str, device: str) -> Claims:
        """Return what the token is for, if it is for this call."""
        if not secret:
            raise problems.call_token_needed(wrong=False)
        try:
            claims = call.check(self._config.secret, secret, int(time.time()))
        except InvalidTokenError as error:
            expired = error.reason == "expired"
            raise (problems.token_expired() if expired else problems.call_token_needed(wrong=True)) from None
        if claims.call_id != call_id or (device and claims.device != device):
            raise problems.foreign_call()
        return claims

    def _limit(self, claims: Claims, size: int) -> None:
        seconds = self._limits.wait(call_ref(*claims), 1 + size // BYTES_A_TRY)
        if seconds:
            raise problems.too_many_reports(seconds)

    async def _store_report(self, claims: Claims, original: Report) -> Receipt:
        ours = report.shift(original, now_ms())
        if not self._config.full_addresses:
            ours = report.shorten(ours)
        written = await self._writer.write(CallReport(*claims, original.now, ours))
        self._limits.note_report(call_ref(*claims), ended=original.call.ended_at is not None)
        _count(written, len(original.samples) + len(original.happenings))
        return Receipt(len(written.items), written.after.next, written.advice)

    def _count_refusal(self, problem: problems.ProblemError) -> problems.ProblemError:
        metrics.count_refused_report(problem.name)
        self._episodes.warn(f"a report of a call was refused: {problem.name}")
        return problem


async def _read_body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.body()
    except (TimeoutError, ClientDisconnect):
        raise problems.too_slow(BODY_SECONDS) from None
    except HTTPException:  # from the body limit
        raise problems.too_large(MAX_REPORT) from None


def _decode(body: bytes, retention_ms: int) -> Report:
    try:
        return report.decode(body, retention_ms)
    except InvalidReportError as error:
        raise problems.wrong_report(error) from None


def _count(written: WrittenReport, sent: int) -> None:
    new, before, after = written.items, written.before, written.after
    samples = after.samples - before.samples
    metrics.MEDIA_REPORTS.labels("stored" if new else "nothing_new").inc()
    metrics.MEDIA_ITEMS.labels("sample").inc(samples)
    metrics.MEDIA_ITEMS.labels("happening").inc(len(new) - samples)
    metrics.MEDIA_DUPLICATES.inc(sent - len(new))
    metrics.MEDIA_MISSING.inc(after.missing - before.missing)
    if after.scored_seconds > before.scored_seconds:
        metrics.MEDIA_MOS.observe((after.mos_sum - before.mos_sum) / (after.scored_seconds - before.scored_seconds))
    advice = after.advice.latest
    if advice and advice is not before.advice.latest:
        metrics.MEDIA_ADVICE.labels(advice.why).inc()


def advice_policy(media: MediaSection) -> Policy | None:
    """Return the bounds by which pages are advised to send less; None when advice is off."""
    bounds = Policy(
        min_bps=media.advice_min_bps,
        max_bps=media.advice_max_bps,
        loss_percent=media.advice_loss_percent,
        rtt_ms=media.advice_rtt_ms,
        after=media.advice_after,
        recover_after=media.advice_recover_after,
    )
    return bounds if media.advice else None


def report_limits(media: MediaSection) -> ReportLimits:
    """Return what reports may make Redis keep."""
    return ReportLimits(
        calls_per_hour=media.calls_per_hour,
        device_bytes_per_hour=media.megabytes_per_hour * MEGABYTE,
        all_bytes_per_hour=media.max_megabytes_per_hour * MEGABYTE,
        stored_calls=media.max_stored_calls,
    )
