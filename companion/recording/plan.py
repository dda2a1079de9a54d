"""Plan which traces each OpenSIPS has to have for the devices that are recorded. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from companion.config import Config, OpensipsSection
from companion.store.recordings import Recording
from companion.trace.filters import TraceId, choose_filters, digest, make_id
from companion.usrloc.contact import Device

NodePlan = dict[TraceId, str]
"""The filter of each trace, by its id."""


class RecordedDevice(NamedTuple):
    """Hold what a plan needs of a recording; `spelling` is the AOR as the device's messages write it."""

    recording: Recording
    device: Device
    spelling: str = ""


class TraceChanges(NamedTuple):
    """Hold what an OpenSIPS has to start and to stop."""

    start: NodePlan
    stop: tuple[TraceId, ...]


def choose_nodes(device: Device, config: Config) -> tuple[OpensipsSection, ...]:
    """Return the nodes of the clusters where a device is registered, or was; all where nothing is stored."""
    live = {contact.binding.cluster for contact in device.contacts if not contact.ended_at}
    clusters = live or {contact.binding.cluster for contact in device.contacts}
    tables = tuple(table for table in config.opensips if config.cluster(table.node) in clusters)
    return tables or config.opensips


def plan_traces(recorded: Iterable[RecordedDevice], config: Config) -> dict[str, NodePlan]:
    """Return the traces that each node of the configuration has to have."""
    plan: dict[str, NodePlan] = {table.node: {} for table in config.opensips}
    for recording, device, spelling in recorded:
        filters = choose_filters(device, [spelling] if spelling else ())
        node_plan = {make_id(recording.ends_at, device.id, one): one for one in filters}
        for table in choose_nodes(device, config):
            plan[table.node] |= node_plan
    return plan


def compare(node_plan: Mapping[TraceId, str], active: Sequence[TraceId], ours: Iterable[str], now: int) -> TraceChanges:
    """Return what to change on a node that has the traces `active`; `now` is epoch ms.

    Stopped is what is overdue, whoever started it, and what belongs to one of `ours` (devices) and is wanted no more.
    Other traces may be those of another companion with a store of its own.
    """
    digests = set(map(digest, ours))
    stop = [one for one in active if one not in node_plan and (one.ends_at * 1000 <= now or one.device in digests)]
    return TraceChanges({one: node_plan[one] for one in node_plan if one not in set(active)}, tuple(stop))
