"""How the media of the whole fleet is: what the calls of an hour add up to. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Final, NamedTuple

from companion.media import e_model
from companion.quality import nearest_rank
from companion.text import Json

BANDS: Final[tuple[str, ...]] = (*(name for _, name in e_model.BANDS), "bad", "unknown")
"""From best to worst, and calls of which too little is known."""
PERCENTILES: Final = (10, 50, 90)
WORST_NETWORKS: Final = 10
LEAST_CALLS: Final = 3
"""A network is told of when so many of its calls were scored: one bad call makes no bad network."""


class Heard(NamedTuple):
    """A call as a list tells of it, and the network its device was in ("" = not known)."""

    row: Json
    network: str


def add_up(calls: Sequence[Heard]) -> Json:
    """What calls add up to: means over calls, each of which counts once, null of none."""
    rows = [call.row for call in calls]
    paths = [row["relay"] for row in rows if row["relay"] is not None]
    return {
        "calls": len(rows),
        "live": sum(row["live"] for row in rows),
        "scored": sum(row["mos"] is not None for row in rows),
        "mos": percentiles([row["mos"] for row in rows if row["mos"] is not None]),
        "bands": bands(rows),
        "loss_percent": _mean(rows, "loss_percent"),
        "rtt_ms": _mean(rows, "rtt_ms"),
        "relay_share": round(sum(paths) / len(paths), 4) if paths else None,
        "switch_overs": sum(row["switch_overs"] for row in rows),
        "networks": worst_networks(calls),
    }


def bands(rows: Iterable[Json]) -> dict[str, int]:
    """How many calls are in each band."""
    counts = Counter(row["band"] or "unknown" for row in rows)
    return {name: counts[name] for name in BANDS}


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Nearest-rank percentiles, null of nothing: `p10` is what one call in ten does not do better than.

    >>> percentiles([4.4, 4.3, 4.2, 1.9])
    {'p10': 1.9, 'p50': 4.2, 'p90': 4.4}
    """
    ordered = sorted(values)
    return {f"p{percent}": nearest_rank(ordered, percent) for percent in PERCENTILES}


def worst_networks(calls: Iterable[Heard]) -> list[Json]:
    """The networks whose calls sound worst in the mean, worst first; those with few calls are left out."""
    rows: defaultdict[str, list[Json]] = defaultdict(list)
    for call in calls:
        if call.network and call.row["mos"] is not None:
            rows[call.network].append(call.row)
    told = [_network(name, of_it) for name, of_it in rows.items() if len(of_it) >= LEAST_CALLS]
    return sorted(told, key=lambda network: (network["mos"], network["network"]))[:WORST_NETWORKS]


def _network(name: str, rows: Sequence[Json]) -> Json:
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
