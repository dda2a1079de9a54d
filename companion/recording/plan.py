"""Plan which traces each OpenSIPS has to have for the devices that are recorded. No I/O."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from companion.config import Config, OpensipsSection
from companion.store.recordings import Recording
from companion.trace.filters import TraceId, choose_filters, digest, make_id
from companion.usrloc.contact import Device

MAX_TRACES: Final = 200
"""Traces of one node above which those of old contacts are stopped."""

NodePlan = dict[TraceId, str]
"""The filter of each trace, by its id."""


class RecordedDevice(NamedTuple):
    """Hold what a plan needs of a recording; `spelling` is the AOR as the device's messages write it."""

    recording: Recording
    device: Device
    spelling: str = ""


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


def find_ended(node_plan: NodePlan, active: Sequence[TraceId], ours: Iterable[str], now: int) -> set[TraceId]:
    """Return which of the traces that a node has are to be stopped; `now` is epoch ms.

    It is what is overdue, whoever started it, and what belongs to one of `ours` (devices) that has no such plan any
    more. Traces of old contacts stay while their device is recorded, up to a limit: to stop one disturbs others.
    Other traces may be those of another companion with a store of its own.
    """
    plans = {one.device: one.ends_at for one in node_plan}
    digests = set(map(digest, ours))
    ended = {one for one in active if one not in node_plan and one.ends_at * 1000 <= now}
    for one in active:
        is_old_contact = plans.get(one.device) == one.ends_at and len(active) <= MAX_TRACES
        if one not in node_plan and one.device in digests and not is_old_contact:
            ended.add(one)
    return ended
