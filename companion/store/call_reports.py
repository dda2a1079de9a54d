"""Store what browsers report of their calls.

A call's hash and its stream of media change in one step (a script), or neither does. Redis refuses an entry that is not
newer than the last one, so a report that comes twice changes nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from companion.media import advice, totals
from companion.media.advice import Advice, Policy
from companion.media.packing import Items, pack
from companion.media.report import Item, Report
from companion.media.totals import Totals
from companion.store.call_media import sort_out
from companion.store.calls import call_ref, decode_totals
from companion.store.connection import Command, ResponseError
from companion.store.report_budgets import Charge, ReportLimits, charge_reports
from companion.store.store import REFRESH_MS, Store

MAX_ENTRIES: Final = 20_000
"""Reports kept of one call: more than a day of them."""
ATTEMPTS: Final = 3
_CONTENDED: Final = "others write the same call at the same time"
_WRITE: Final = """
local ttl, most, id, entry = unpack(ARGV, 1, 4)
if entry ~= '' then
    local added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', most, id, 'items', entry)
    if type(added) == 'table' then
        if string.find(added.err, 'equal or smaller', 1, true) then return 0 end
        return added
    end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ttl)
redis.call('PEXPIRE', KEYS[2], ttl)
return 1
"""
"""Append an entry, if there is one, and write the call's fields; return 0 and do nothing after a later entry."""


class CallReport(NamedTuple):
    """Hold a report of a device's call, its times by our clock; `said_at` is its `now` by the web page's clock."""

    device: str
    call_id: str
    said_at: int
    report: Report

    @property
    def ref(self) -> str:
        return call_ref(self.device, self.call_id)


class WrittenReport(NamedTuple):
    """Hold the new items of a report, and the call's totals before and after them."""

    items: list[Item]
    before: Totals
    after: Totals

    @property
    def advice(self) -> Advice | None:
        """Return the advice for the web page; the same again until the page has followed it."""
        return self.after.advice.advice


ReportOutcome = WrittenReport | Exception
"""What a report changed, or why it changed nothing."""


def write_report(
    store: Store, report: CallReport, policy: Policy | None = None, limits: ReportLimits | None = None
) -> WrittenReport:
    """Store the new items of a report, and derive advice if there is a policy.

    Raises ReportBudgetError when that would exceed the limits, and the store's errors when Redis does not answer: then
    nothing, or all of it, is stored.
    """
    (outcome,) = write_reports(store, [report], policy, limits)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def write_reports(
    store: Store, reports: Sequence[CallReport], policy: Policy | None = None, limits: ReportLimits | None = None
) -> list[ReportOutcome]:
    """Store several reports as `write_report` does, in four round trips; the failure of one is its outcome."""
    outcomes: dict[int, ReportOutcome] = {}
    for _ in range(ATTEMPTS):
        left = {number: report for number, report in enumerate(reports) if number not in outcomes}
        if left:
            outcomes |= _try_to_write(store, left, policy, limits)
    return [outcomes.get(number, ResponseError(_CONTENDED)) for number in range(len(reports))]


class _Write(NamedTuple):
    """Hold what writes one report: the last command returns 0 when Redis refused the report."""

    number: int
    written: WrittenReport
    charge: Charge
    commands: list[Command]


def _try_to_write(
    store: Store, reports: Mapping[int, CallReport], policy: Policy | None, limits: ReportLimits | None
) -> dict[int, ReportOutcome]:
    """Return the outcomes of these reports, without those whose calls changed between our reading and writing."""
    records = store.connection.pipeline(
        ("HMGET", store.keys.call(report.device, report.ref), "totals", "said_at", "last_at")
        for report in reports.values()
    )
    outcomes: dict[int, ReportOutcome] = {}
    writes: list[_Write] = []
    for (number, report), (sums, said_at, last_at) in zip(reports.items(), records, strict=True):
        written = _add(decode_totals(sums), report.report, policy)
        if written.items or report.said_at > int(said_at or 0):
            writes.append(_prepare(store, number, report, written, last_at))
        else:
            outcomes[number] = written
    refusals = _charge(store, writes, limits) if limits else {}
    return outcomes | refusals | _send(store, [write for write in writes if write.number not in refusals])


def _charge(store: Store, writes: Sequence[_Write], limits: ReportLimits) -> dict[int, ReportOutcome]:
    """Return the errors of the reports that exceed a budget."""
    errors = charge_reports(store, [write.charge for write in writes], limits)
    return {write.number: error for write, error in zip(writes, errors, strict=True) if error}


def _send(store: Store, writes: Sequence[_Write]) -> dict[int, ReportOutcome]:
    replies = iter(
        store.connection.pipeline((command for write in writes for command in write.commands), raise_on_error=False)
    )
    outcomes: dict[int, ReportOutcome] = {}
    for write in writes:
        own = [next(replies) for _ in write.commands]
        error = next((reply for reply in own if isinstance(reply, Exception)), None)
        if error or own[-1]:
            outcomes[write.number] = error or write.written
    return outcomes


def _add(before: Totals, report: Report, policy: Policy | None) -> WrittenReport:
    items = totals.sort_items((*report.samples, *report.happenings), since=before.next)
    after = totals.add(before, items)
    if policy:
        after.advice = advice.update_state(before.advice, items, policy, report.now)
    return WrittenReport(items, before, after)


def _prepare(store: Store, number: int, report: CallReport, written: WrittenReport, last_at: str | None) -> _Write:
    entry = pack(Items(*sort_out(written.items))) if written.items else b""
    charge = Charge(report.device, len(entry), is_new=last_at is None)
    return _Write(number, written, charge, _commands(store, report, written, int(last_at or 0), entry))


def _commands(store: Store, call: CallReport, written: WrittenReport, last_at: int, entry: bytes) -> list[Command]:
    """Return the commands that write a report: the indexes first, so that a stored call can always be reached.

    Most indexes are written, and the life of all keys extended, at the first report and once an hour.
    """
    keys, report, ref = store.keys, call.report, call.ref
    fields = [part for pair in _fields(call, written.after).items() for part in pair]
    is_due = report.now // REFRESH_MS != last_at // REFRESH_MS
    return [
        ("ZADD", keys.calls(), report.now, f"{ref} {call.device}"),
        *(_indexes(store, call) if is_due else ()),
        (
            *("EVAL", _WRITE, 2, keys.call(call.device, ref), keys.media(call.device, ref)),
            *(store.ttl_ms, MAX_ENTRIES, f"{written.after.next}-0", entry),
            *fields,
        ),
    ]


def _indexes(store: Store, call: CallReport) -> list[Command]:
    """Return the commands that add a call to its indexes, and take off them what is too old."""
    keys, oldest = store.keys, f"({call.report.now - store.retention_ms}"
    calls_of, callid, calls = keys.calls_of(call.device), keys.callid(call.call_id), keys.calls()
    return [
        ("ZADD", calls_of, call.report.call.started_at, call.ref),
        ("ZREMRANGEBYSCORE", calls_of, "-inf", oldest),
        ("ZREMRANGEBYSCORE", calls, "-inf", oldest),
        ("SADD", callid, f"{call.ref} {call.device}"),
        *(("PEXPIRE", key, store.ttl_ms) for key in (calls_of, callid, calls)),
    ]


def _fields(report: CallReport, sums: Totals) -> dict[str, str | int]:
    call = report.report.call
    return {
        "id": report.call_id,
        "device": report.device,
        "direction": call.direction,
        "peer": call.peer,
        "started_at": call.started_at,
        "ended_at": call.ended_at or "",
        "end": call.end,
        "why": call.why,
        "last_at": report.report.now,
        "dropped": report.report.dropped,
        "said_at": report.said_at,
        "totals": msgspec.json.encode(sums).decode(),
    }
