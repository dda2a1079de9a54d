"""Read the calls that devices reported.

A call has a hash with its particulars and the totals of its media, and is in the indexes of its device, of its Call-ID
and of all calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from companion.media.totals import Totals
from companion.store.store import Store

MAX_LEGS: Final = 100
"""Devices that one Call-ID is read of: a call has two, and who invents a Call-ID may have any number."""
PAGE: Final = 500
"""Calls that are read at once."""


class CallRecord(NamedTuple):
    """Hold a call as one device reported it. Times are epoch ms by our clock; `ended_at` is None while it goes on.

    `dropped` is how many items the web page had no room for, `said_at` the time of its last report by its own clock.
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


class CallPosition(NamedTuple):
    """Hold where a page of calls ended: the time of a call's last report (epoch ms), and its ref."""

    at: int
    ref: str


def call_ref(device: str, call_id: str) -> str:
    """Return the name of a call in keys: one Call-ID has two devices.

    >>> call_ref("alice/web", "a84b4c76e66710")
    '0b557e58b1c41da6'
    """
    return blake2b(f"{device}\0{call_id}".encode(errors="replace"), digest_size=8).hexdigest()


def load_call(store: Store, device: str, call_id: str) -> CallRecord | None:
    """Return a call as a device reported it, None when it did not."""
    return next(iter(_load(store, [(call_ref(device, call_id), device)])), None)


def load_calls_of_device(store: Store, device: str, since: int, limit: int = PAGE) -> list[CallRecord]:
    """Return the calls of a device that began after `since` (epoch ms), newest first, `limit` at most."""
    refs = store.connection.call(
        "ZRANGE", store.keys.calls_of(device), "+inf", max(0, since), "BYSCORE", "REV", "LIMIT", 0, limit
    )
    return _load(store, [(ref, device) for ref in refs])


def has_calls(store: Store, device: str) -> bool:
    """Return whether there is a call of a device."""
    return bool(store.connection.call("EXISTS", store.keys.calls_of(device)))


def load_legs(store: Store, call_id: str) -> list[CallRecord]:
    """Return a call once for each device that reported it, in no order, at most MAX_LEGS of them."""
    members = store.connection.call("SRANDMEMBER", store.keys.callid(call_id), MAX_LEGS)
    return _load(store, map(_parse_member, members))


def load_recent_calls(store: Store, since: int, skip: int = 0, limit: int = PAGE) -> list[CallRecord]:
    """Return the calls of all devices with a report after `since` (epoch ms), the last reported first."""
    members = store.connection.call(
        "ZRANGE", store.keys.calls(), "+inf", max(0, since), "BYSCORE", "REV", "LIMIT", skip, limit
    )
    return _load(store, map(_parse_member, members))


def count_recent_calls(store: Store, since: int) -> int:
    """Return how many calls have a report after `since` (epoch ms)."""
    return int(store.connection.call("ZCOUNT", store.keys.calls(), max(0, since), "+inf"))


def load_calls_page(
    store: Store, since: int, limit: int, after: CallPosition | None = None
) -> tuple[list[CallRecord], CallPosition | None]:
    """Return the recent calls behind a position, and the position of the next page, None on the last page.

    A call that goes on moves to the first page with each report.
    """
    top = "+inf" if after is None else after.at
    candidates: list[tuple[str, CallPosition]] = []
    skip, has_more = 0, True
    while has_more and len(candidates) <= limit:
        reply = store.connection.call(
            *("ZRANGE", store.keys.calls(), top, max(0, since), "BYSCORE", "REV", "LIMIT", skip, PAGE, "WITHSCORES")
        )
        rows = [(member, CallPosition(round(float(at)), _parse_member(member)[0])) for member, at in _scored(reply)]
        candidates += [(member, position) for member, position in rows if after is None or position < after]
        skip, has_more = skip + PAGE, len(rows) == PAGE
    page = candidates[:limit]
    calls = _load(store, (_parse_member(member) for member, _ in page))
    return calls, page[-1][1] if len(candidates) > limit else None


def _scored(reply: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    """Pair members and scores: RESP3 sends pairs, RESP2 one after the other."""
    return reply if reply and not isinstance(reply[0], str) else zip(reply[::2], reply[1::2], strict=True)


def _parse_member(member: str) -> tuple[str, str]:
    """Read a member `REF DEVICE` of an index."""
    ref, _, device = member.partition(" ")
    return ref, device


def _load(store: Store, pairs: Iterable[tuple[str, str]]) -> list[CallRecord]:
    """Return the stored ones of these calls, given as (ref, device), in one round trip."""
    refs = list(pairs)
    replies = store.connection.pipeline(("HGETALL", store.keys.call(device, ref)) for ref, device in refs)
    return [_decode(ref, fields) for (ref, _), fields in zip(refs, replies, strict=True) if fields]


def _decode(ref: str, fields: Mapping[str, str]) -> CallRecord:
    return CallRecord(
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
        totals=decode_totals(fields["totals"]),
    )


def decode_totals(text: str | None) -> Totals:
    """Read the totals in a call's hash; those of a call without a report are empty."""
    return msgspec.json.decode(text, type=Totals) if text else Totals()
