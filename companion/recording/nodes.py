"""Bring the traces of each OpenSIPS in line with what is recorded."""

import asyncio
from collections.abc import Iterable

from companion.config import BridgeSection, Config, OpensipsSection
from companion.errors import ConfigError, MiCallError, MiError
from companion.opensips.mi import Mi, open_mi
from companion.opensips.tracer import MISSING_CODES, hep_destination, load_traces, start_trace, stop_trace
from companion.recording.plan import NodePlan, RecordedDevice, compare, plan_traces
from companion.store.devices import load_devices
from companion.store.recordings import load_recordings, load_spelling
from companion.store.store import Store
from companion.times import now_ms
from companion.trace.filters import parse_traces

LOAD_TRACER = "tracer and proto_hep are not loaded: `companion doctor` prints the lines of opensips.cfg"


def load_recorded(store: Store) -> list[RecordedDevice]:
    """Return the devices that are recorded now."""
    now = now_ms()
    active = {device: one for device, one in load_recordings(store).items() if not one.is_over(now)}
    devices = load_devices(store, sorted(active))
    return [RecordedDevice(active[device.id], device, load_spelling(store, device.id)) for device in devices]


async def update_nodes(
    config: Config, recorded: Iterable[RecordedDevice], ours: Iterable[str], nodes: Iterable[str] | None = None
) -> dict[str, str]:
    """Start and stop traces on some nodes, all by default; return what failed, by node.

    `ours` are the devices whose traces may be stopped.
    """
    plan, devices = plan_traces(recorded, config), list(ours)
    tables = [table for table in config.opensips if nodes is None or table.node in set(nodes)]
    failures = await asyncio.gather(
        *(_update_node(table, config.bridge, plan[table.node], devices) for table in tables)
    )
    return {table.node: failure for table, failure in zip(tables, failures, strict=True) if failure}


async def _update_node(table: OpensipsSection, bridge: BridgeSection, node_plan: NodePlan, ours: Iterable[str]) -> str:
    """Return what failed, "" if nothing did."""
    try:
        destination = hep_destination(table, bridge)
        async with open_mi(table) as mi:
            await _update(mi, destination, node_plan, ours)
    except MiCallError as error:
        return LOAD_TRACER if error.code in MISSING_CODES else str(error)
    except (MiError, ConfigError) as error:
        return str(error)
    return ""


async def _update(mi: Mi, destination: str, node_plan: NodePlan, ours: Iterable[str]) -> None:
    changes = compare(node_plan, parse_traces(await load_traces(mi)), ours, now_ms())
    for trace_id in changes.stop:
        await stop_trace(mi, str(trace_id))
    for trace_id, trace_filter in changes.start.items():
        await start_trace(mi, str(trace_id), destination, trace_filter)
