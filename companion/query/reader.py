"""Answer the questions of the API, the dashboard and the command line, one method a question."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from companion.config import Config
from companion.errors import NoSuchCallError, NoSuchDeviceError, SeveralCallsError, UsageError
from companion.media.signalling import Signalling
from companion.query.call_quality import compute_call_quality
from companion.query.calls import render_call, render_call_row
from companion.query.cursors import decode_call_cursor, encode_call_cursor
from companion.query.device_ids import find_device_id, find_or_accept_device_id, has_records
from companion.query.devices import DevicePast, load_past, render_past, render_timeline
from companion.query.feeds import describe_feed
from companion.query.history import load_points
from companion.query.listing import Query
from companion.query.now import View, load_view, make_view
from companion.query.pings import read_buckets, read_pings
from companion.query.row import make_glance, render_row
from companion.query.shared_feeds import SharedFeeds
from companion.query.shared_listing import SharedListing
from companion.query.summary import compute_summary
from companion.query.traces import DeviceTrace, load_packets, render_call_trace, render_recordings, render_trace
from companion.remediation import audit
from companion.remediation.status import remediation_status
from companion.store import sweeps
from companion.store.breakers import load_open_breakers
from companion.store.call_media import load_media
from companion.store.call_quality import load_call_quality
from companion.store.calls import (
    CallRecord,
    load_calls_of_device,
    load_calls_page,
    load_legs,
    load_recent_calls,
)
from companion.store.consumers import find_listeners, find_unrecorded, load_consumers
from companion.store.devices import count_devices, load_device
from companion.store.leases import load_holders
from companion.store.nodes import Feed
from companion.store.recordings import load_recordings
from companion.store.report_budgets import load_refused_reports
from companion.store.store import Store
from companion.store.summary import count_registered, load_summary
from companion.store.traces import load_trace_extent
from companion.text import Json
from companion.times import MINUTE_MS, iso, now_ms
from companion.trace.ladder import StepChoice
from companion.trace.legs import arrange_packets
from companion.usrloc.contact import Device

MIN_POINTS = 10
MAX_POINTS = 2000
MAX_CALLS = 500
LOOKED_AT: Final = 2000
"""Calls among which one is looked for by the beginning of its Call-ID."""


class Reader:
    """Read the store, for any number of threads. It blocks: where an event loop runs, call it from a thread.

    Answers are ready for JSON: times are ISO 8601 in UTC (null for never), those of samples and buckets epoch ms.
    Raises UsageError for a question without answer (NoSuchDeviceError and SeveralDevicesError among them), and the
    store's errors when Redis does not answer.
    """

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store
        self._feeds = SharedFeeds(store)
        self._listing = SharedListing(store, self._view)

    @property
    def is_fleet_large(self) -> bool:
        """Return whether the fleet was large when it was last listed."""
        return self._listing.is_large

    def follow(self) -> None:
        """Take in what changed in the fleet, so that who asks for a list need not wait for it."""
        self._listing.begin().result()

    # Devices

    def devices(self, query: Query) -> Json:
        """Return `{"devices": [row…], "total", "next", "as_of"}`: one page, and the number of devices on all pages.

        Rows are as of a moment ago; their choice and order are as of `as_of`, seconds ago. `next` is null on the last
        page.
        """
        self._feeds.load()  # no old list while Redis is away
        page, glances = self._listing.page(query)
        return {
            "devices": list(map(render_row, glances)),
            "total": page.total,
            "next": page.next,
            "as_of": iso(page.as_of),
        }

    def devices_so_far(self, query: Query) -> Json:
        """Return `{"devices": [row…], "total", "counts", "stored", "is_read"}`, also while the fleet is still read.

        `total` is the number of devices on all pages, and `counts` that of all devices by status: of those that are
        read so far, until `is_read`. `stored` is the number of devices in the store.
        """
        self._feeds.load()  # no old list while Redis is away
        page, glances = self._listing.page_so_far(query)
        return {
            "devices": list(map(render_row, glances)),
            "total": page.total,
            "counts": self._listing.count_devices(),
            "stored": count_devices(self._store),
            "is_read": self._listing.is_read(),
        }

    def worst(self, count: int) -> list[Json]:
        """Return the rows of the worst devices: stale, losing, then those with the highest latency."""
        bad = Query(status=("stale", "losing"), limit=count)
        slow = Query(status=("online",), sort="latency", descending=True, limit=count)
        rows: list[Json] = self.devices(bad)["devices"] + self.devices(slow)["devices"]
        return rows[:count]

    def device(self, name: str, window_ms: int) -> Json:
        """Return the page of a device, as `companion device --json` prints it."""
        view = self._view()
        return render_past(self._find_past(name, view, view.clock.now - window_ms), view, window_ms)

    def latency(self, name: str, window_ms: int, points: int) -> Json:
        """Return a device's pings in at most about `points` (10 to 2000) buckets of one width, without empty ones.

        `buckets` are `[start, min, average, max, answered, lost]`: epoch ms, ms (null where none was answered), counts.
        A ghost's losses are left out.
        """
        if not MIN_POINTS <= points <= MAX_POINTS:
            raise UsageError(f"points = {points} is not between {MIN_POINTS} and {MAX_POINTS}")
        device, view = self._find(name), self._view()
        bucket_ms = -(-window_ms // (points - 1))
        since = (view.clock.now - window_ms) // bucket_ms * bucket_ms
        return {
            "device": device.id,
            "window_seconds": window_ms // 1000,
            "bucket_ms": bucket_ms,
            "buckets": read_buckets(self._store, device, view, since, bucket_ms),
        }

    def timeline(self, name: str, window_ms: int) -> Json:
        """Return what happened to a device and what remediation did, oldest first."""
        device, now = find_device_id(self._store, name), self._view().clock.now
        return {
            "device": device,
            "window_seconds": window_ms // 1000,
            "timeline": render_timeline(self._store, device, now - window_ms, now + MINUTE_MS),
        }

    def news(self, name: str, since_ms: int) -> Json:
        """Return a device's row, and its samples and timeline later than `since_ms` (epoch ms), for live pages."""
        view = self._view()
        past = self._find_past(name, view, since_ms + 1)
        return {**render_row(make_glance(past.device, view)), "samples": past.pings, "timeline": past.timeline}

    # Calls

    def calls(self, name: str, window_ms: int) -> Json:
        """Return the calls of a device that began in the window, newest first; `cut` when there are over MAX_CALLS.

        `refused_reports` counts those of the last hour that exceeded a budget, `refused_why` names it.
        """
        device, now = find_or_accept_device_id(self._store, name), self._view().clock.now
        calls = load_calls_of_device(self._store, device, now - window_ms, MAX_CALLS + 1)
        refused = load_refused_reports(self._store, device)
        if not calls and not refused.number and not has_records(self._store, device):
            raise NoSuchDeviceError(name)
        return {
            "device": device,
            "window_seconds": window_ms // 1000,
            "calls": [render_call_row(call, now) for call in calls[:MAX_CALLS]],
            "cut": len(calls) > MAX_CALLS,
            "refused_reports": refused.number,
            "refused_why": refused.why,
        }

    def fleet_calls(self, window_ms: int, cursor: str = "", limit: int = 50) -> Json:
        """Return a page of calls with a report in the window, the last reported first; `next` is null at the end."""
        now, after = self._view().clock.now, decode_call_cursor(cursor) if cursor else None
        calls, position = load_calls_page(self._store, now - window_ms, limit, after)
        return {
            "window_seconds": window_ms // 1000,
            "calls": [render_call_row(call, now) for call in calls],
            "next": encode_call_cursor(position) if position else None,
        }

    def call(self, call_id: str, name: str = "") -> Json:
        """Return the page of a call as one device reported it; `name` says which where there are several.

        It has the device's pings and timeline from two ping intervals before the call to two after it, on the same
        clock. Raises NoSuchCallError or SeveralCallsError.
        """
        legs, view = list_legs(self._store, call_id), self._view()
        leg = _select_leg(legs, call_id, name)
        margin_ms = 2 * view.clock.interval_ms
        since, until = leg.started_at - margin_ms, (leg.ended_at or leg.last_at) + margin_ms
        device = load_device(self._store, leg.device)
        pings = read_pings(self._store, device, view, since, until) if device else []
        signalling = Signalling(pings, view.clock.interval_ms, view.bounds.poor)
        return {
            **render_call(leg, load_media(self._store, leg), signalling, view.clock.now),
            "timeline": render_timeline(self._store, leg.device, since, until),
            "legs": [one.device for one in legs],
        }

    # Traces

    def trace(self, name: str, method: str = "", call_id: str = "") -> Json:
        """Return the SIP messages of a device as a ladder, of one method or one call where these are given."""
        device = find_device_id(self._store, name)
        choice = StepChoice(method.upper(), call_id)
        return render_trace(self._config, self._store, device, now_ms(), choice)

    def trace_extent(self, device: str) -> tuple[int, int, int]:
        """Return what changes when a trace does: packets, time of the last one (epoch µs), end of the recording."""
        recording = load_recordings(self._store).get(device)
        return (*load_trace_extent(self._store, device), recording.ends_at if recording else 0)

    def trace_packets(self, name: str, call_id: str = "") -> DeviceTrace:
        """Return a device and the packets of its trace, each once, for an export."""
        trace = load_packets(self._store, find_device_id(self._store, name), call_id)
        return trace._replace(packets=arrange_packets(trace.packets))

    def call_trace(self, call_id: str) -> Json:
        """Return the SIP messages of a call, from the traces of all devices that reported it."""
        devices = [leg.device for leg in list_legs(self._store, call_id)]
        return render_call_trace(self._config, self._store, call_id, devices)

    def recordings(self) -> Json:
        """Return the recordings that go on."""
        return {"recordings": render_recordings(self._store, now_ms())}

    # Calls by name

    def call_id(self, beginning: str) -> str:
        """Return a Call-ID by itself, or by its beginning among the newest LOOKED_AT calls.

        Raises NoSuchCallError, or UsageError when several begin so.
        """
        if load_legs(self._store, beginning):
            return beginning
        start = beginning.rstrip("…")
        recent = load_recent_calls(self._store, 0, limit=LOOKED_AT)
        ids = sorted({call.call_id for call in recent if start and call.call_id.startswith(start)})
        if not ids:
            raise NoSuchCallError(beginning)
        if len(ids) > 1:
            raise UsageError("\n  ".join((f"{len(ids)} calls begin with {beginning!r}; say more:", *ids[:10])))
        return ids[0]

    def media(self) -> Json:
        """Return how the calls of the last hour sound, all together; at most some minutes old."""
        return load_call_quality(self._store) or compute_call_quality(self._store, self._view())

    # The fleet

    def summary(self) -> Json:
        """Return the summary of the fleet, as `companion summary --json` prints it; at most some seconds old."""
        return load_summary(self._store) or compute_summary(self._store, self._view())

    def history(self, window_ms: int) -> Json:
        """Return the past of the fleet: at most about 500 `points` of counts, percentiles and loss, oldest first."""
        now = self._view().clock.now
        return {"window_seconds": window_ms // 1000, "points": load_points(self._store, now - window_ms, now)}

    def nodes(self) -> Json:
        """Return the feed of each node, its number of contacts (null before a count), and when `breaker` opened.

        `consumer` writes its events now; null if none does. `heard_by` are the consumers that hear it where the one
        that should record it does not.
        """
        view, store = self._own_view(), self._store
        saved = load_summary(store)
        counts = count_registered(saved) if saved else None
        listeners = find_listeners(load_consumers(store), view.clock.now)
        feeds = {node: Feed(node, self._config.cluster(node)) for node in sorted(listeners)} | view.feeds
        breakers, holders = load_open_breakers(store, list(feeds)), load_holders(store, feeds)
        unrecorded = find_unrecorded(listeners, holders)
        return {
            "nodes": [
                {
                    **describe_feed(feed, view.clock.now),
                    "contacts": None if counts is None else counts.get(name, 0),
                    "breaker": iso(breakers.get(name, 0)),
                    "consumer": holders.get(name),
                    "heard_by": unrecorded.get(name, []),
                }
                for name, feed in sorted(feeds.items())
            ]
        }

    # Remediation

    def remediation(self) -> Json:
        """Return the state of remediation, as `companion remediation status --json` prints it."""
        return remediation_status(self._config, self._store)

    def remediations(self, since: str = "", count: int = 50) -> Json:
        """Return the audit, newest first; `since` is the `next` of the page before, null on the last."""
        entries = audit.page(self._store, since, count)
        return {
            "remediations": [audit.render(entry) for _, entry in entries],
            "next": entries[-1][0] if len(entries) == count else None,
        }

    def pause(self, seconds: float) -> None:
        """Pause remediation for so long, on all companions of this Redis."""
        sweeps.pause(self._store, seconds)

    def switch(self, *, on: bool) -> None:
        """Switch remediation off, so that every companion only observes, or on again."""
        (sweeps.switch_on if on else sweeps.switch_off)(self._store)

    def resume(self) -> None:
        """End a pause."""
        sweeps.resume(self._store)

    def _view(self) -> View:
        """Return the view of now. The readers of a large fleet are many, and share its feeds."""
        return make_view(self._config, self._feeds.load()) if self.is_fleet_large else self._own_view()

    def _own_view(self) -> View:
        return load_view(self._config, self._store)

    def _find(self, name: str) -> Device:
        """Return the device that a person means, mostly by its id."""
        device = load_device(self._store, name) or load_device(self._store, find_device_id(self._store, name))
        if device is None:
            raise NoSuchDeviceError(name)
        return device

    def _find_past(self, name: str, view: View, since: int) -> DevicePast:
        """Return the device that a person means, as `_find` does, with its past since then."""
        past = load_past(self._store, name, view, since) or load_past(
            self._store, find_device_id(self._store, name), view, since
        )
        if past is None:
            raise NoSuchDeviceError(name)
        return past


def list_legs(store: Store, call_id: str) -> list[CallRecord]:
    """Return a call once for each device that reported it, the first to begin first."""
    return sorted(load_legs(store, call_id), key=attrgetter("started_at", "device"))


def _select_leg(legs: Sequence[CallRecord], call_id: str, name: str) -> CallRecord:
    """Return the leg of a device by its id, AOR or instance; without a name the only one."""
    candidates = [leg for leg in legs if not name or name in _names(leg.device)]
    if not candidates:
        raise NoSuchCallError(call_id, name if legs else "")
    if len(candidates) > 1:
        raise SeveralCallsError(call_id, [leg.device for leg in candidates])
    return candidates[0]


def _names(device: str) -> tuple[str, ...]:
    aor, _, instance = device.rpartition("/")
    return device, aor, instance, instance.removeprefix("urn:uuid:")
