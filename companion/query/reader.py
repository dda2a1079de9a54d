"""Everything that people and machines read, one method a question: the API, the dashboard and its live pages."""

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from companion.config import Config
from companion.errors import NoSuchCallError, NoSuchDeviceError, SeveralCallsError, UsageError
from companion.media.verdict import Signalling
from companion.query import call_quality, devices, history, listing
from companion.query import calls as call_page
from companion.query import calls as calls_module
from companion.query import summary as summary_module
from companion.query.feeds import describe_feed
from companion.query.now import View, view
from companion.query.row import glance, row
from companion.remediation import audit, safety
from companion.remediation.status import remediation_status
from companion.store.call_media import load_media
from companion.store.call_quality import load_call_quality
from companion.store.calls import (
    CallPosition,
    CallRecord,
    load_calls_of_device,
    load_calls_page,
    load_legs,
    load_recent_calls,
)
from companion.store.devices import load_device, load_devices
from companion.store.store import Store
from companion.store.summary import count_registered, load_summary
from companion.times import Json, iso
from companion.usrloc.contact import Device

MIN_POINTS = 10
MAX_POINTS = 2000
MAX_CALLS = 500
LOOKED_AT: Final = 2000
"""Calls among which one is looked for by the beginning of its Call-ID."""
_CURSOR: Final = re.compile(r"([0-9]{1,16})-([0-9a-f]{16})")


class Reader:
    """Reads only the store. Blocking: call it from a thread; any number of threads may share one.

    Answers are ready for JSON: times are ISO 8601 in UTC (null for never), but for samples and buckets, which are epoch
    ms. Raises UsageError for what can not be answered (NoSuchDeviceError and SeveralDevicesError among them), and what
    the store raises when Redis does not answer.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._fleet = listing.Fleet(store)

    # Devices

    def devices(self, query: listing.Query) -> Json:
        """`{"devices": [row…], "total", "next", "as_of"}`: one page, and how many devices there are on all pages.

        Rows are as of now; which they are and in which order, as of `as_of`, seconds ago. `next` is null on the last.
        """
        seen = self._view()
        page = self._fleet.page(query, seen)
        return {
            "devices": self._rows(page.devices, seen),
            "total": page.total,
            "next": page.next,
            "as_of": iso(page.as_of),
        }

    def worst(self, count: int) -> list[Json]:
        """The rows of the worst devices: stale, losing, then those with the highest latency."""
        bad = listing.Query(status=("stale", "losing"), limit=count)
        slow = listing.Query(status=("online",), sort="latency", descending=True, limit=count)
        rows: list[Json] = self.devices(bad)["devices"] + self.devices(slow)["devices"]
        return rows[:count]

    def device(self, name: str, window_ms: int) -> Json:
        """All about the device a person means, as `companion device --json` prints it."""
        return devices.page(self._store, devices.find(self._store, name), self._view(), window_ms)

    def latency(self, name: str, window_ms: int, points: int) -> Json:
        """A device's pings in at most about `points` (10 to 2000) buckets of one width, those with pings in them.

        `buckets` are `[start, min, average, max, answered, lost]`: epoch ms, ms (null where none was answered), counts.
        A ghost's losses are left out.
        """
        if not MIN_POINTS <= points <= MAX_POINTS:
            raise UsageError(f"points = {points} is not between {MIN_POINTS} and {MAX_POINTS}")
        found, seen = devices.find(self._store, name), self._view()
        bucket_ms = -(-window_ms // (points - 1))
        since = (seen.clock.now - window_ms) // bucket_ms * bucket_ms
        return {
            "device": found,
            "window_seconds": window_ms // 1000,
            "bucket_ms": bucket_ms,
            "buckets": devices.read_buckets(self._store, self._device(found), seen, since, bucket_ms),
        }

    def timeline(self, name: str, window_ms: int) -> Json:
        """What happened to a device and what was done about it, oldest first."""
        found, now = devices.find(self._store, name), self._view().clock.now
        return {
            "device": found,
            "window_seconds": window_ms // 1000,
            "timeline": devices.timeline(self._store, found, now - window_ms, now + 60_000),
        }

    def news(self, name: str, since_ms: int) -> Json:
        """A device's row, and what of its samples and timeline is later than `since_ms` (epoch ms): for live pages."""
        found, seen = devices.find(self._store, name), self._view()
        device = self._device(found)
        return {
            **row(glance(device, seen)),
            "samples": devices.read_pings(self._store, device, seen, since_ms + 1),
            "timeline": devices.timeline(self._store, found, since_ms + 1, seen.clock.now + 60_000),
        }

    # Calls

    def calls(self, name: str, window_ms: int) -> Json:
        """The calls of a device that began in the window, newest first, MAX_CALLS at most; then `cut` says so."""
        found, now = calls_module.whose(self._store, name), self._view().clock.now
        told = load_calls_of_device(self._store, found, now - window_ms, MAX_CALLS + 1)
        if not told and not calls_module.is_known(self._store, found):
            raise NoSuchDeviceError(name)
        return {
            "device": found,
            "window_seconds": window_ms // 1000,
            "calls": [call_page.row(call, now) for call in told[:MAX_CALLS]],
            "cut": len(told) > MAX_CALLS,
        }

    def fleet_calls(self, window_ms: int, cursor: str = "", limit: int = 50) -> Json:
        """A page of all calls that were told of in the window, the last told of first; `next` is null on the last."""
        now, behind = self._view().clock.now, _place(cursor) if cursor else None
        told, place = load_calls_page(self._store, now - window_ms, limit, behind)
        return {
            "window_seconds": window_ms // 1000,
            "calls": [call_page.row(call, now) for call in told],
            "next": f"{place.at}-{place.ref}" if place else None,
        }

    def call(self, call_id: str, name: str = "") -> Json:
        """All about a call as one device saw it; `name` says which where several told of it.

        With it the device's pings and its timeline, from two ping intervals before the call to two after it, on the
        same clock. Raises NoSuchCallError or SeveralCallsError.
        """
        legs, seen = list_legs(self._store, call_id), self._view()
        leg = _one_of(legs, call_id, name)
        around = 2 * seen.clock.interval_ms
        since, until = leg.started_at - around, (leg.ended_at or leg.last_at) + around
        device = load_device(self._store, leg.device)
        pings = devices.read_pings(self._store, device, seen, since, until) if device else []
        signalling = Signalling(pings, seen.clock.interval_ms, seen.bounds.poor)
        return {
            **call_page.page(leg, load_media(self._store, leg), signalling, seen.clock.now),
            "timeline": devices.timeline(self._store, leg.device, since, until),
            "legs": [each.device for each in legs],
        }

    def call_id(self, beginning: str) -> str:
        """The Call-ID that a person means: itself, or the one of the newest LOOKED_AT calls that begins so.

        Raises NoSuchCallError, or UsageError when several begin so.
        """
        if load_legs(self._store, beginning):
            return beginning
        start = beginning.rstrip("…")
        recent = load_recent_calls(self._store, 0, limit=LOOKED_AT)
        found = sorted({call.call_id for call in recent if start and call.call_id.startswith(start)})
        if not found:
            raise NoSuchCallError(beginning)
        if len(found) > 1:
            raise UsageError("\n  ".join((f"{len(found)} calls begin with {beginning!r}; say more:", *found[:10])))
        return found[0]

    def media(self) -> Json:
        """How the calls of the last hour sound, all together; at most some minutes old."""
        return load_call_quality(self._store) or call_quality.compute(self._store, self._view())

    # The fleet

    def summary(self) -> Json:
        """The fleet in one look, as `companion summary --json` prints it; at most some seconds old."""
        return load_summary(self._store) or summary_module.compute(self._store, self._view())

    def history(self, window_ms: int) -> Json:
        """The fleet's past: `points`, at most about 500, of counts by status, percentiles and loss, oldest first."""
        now = self._view().clock.now
        return {"window_seconds": window_ms // 1000, "points": history.read(self._store, now - window_ms, now)}

    def nodes(self) -> Json:
        """How each node's feed is, how many contacts it has (null when not counted yet), and `breaker`: open since."""
        seen, store = self._view(), self._store
        saved = load_summary(store)
        counts = count_registered(saved) if saved else None
        breakers = safety.open_breakers(store, list(seen.feeds))
        return {
            "nodes": [
                {
                    **describe_feed(feed, seen.clock.now),
                    "contacts": None if counts is None else counts.get(name, 0),
                    "breaker": iso(breakers.get(name, 0)),
                }
                for name, feed in seen.feeds.items()
            ]
        }

    # Remediation

    def remediation(self) -> Json:
        """How remediation is, as `companion remediation status --json` prints it."""
        return remediation_status(self._config, self._store)

    def remediations(self, since: str = "", count: int = 50) -> Json:
        """What was decided and done, newest first; `since` is the `next` of the page before, null on the last."""
        found = audit.page(self._store, since, count)
        return {
            "remediations": [audit.told(entry) for _, entry in found],
            "next": found[-1][0] if len(found) == count else None,
        }

    def pause(self, seconds: float) -> None:
        """Let remediation do nothing for so long, on all companions of this Redis."""
        safety.pause(self._store, seconds)

    def resume(self) -> None:
        safety.resume(self._store)

    def _view(self) -> View:
        return view(self._config, self._store)

    def _rows(self, ids: list[str], seen: View) -> list[Json]:
        found = load_devices(self._store, ids)
        return [row(glance(device, seen)) for device in found]

    def _device(self, device_id: str) -> Device:
        found = load_device(self._store, device_id)
        if found is None:
            raise NoSuchDeviceError(device_id)
        return found


def _place(cursor: str) -> CallPosition:
    found = _CURSOR.fullmatch(cursor)
    if not found:
        raise UsageError("the cursor is not one of this list: begin with the first page, without a cursor")
    return CallPosition(int(found[1]), found[2])


def list_legs(store: Store, call_id: str) -> list[CallRecord]:
    """Return a call once for each device that reported it, the first to begin first."""
    return sorted(load_legs(store, call_id), key=attrgetter("started_at", "device"))


def _one_of(legs: Sequence[CallRecord], call_id: str, name: str) -> CallRecord:
    """The leg of the device a person means: by its id, its AOR or its instance; the only one when none is said."""
    meant = [leg for leg in legs if not name or name in _names(leg.device)]
    if not meant:
        raise NoSuchCallError(call_id, name if legs else "")
    if len(meant) > 1:
        raise SeveralCallsError(call_id, [leg.device for leg in meant])
    return meant[0]


def _names(device: str) -> tuple[str, ...]:
    aor, _, instance = device.rpartition("/")
    return device, aor, instance, instance.removeprefix("urn:uuid:")
