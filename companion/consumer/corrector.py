"""Apply corrections of contacts, which reconciling found, to the contacts in memory."""

from collections.abc import Iterable, Sequence
from typing import Final

from companion import log, metrics, sip
from companion.errors import InvalidInputError
from companion.store.connection import Command
from companion.store.corrections import (
    Correction,
    Gone,
    Identified,
    Present,
    decode_correction,
    kind_of,
    load_corrections,
    prepare_removal,
)
from companion.store.nodes import Feed
from companion.store.store import Store
from companion.times import now_ms
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding
from companion.usrloc.corrections import Corrections
from companion.usrloc.picture import Usrloc

LIMIT: Final = 1000
"""Corrections that are taken at once: a few tens of milliseconds of work."""

StreamEntry = tuple[str, str, str]
"""(entry id of the stream, kind, JSON)"""

logger = log.get(__name__)


class Corrector:
    """Track how far the corrections of each node are applied, and which of them still have to be deleted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._applied_to: dict[str, str] = {}
        self._applied: dict[str, list[str]] = {}

    def read(self, node: str) -> list[StreamEntry]:
        """Return the corrections of a node behind the applied ones. Blocking."""
        after = self._applied_to.get(node, "")
        return load_corrections(self._store, node, after, LIMIT)

    def apply(self, entries: Sequence[StreamEntry], batch: Iterable[Correction], usrloc: Usrloc, feed: Feed) -> None:
        """Apply the corrections in these entries of a node; their `unloaded` contacts must be in memory by now."""
        for correction in batch:
            outcome = _apply(correction, usrloc, feed)
            metrics.CORRECTIONS.labels(kind_of(correction), outcome).inc()
        self._applied_to[feed.node] = entries[-1][0]
        self._applied.setdefault(feed.node, []).extend(entry for entry, _, _ in entries)

    def deletions(self) -> list[Command]:
        """Return the commands that delete the applied entries, to be written together with the changes."""
        commands: list[Command] = []
        for node, entries in self._applied.items():
            commands += prepare_removal(self._store.keys, node, entries)
        self._applied.clear()
        return commands

    def clear(self) -> None:
        self._applied_to.clear()
        self._applied.clear()


def decode(entries: Iterable[StreamEntry]) -> list[Correction]:
    """Return the corrections in these entries; one that can not be read is counted and left out."""
    return [correction for _, kind, text in entries if (correction := _decode(kind, text))]


def unloaded(batch: Iterable[Correction], usrloc: Usrloc) -> dict[Binding, str]:
    """Return the contacts of these corrections that must be loaded first, with the devices that they may move to."""
    contacts: dict[Binding, str] = {}
    for correction in batch:
        binding = correction.binding
        instance = "" if isinstance(correction, Gone) else correction.instance
        device = sip.device_id(binding.aor, binding.uri, instance)
        if usrloc.devices.find(binding) is None or (instance and device not in usrloc.devices.by_id):
            contacts[binding] = device
    return contacts


def _decode(kind: str, text: str) -> Correction | None:
    try:
        return decode_correction(kind, text)
    except InvalidInputError as error:
        metrics.INVALID.labels("corrections", error.reason).inc()
        logger.warning("an invalid correction was ignored", detail=error.detail[:200])
        return None


def _apply(correction: Correction, usrloc: Usrloc, feed: Feed) -> str:
    binding = correction.binding
    try:
        if isinstance(correction, Identified):
            stamp = Stamp(feed.node, feed.cluster, now_ms(), feed.run)
            changed = usrloc.corrections.identify(binding, correction.instance, stamp)
        else:
            stamp = Stamp(feed.node, feed.cluster, correction.as_of, feed.run)
            changed = _end_or_adopt(usrloc.corrections, correction, stamp)
    except Exception:
        logger.exception("a correction could not be applied", kind=kind_of(correction))
        return "error"
    if isinstance(correction, Present) and binding not in usrloc.devices.contacts:
        return "left_out"
    return "applied" if changed else "overtaken"


def _end_or_adopt(corrections: Corrections, correction: Gone | Present, stamp: Stamp) -> bool:
    if isinstance(correction, Gone):
        return corrections.end_missing(correction.binding, stamp)
    instance, latency_ms = correction.instance, correction.latency_ms
    return corrections.adopt(
        correction.binding, correction.registration, stamp, instance=instance, latency_ms=latency_ms
    )
