"""Read what changes: one device, or the fleet. Blocking: pollers run in a thread."""

import json
from typing import Any, Final, NamedTuple, Protocol

from fastapi.sse import format_sse_event

from companion.query.reader import Reader
from companion.text import Json
from companion.times import epoch_ms

OVERLAP_MS: Final = 60_000
"""Events of one device may become visible in another order than they happened, by so much."""


class Event(NamedTuple):
    """Represent one event of a stream; `at` (epoch ms, 0 = none) is its id, for Last-Event-ID."""

    name: str
    data: Any
    at: int = 0

    def encode(self) -> bytes:
        text = json.dumps(self.data, separators=(",", ":"))
        return format_sse_event(event=self.name, data_str=text, id=str(self.at) if self.at else None)


class EventSource(Protocol):
    """Read for one poller. The first poll finds where to begin, and its events are dropped."""

    def first(self, since: int) -> list[Event]:
        """Return the present state, and what happened after `since` (epoch ms, 0 = nothing): for a new subscriber."""

    def poll(self) -> list[Event]:
        """Return what is new since the last poll."""


class DeviceSource:
    """Read one device: `sample` and `timeline` as they come, `status` when its row has changed."""

    def __init__(self, reader: Reader, device: str, now: int) -> None:
        self._reader = reader
        self._device = device
        self._newest = now
        self._sent: frozenset[bytes] = frozenset()
        self._row: Json = {}

    def first(self, since: int) -> list[Event]:
        row, events = _read_news(self._reader.news(self._device, since or self._newest))
        return [Event("status", row), *(event for event in events if since)]

    def poll(self) -> list[Event]:
        row, events = _read_news(self._reader.news(self._device, self._newest - OVERLAP_MS))
        frames = [event.encode() for event in events]
        new = [event for event, frame in zip(events, frames, strict=True) if frame not in self._sent]
        new += [Event("status", row)] if row != self._row else []
        self._newest = max([self._newest, *(event.at for event in events)])
        self._sent, self._row = frozenset(frames), row
        return new


class FleetSource:
    """Read the fleet: `summary`, `nodes` and `remediation`, each when it has changed."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._gists: dict[str, Any] = {}

    def first(self, since: int) -> list[Event]:  # noqa: ARG002 - there is only the present state
        reader = self._reader
        return [
            Event("summary", reader.summary()),
            Event("nodes", reader.nodes()),
            Event("remediation", reader.remediation()),
        ]

    def poll(self) -> list[Event]:
        events = self.first(0)
        gists = {event.name: _gist(event) for event in events}
        changed = [event for event in events if gists[event.name] != self._gists.get(event.name)]
        self._gists = gists
        return changed


def _read_news(news: Json) -> tuple[Json, list[Event]]:
    """Return a device's row, and what is new of it in the order it happened."""
    row = dict(news)
    samples = [Event("sample", list(sample), sample[0]) for sample in row.pop("samples")]
    entries = [Event("timeline", entry, epoch_ms(entry["at"])) for entry in row.pop("timeline")]
    return row, sorted([*samples, *entries], key=lambda event: event.at)


def _gist(event: Event) -> Any:
    """Return what of an event makes it a new one: without clocks, and without what another event holds."""
    if event.name == "nodes":
        return [_without(node, "heartbeat_at", "said_at") for node in event.data["nodes"]]
    return _without(event.data, "at", "nodes", "paused_seconds"), bool(event.data.get("paused_seconds"))


def _without(members: Json, *names: str) -> Json:
    return {name: value for name, value in members.items() if name not in names}
