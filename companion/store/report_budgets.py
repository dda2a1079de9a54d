"""Take what reports of calls make Redis keep from budgets that all API processes share.

A budget is a token bucket in Redis: it holds what an hour allows, and is refilled evenly. A report that is refused
costs nothing, so one device can not use up what is left for all.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from companion.errors import ReportBudgetError
from companion.store.connection import Command
from companion.store.store import Store
from companion.times import HOUR_MS, SECOND_MS

ENTRY_BYTES: Final = 64
"""What Redis needs for an entry beside its content."""
FULL_SECONDS: Final = 600
"""When to send a call again that there is no room for."""
_TAKE: Final = """
local time = redis.call('TIME')
local now, window, taken = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[1]), {}
local passed = math.max(0, now - (redis.call('HGET', KEYS[1], 'at') or now))
for i = 2, #ARGV, 3 do
    local name, amount, most = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local used = math.max(0, (redis.call('HGET', KEYS[1], name) or 0) - passed * most / window)
    if amount > 0 and used + amount > most then
        local fresh = now - (redis.call('HGET', KEYS[1], 'refused_at') or 0) < window
        local refused = fresh and redis.call('HGET', KEYS[1], 'refused') or 0
        redis.call('HSET', KEYS[1], 'refused', refused + 1, 'refused_at', now, 'refused_why', name)
        redis.call('PEXPIRE', KEYS[1], window)
        return {name, math.ceil((used + amount - most) * window / most)}
    end
    table.insert(taken, name)
    table.insert(taken, string.format('%.3f', used + amount))
end
redis.call('HSET', KEYS[1], 'at', now, unpack(taken))
redis.call('PEXPIRE', KEYS[1], window)
return {'', 0}
"""
"""Take amounts from the budgets of one key, all or none; return which one has too little, and for how many ms."""


class ReportLimits(NamedTuple):
    """Hold what reports may make Redis keep: new calls and bytes of one device in an hour, and of all devices."""

    calls_per_hour: int
    device_bytes_per_hour: int
    all_bytes_per_hour: int
    stored_calls: int


class Charge(NamedTuple):
    """Hold what a report adds: the bytes of its entry, and whether its call is new."""

    device: str
    size: int
    is_new: bool


class RefusedReports(NamedTuple):
    """Hold how many reports of a device were refused within the last hour, and which budget the last one exceeded."""

    number: int = 0
    why: str = ""


def charge_reports(store: Store, charges: Sequence[Charge], limits: ReportLimits) -> list[ReportBudgetError | None]:
    """Take what reports add from the budgets; return the error of each one that is refused, else None."""
    replies = store.connection.pipeline(_take_of_device(store, charge, limits) for charge in charges)
    stored = store.connection.call("ZCARD", store.keys.calls()) if any(charge.is_new for charge in charges) else 0
    errors = [_error(reply) or _full(charge, stored, limits) for charge, reply in zip(charges, replies, strict=True)]
    passed = [number for number, error in enumerate(errors) if error is None]
    sizes = [charges[number].size + ENTRY_BYTES for number in passed]
    if sum(sizes) and _error(store.connection.call(*_take_of_all(store, sum(sizes), limits))):
        replies = store.connection.pipeline(_take_of_all(store, size, limits) for size in sizes)  # some may have room
        for number, reply in zip(passed, replies, strict=True):
            errors[number] = _error(reply)
    return errors


def load_refused_reports(store: Store, device: str) -> RefusedReports:
    """Return what was refused of a device within about an hour."""
    number, why, at, now = store.connection.call(
        "EVAL",
        "local h = redis.call('HMGET', KEYS[1], 'refused', 'refused_why', 'refused_at') "
        "return {h[1], h[2], h[3], redis.call('TIME')[1]}",
        1,
        store.keys.report_budget(device),
    )
    is_fresh = at is not None and int(now) * SECOND_MS - int(at) < HOUR_MS
    return RefusedReports(int(number), why) if is_fresh else RefusedReports()


def _take_of_device(store: Store, charge: Charge, limits: ReportLimits) -> Command:
    calls = ("calls", int(charge.is_new), limits.calls_per_hour)
    sizes = ("bytes", charge.size + ENTRY_BYTES, limits.device_bytes_per_hour)
    return ("EVAL", _TAKE, 1, store.keys.report_budget(charge.device), HOUR_MS, *calls, *sizes)


def _take_of_all(store: Store, size: int, limits: ReportLimits) -> Command:
    sizes = ("all_bytes", size, limits.all_bytes_per_hour)
    return ("EVAL", _TAKE, 1, store.keys.report_budget_of_all(), HOUR_MS, *sizes)


def _full(charge: Charge, stored: int, limits: ReportLimits) -> ReportBudgetError | None:
    """Refuse a new call where as many calls are stored as may be."""
    return ReportBudgetError("all_calls", FULL_SECONDS) if charge.is_new and stored >= limits.stored_calls else None


def _error(reply: Sequence[Any]) -> ReportBudgetError | None:
    name, wait_ms = reply
    return ReportBudgetError(name, max(1, math.ceil(wait_ms / SECOND_MS))) if name else None
