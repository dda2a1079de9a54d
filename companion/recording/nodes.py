"""Bring the traces of each OpenSIPS in line with what is recorded."""

import asyncio
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from companion.config import BridgeSection, Config, OpensipsSection
from companion.errors import ConfigError, MiCallError, MiError
from companion.opensips.mi import Mi, open_mi
from companion.opensips.tracer import MISSING_CODES, hep_destination, load_traces, start_trace, stop_trace
from companion.recording.plan import NodePlan, RecordedDevice, find_ended, plan_traces
from companion.store.devices import load_devices
from companion.store.locks import HeldLock
from companion.store.recordings import acquire_tracer, load_recordings, load_spelling
from companion.store.store import Store
from companion.times import now_ms
from companion.trace.filters import TraceId, parse_traces

LOCK_SECONDS: Final = 10.0
LOCK_PAUSE_SECONDS: Final = 0.1
LOAD_TRACER: Final = "tracer and proto_hep are not loaded: `companion doctor` prints the lines of opensips.cfg"


def load_recorded(store: Store) -> list[RecordedDevice]:
    """Return the devices that are recorded now."""
    now = now_ms()
    active = {device: one for device, one in load_recordings(store).items() if not one.is_over(now)}
    devices = load_devices(store, sorted(active))
    return [RecordedDevice(active[device.id], device, load_spelling(store, device.id)) for device in devices]


async def update_nodes(
    config: Config, store: Store, ours: Iterable[str], nodes: Iterable[str] | None = None
) -> dict[str, str]:
    """Start and stop traces on some nodes, all by default; return what failed, by node.

    `ours` are the devices whose traces may be stopped. One process at a time does so: to stop a trace may take others
    away for a moment.
    """
    lock = await _wait_for_lock(store)
    try:
        return await _update_nodes(config, await asyncio.to_thread(load_recorded, store), list(ours), nodes)
    finally:
        if lock:
            await asyncio.to_thread(lock.release)


async def _wait_for_lock(store: Store) -> HeldLock | None:
    """Return the lock, None where another process holds it for longer than anybody should."""
    for _ in range(round(LOCK_SECONDS / LOCK_PAUSE_SECONDS)):
        lock = await asyncio.to_thread(acquire_tracer, store)
        if lock:
            return lock
        await asyncio.sleep(LOCK_PAUSE_SECONDS)
    return None


async def _update_nodes(
    config: Config, recorded: Iterable[RecordedDevice], devices: Sequence[str], nodes: Iterable[str] | None
) -> dict[str, str]:
    plan = plan_traces(recorded, config)
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
    active = parse_traces(await load_traces(mi))
    ended = find_ended(node_plan, active, ours, now_ms())
    if ended:
        active = await _stop_traces(mi, active, ended)
    for trace_id in node_plan.keys() - set(active):
        await start_trace(mi, str(trace_id), destination, node_plan[trace_id])


async def _stop_traces(mi: Mi, active: Sequence[TraceId], ended: AbstractSet[TraceId]) -> list[TraceId]:
    """Stop traces, and return those that OpenSIPS has afterwards.

    OpenSIPS 3.4 to 4.0 end only the first dynamic trace of their list, and answer OK for any other. So all that stand
    before one are stopped as well, and started again by the caller. A trace that is not ours may be in the way.
    """
    last = max(n for n, one in enumerate(active) if one in ended)
    for trace_id in active[: last + 1]:
        await stop_trace(mi, str(trace_id))
    left = parse_traces(await load_traces(mi))
    if ended & set(left):
        raise MiError("OpenSIPS does not end some traces: a dynamic trace that is not ours stands before them")
    return left
