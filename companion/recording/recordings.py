"""Start and stop recordings when somebody asks for it, and say which there are."""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from companion import log, metrics
from companion.config import Config
from companion.errors import CanNotRecordError, NoSuchDeviceError
from companion.query.device_ids import find_device_id
from companion.recording.audit import record_refusal, record_start, record_stop
from companion.recording.nodes import update_nodes
from companion.recording.plan import choose_nodes
from companion.store.devices import load_device
from companion.store.recordings import (
    Recording,
    delete_recording,
    load_recordings,
    restore_recording,
    save_recording,
)
from companion.store.store import Store
from companion.times import MINUTE_MS, now_ms

DEFAULT_MINUTES: Final = 15
MAX_MINUTES: Final = 120
SET_HEP: Final = (
    'set [bridge] hep = "udp:127.0.0.1:9060", and load tracer and proto_hep in OpenSIPS; '
    "`companion doctor` prints all lines"
)

logger = log.get(__name__)


class Started(NamedTuple):
    """Hold a recording that was started, and why some nodes do not take part yet, by node."""

    recording: Recording
    failures: Mapping[str, str]


async def start_recording(config: Config, store: Store, name: str, minutes: int, by: str) -> Started:
    """Record a device for so many minutes; a recording that goes on gets the new end.

    Raises NoSuchDeviceError, SeveralDevicesError, and CanNotRecordError where no node can mirror its messages: then a
    recording that goes on keeps its end.
    """
    device = await asyncio.to_thread(find_device_id, store, name)
    now = now_ms()
    try:
        started = await _start(config, store, Recording(device, by, now, now + minutes * MINUTE_MS))
    except CanNotRecordError as error:
        metrics.RECORDINGS.labels("refused").inc()
        await asyncio.to_thread(record_refusal, store, device, by, minutes, str(error))
        raise
    metrics.RECORDINGS.labels("started").inc()
    await asyncio.to_thread(record_start, store, device, by, minutes, _describe(started.failures))
    logger.info("a device is recorded", device=device, by=by, minutes=minutes, failures=dict(started.failures))
    return started


async def _start(config: Config, store: Store, recording: Recording) -> Started:
    device = recording.device
    nodes = await asyncio.to_thread(_load_nodes, config, store, device)
    earlier = (await asyncio.to_thread(load_recordings, store)).get(device)
    if not await asyncio.to_thread(save_recording, store, recording, config.trace.max_recordings):
        raise CanNotRecordError(
            f"{config.trace.max_recordings} devices are recorded already", "stop one, or raise [trace] max_recordings"
        )
    failures = await update_nodes(config, store, [device], nodes)
    if len(failures) == len(nodes):
        await asyncio.to_thread(restore_recording, store, device, earlier)
        node, reason = next(iter(failures.items()))
        raise CanNotRecordError(f"{node} can not be asked to mirror its messages", reason)
    return Started(recording, failures)


async def stop_recording(config: Config, store: Store, name: str, by: str) -> tuple[str, Mapping[str, str]]:
    """End a recording; return the device, and what failed by node: the scheduler then stops the traces.

    Raises NoSuchDeviceError, SeveralDevicesError, and CanNotRecordError where it is not recorded.
    """
    device = await asyncio.to_thread(find_device_id, store, name)
    if not await asyncio.to_thread(delete_recording, store, device):
        raise CanNotRecordError(f"{device} is not recorded", "`companion trace status` lists the recordings")
    metrics.RECORDINGS.labels("stopped").inc()
    await asyncio.to_thread(record_stop, store, device, by)
    logger.info("a recording was stopped", device=device, by=by)
    return device, await update_nodes(config, store, [device])


def _describe(failures: Mapping[str, str]) -> str:
    """Return what failed at which nodes, "" if nothing did."""
    return "; ".join(f"{node}: {reason}" for node, reason in failures.items())


class Recordings:
    """Start and stop recordings for the API and the dashboard."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store

    async def start(self, name: str, minutes: int, by: str) -> Started:
        """Record a device, as `start_recording` does."""
        return await start_recording(self._config, self._store, name, minutes, by)

    async def stop(self, name: str, by: str) -> tuple[str, Mapping[str, str]]:
        """End a recording, as `stop_recording` does."""
        return await stop_recording(self._config, self._store, name, by)


def _load_nodes(config: Config, store: Store, device_id: str) -> list[str]:
    """Return the nodes to ask. Raises CanNotRecordError where there is none, or no address for their messages."""
    device = load_device(store, device_id)
    if device is None:
        raise NoSuchDeviceError(device_id)
    tables = choose_nodes(device, config)
    if not tables:
        raise CanNotRecordError("no [[opensips]] is configured", "add a table with node and mi_url for each OpenSIPS")
    if not config.bridge.hep and not any(table.hep_to for table in tables):
        raise CanNotRecordError("SIP messages can not be received", SET_HEP)
    return [table.node for table in tables]
