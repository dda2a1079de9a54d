"""Calls and their media in Redis: a report is written, a call and its items are read.

A call has a hash with what is known of it and the totals of its media, and a stream with an entry a report, whose id is
the number of the item that should come next: Redis refuses what is not newer, so a report that comes twice changes
nothing. Both change in one step (a script), or neither does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from companion.media import advice, totals
from companion.media.advice import Advice, Policy
from companion.media.packing import Items, pack, unpack
from companion.media.report import Happening, Item, MediaSample, Report
from companion.media.totals import Totals
from companion.store.connection import Command, ResponseError
from companion.store.store import REFRESH_MS, Store

MAX_ENTRIES: Final = 20_000
"""Reports kept of one call: more than a day of them."""
MAX_READ: Final = 100_000
"""Items of one call that are read at once: more than a day of seconds."""
ATTEMPTS: Final = 3
_CONTENDED: Final = "others write the same call at the same time"
PAGE: Final = 500
"""Entries, and calls, read at once."""

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
"""Append an entry, if there is one, and write the call's fields; 0 and nothing when there is a later entry already."""


class Call(NamedTuple):
    """A call as one device saw it. Times are epoch ms by our clock; `ended_at` is None while it goes on.

    `dropped` is how many items the page had no room for, `said_at` when it last told, by its own clock.
    """

    ref: str
    call_id: str
    device: str
    direction: str
    peer: str
    started_at: int
    ended_at: int | None
    end: str
    why: str
    last_at: int
    dropped: int
    said_at: int
    totals: Totals


class Media(NamedTuple):
    """Of one call, by number; each item once."""

    samples: tuple[MediaSample, ...]
    happenings: tuple[Happening, ...]


class Written(NamedTuple):
    """What became of a report: the items of it that were new, and the call's totals before and after."""

    items: list[Item]
    before: Totals
    after: Totals

    @property
    def advice(self) -> Advice | None:
        """What to tell the page; the same again until it has done so."""
        return self.after.advice.advice


Outcome = Written | Exception
"""Of a report: what became of it, or why nothing did."""


def ref_of(device: str, call_id: str) -> str:
    """What a call is called in keys: one Call-ID has two devices.

    >>> ref_of("alice/web", "a84b4c76e66710")
    '0b557e58b1c41da6'
    """
    return blake2b(f"{device}\0{call_id}".encode(errors="replace"), digest_size=8).hexdigest()


# Writing


class Told(NamedTuple):
    """A report of a device's call, its times by our clock; `said_at` is its `now` as the page's clock had it."""

    device: str
    call_id: str
    said_at: int
    report: Report

    @property
    def ref(self) -> str:
        return ref_of(self.device, self.call_id)


def write(store: Store, told: Told, policy: Policy | None = None) -> Written:
    """Store what is new of a report, and find what to advise if there is a policy for that.

    Raises what the store raises when Redis does not answer: then nothing, or all of it, is stored.
    """
    (outcome,) = write_all(store, [told], policy)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def write_all(store: Store, reports: Sequence[Told], policy: Policy | None = None) -> list[Outcome]:
    """As `write`, of several reports at once, in two round trips; what went wrong with one is its outcome."""
    outcomes: dict[int, Outcome] = {}
    for _ in range(ATTEMPTS):
        left = {number: told for number, told in enumerate(reports) if number not in outcomes}
        outcomes |= _try_to_write(store, left, policy)
    return [outcomes.get(number, ResponseError(_CONTENDED)) for number in range(len(reports))]


def _try_to_write(store: Store, reports: Mapping[int, Told], policy: Policy | None) -> dict[int, Outcome]:
    """What became of these reports; nothing of one whose call somebody else has written to since we looked."""
    known = store.connection.pipeline(
        ("HMGET", store.keys.call(told.device, told.ref), "totals", "said_at", "last_at") for told in reports.values()
    )
    outcomes: dict[int, Outcome] = {}
    commands: list[Command] = []
    asked: list[tuple[int, Written, int]] = []
    for (number, told), (sums, said_at, last_at) in zip(reports.items(), known, strict=True):
        written = _add(_totals(sums), told.report, policy)
        if not written.items and told.said_at <= int(said_at or 0):
            outcomes[number] = written
            continue
        commands += _commands(store, told, written, int(last_at or 0))
        asked.append((number, written, len(commands)))
    replies = store.connection.pipeline(commands, raise_on_error=False)
    starts = (0, *(end for _, _, end in asked))
    for (number, written, end), start in zip(asked, starts, strict=False):
        failed = next((reply for reply in replies[start:end] if isinstance(reply, Exception)), None)
        if failed or replies[end - 1]:
            outcomes[number] = failed or written
    return outcomes


def _add(before: Totals, report: Report, policy: Policy | None) -> Written:
    items = totals.in_order((*report.samples, *report.happenings), since=before.next)
    after = totals.add(before, items)
    if policy:
        after.advice = advice.watch(before.advice, items, policy, report.now)
    return Written(items, before, after)


def _commands(store: Store, told: Told, written: Written, last_at: int) -> list[Command]:
    """The last one answers 0 when it was refused; it goes last, so that a call that is there can be found.

    Indexes are written, and all keys' lives renewed, at the first report and once an hour.
    """
    keys, report, ref = store.keys, told.report, told.ref
    entry = pack(Items(*_apart(written.items))) if written.items else b""
    fields = [part for pair in _fields(told, written.after).items() for part in pair]
    due = report.now // REFRESH_MS != last_at // REFRESH_MS
    return [
        ("ZADD", keys.calls(), report.now, f"{ref} {told.device}"),
        *(_indexes(store, told) if due else ()),
        (
            *("EVAL", _WRITE, 2, keys.call(told.device, ref), keys.media(told.device, ref)),
            *(store.retention_ms + REFRESH_MS, MAX_ENTRIES, f"{written.after.next}-0", entry),
            *fields,
        ),
    ]


def _indexes(store: Store, told: Told) -> list[Command]:
    """What leads to a call, and takes off the indexes what is too old."""
    keys, ttl, oldest = store.keys, store.retention_ms + REFRESH_MS, f"({told.report.now - store.retention_ms}"
    calls_of, callid, calls = keys.calls_of(told.device), keys.callid(told.call_id), keys.calls()
    return [
        ("ZADD", calls_of, told.report.call.started_at, told.ref),
        ("ZREMRANGEBYSCORE", calls_of, "-inf", oldest),
        ("ZREMRANGEBYSCORE", calls, "-inf", oldest),
        ("SADD", callid, f"{told.ref} {told.device}"),
        *(("PEXPIRE", key, ttl) for key in (calls_of, callid, calls)),
    ]


def _fields(told: Told, sums: Totals) -> dict[str, str | int]:
    call = told.report.call
    return {
        "id": told.call_id,
        "device": told.device,
        "direction": call.direction,
        "peer": call.peer,
        "started_at": call.started_at,
        "ended_at": call.ended_at or "",
        "end": call.end,
        "why": call.why,
        "last_at": told.report.now,
        "dropped": told.report.dropped,
        "said_at": told.said_at,
        "totals": msgspec.json.encode(sums).decode(),
    }


# Reading


def recent(store: Store, device: str, since: int, limit: int = PAGE) -> list[Call]:
    """The calls of a device that began after `since` (epoch ms), newest first, `limit` at most."""
    refs = store.connection.call(
        "ZRANGE", store.keys.calls_of(device), "+inf", max(0, since), "BYSCORE", "REV", "LIMIT", 0, limit
    )
    return _load(store, [(ref, device) for ref in refs])


def fleet(store: Store, since: int, skip: int = 0, limit: int = PAGE) -> list[Call]:
    """All calls with a report after `since` (epoch ms), those last told of first."""
    members = store.connection.call(
        "ZRANGE", store.keys.calls(), "+inf", max(0, since), "BYSCORE", "REV", "LIMIT", skip, limit
    )
    return _load(store, map(_pair, members))


class Place(NamedTuple):
    """Where a page of the fleet's calls ended: the time of a call's last report (epoch ms), and its ref."""

    at: int
    ref: str


def page(store: Store, since: int, limit: int, behind: Place | None = None) -> tuple[list[Call], Place | None]:
    """As `fleet`, page by page: those behind a place, and the place where this page ends; None when it is the last.

    A call that goes on moves to the first page with each report.
    """
    top = "+inf" if behind is None else behind.at
    found: list[tuple[str, Place]] = []
    skip, more = 0, True
    while more and len(found) <= limit:
        told = store.connection.call(
            *("ZRANGE", store.keys.calls(), top, max(0, since), "BYSCORE", "REV", "LIMIT", skip, PAGE, "WITHSCORES")
        )
        places = [(member, Place(round(float(at)), _pair(member)[0])) for member, at in _scored(told)]
        found += [each for each in places if behind is None or each[1] < behind]
        skip, more = skip + PAGE, len(places) == PAGE
    chosen = found[:limit]
    more = len(found) > limit
    return _load(store, (_pair(member) for member, _ in chosen)), chosen[-1][1] if more else None


def _scored(told: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    """Members and scores: in pairs by RESP3, one after the other by RESP2."""
    return told if told and not isinstance(told[0], str) else zip(told[::2], told[1::2], strict=True)


def has_calls(store: Store, device: str) -> bool:
    """Return whether there is a call of a device."""
    return bool(store.connection.call("EXISTS", store.keys.calls_of(device)))


def count(store: Store, since: int) -> int:
    """How many calls there are with a report after `since` (epoch ms)."""
    return int(store.connection.call("ZCOUNT", store.keys.calls(), max(0, since), "+inf"))


def legs(store: Store, call_id: str) -> list[Call]:
    """The call as each device saw it that told of it, the first to begin first."""
    found = _load(store, map(_pair, store.connection.call("SMEMBERS", store.keys.callid(call_id))))
    return sorted(found, key=lambda call: (call.started_at, call.device))


def find(store: Store, device: str, call_id: str) -> Call | None:
    found = _load(store, [(ref_of(device, call_id), device)])
    return found[0] if found else None


def read(store: Store, call: Call, most: int = MAX_READ) -> Media:
    """What is kept of a call's media: of a very long one the last `most` items and what came with them."""
    items: list[Item] = []
    for packed in _entries(store, store.keys.media(call.device, call.ref)):
        entry = unpack(packed)
        items += entry.s
        items += entry.h
        if len(items) >= most:
            break
    return Media(*_apart(totals.in_order(items)))


def _entries(store: Store, key: str) -> Iterator[bytes]:
    """The newest first, page by page: a call of a day has 17,280."""
    start = "+"
    while start:
        entries = store.connection.call_for_bytes("XREVRANGE", key, start, "-", "COUNT", PAGE)
        yield from (fields[b"items"] for _, fields in entries)
        start = f"({entries[-1][0].decode()}" if len(entries) == PAGE else ""


def _load(store: Store, pairs: Iterable[tuple[str, str]]) -> list[Call]:
    """The stored ones of these calls, given as (ref, device), in one round trip."""
    refs = list(pairs)
    replies = store.connection.pipeline(("HGETALL", store.keys.call(device, ref)) for ref, device in refs)
    return [_call(ref, fields) for (ref, _), fields in zip(refs, replies, strict=True) if fields]


def _call(ref: str, fields: Mapping[str, str]) -> Call:
    return Call(
        ref=ref,
        call_id=fields["id"],
        device=fields["device"],
        direction=fields["direction"],
        peer=fields["peer"],
        started_at=int(fields["started_at"]),
        ended_at=int(fields["ended_at"]) if fields["ended_at"] else None,
        end=fields["end"],
        why=fields["why"],
        last_at=int(fields["last_at"]),
        dropped=int(fields["dropped"]),
        said_at=int(fields["said_at"]),
        totals=_totals(fields["totals"]),
    )


def _totals(text: str | None) -> Totals:
    return msgspec.json.decode(text, type=Totals) if text else Totals()


def _pair(member: str) -> tuple[str, str]:
    ref, _, device = member.partition(" ")
    return ref, device


def _apart(items: Iterable[Item]) -> tuple[tuple[MediaSample, ...], tuple[Happening, ...]]:
    told = list(items)
    samples = tuple(item for item in told if isinstance(item, MediaSample))
    return samples, tuple(item for item in told if isinstance(item, Happening))
