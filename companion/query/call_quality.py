"""Compute how the calls of the last hour sound, all together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from companion import sip
from companion.media.e_model import BAND_NAMES
from companion.quality import nearest_rank
from companion.query.calls import render_call_row
from companion.query.now import View
from companion.query.row import select_speaker
from companion.store.calls import CallRecord, count_recent_calls, load_recent_calls
from companion.store.devices import load_devices
from companion.store.store import Store
from companion.text import Json
from companion.times import iso
from companion.usrloc.contact import Device

WINDOW_MS: Final = 3_600_000
MAX_CALLS: Final = 2000
"""The newest calls stand for an hour that has more."""
BANDS: Final[tuple[str, ...]] = (*BAND_NAMES, "unknown")
"""From best to worst; calls without a score are `unknown`."""
PERCENTILES: Final = (10, 50, 90)
WORST_NETWORKS: Final = 10
LEAST_CALLS: Final = 3
"""A network with fewer scored calls is left out: one bad call makes no bad network."""
_MAPPED: Final = ("srflx", "prflx")
"""ICE candidates whose address is one that a NAT gave: that of the network as others see it."""


class LocatedCall(NamedTuple):
    """Hold a call's row and the network its device was in ("" = not known)."""

    row: Json
    network: str


def compute_call_quality(store: Store, view: View) -> Json:
    """Return the quality of the calls with a report in the last hour; `cut` when there were more than MAX_CALLS."""
    since = view.clock.now - WINDOW_MS
    recent = load_recent_calls(store, since, limit=MAX_CALLS)
    networks = _networks(store, view, recent)
    calls = [LocatedCall(render_call_row(call, view.clock.now), networks.get(call.ref, "")) for call in recent]
    total = count_recent_calls(store, since)
    return {
        "at": iso(view.clock.now),
        "window_seconds": WINDOW_MS // 1000,
        "total": total,
        "cut": total > len(recent),
        **add_up(calls),
    }


def add_up(calls: Sequence[LocatedCall]) -> Json:
    """Return the figures of all calls: each call counts once in a mean, and a mean of nothing is null."""
    rows = [call.row for call in calls]
    paths = [row["relay"] for row in rows if row["relay"] is not None]
    return {
        "calls": len(rows),
        "live": sum(row["live"] for row in rows),
        "scored": sum(row["mos"] is not None for row in rows),
        "mos": compute_percentiles([row["mos"] for row in rows if row["mos"] is not None]),
        "bands": count_bands(rows),
        "loss_percent": _mean(rows, "loss_percent"),
        "rtt_ms": _mean(rows, "rtt_ms"),
        "relay_share": round(sum(paths) / len(paths), 4) if paths else None,
        "switch_overs": sum(row["switch_overs"] for row in rows),
        "networks": list_worst_networks(calls),
    }


def count_bands(rows: Iterable[Json]) -> dict[str, int]:
    """Return the number of calls in each band."""
    counts = Counter(row["band"] or "unknown" for row in rows)
    return {name: counts[name] for name in BANDS}


def compute_percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return nearest-rank percentiles, null without values: one call in ten is no better than `p10`.

    >>> compute_percentiles([4.4, 4.3, 4.2, 1.9])
    {'p10': 1.9, 'p50': 4.2, 'p90': 4.4}
    """
    ordered = sorted(values)
    return {f"p{percent}": nearest_rank(ordered, percent) for percent in PERCENTILES}


def list_worst_networks(calls: Iterable[LocatedCall]) -> list[Json]:
    """Return the networks with the lowest mean MOS, the worst first, without those of few calls."""
    rows: defaultdict[str, list[Json]] = defaultdict(list)
    for call in calls:
        if call.network and call.row["mos"] is not None:
            rows[call.network].append(call.row)
    networks = [_add_up_network(name, group) for name, group in rows.items() if len(group) >= LEAST_CALLS]
    return sorted(networks, key=lambda network: (network["mos"], network["network"]))[:WORST_NETWORKS]


def _add_up_network(name: str, rows: Sequence[Json]) -> Json:
    return {
        "network": name,
        "calls": len(rows),
        "devices": len({row["device"] for row in rows}),
        "mos": _mean(rows, "mos"),
        "loss_percent": _mean(rows, "loss_percent"),
        "rtt_ms": _mean(rows, "rtt_ms"),
        "relay_share": round(fmean(bool(row["relay"]) for row in rows), 4),
    }


def _mean(rows: Iterable[Json], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return round(fmean(values), 2) if values else None


def _networks(store: Store, view: View, calls: Sequence[CallRecord]) -> dict[str, str]:
    """Return the network of each call, by its ref: as STUN showed it, else the one its device is registered from."""
    networks = {call.ref: _mapped(call) for call in calls}
    unknown = {call.device for call in calls if not networks[call.ref]}
    registered = {device.id: _registered(view, device) for device in load_devices(store, sorted(unknown))}
    return {call.ref: networks[call.ref] or registered.get(call.device, "") for call in calls}


def _mapped(call: CallRecord) -> str:
    path = call.totals.path or {}
    return sip.network_prefix(path.get("local_address", "")) if path.get("local") in _MAPPED else ""


def _registered(view: View, device: Device) -> str:
    current = select_speaker(device.contacts, [view.status(contact) for contact in device.contacts])
    if current is None:
        return ""
    address = sip.network_address(current.registration.received, current.binding.uri)
    return sip.network_prefix(address.rpartition(":")[0])
