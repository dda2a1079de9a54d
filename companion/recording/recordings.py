"""Start and stop recordings when somebody asks for it, and say which there are."""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from companion import log, metrics
from companion.config import Config
from companion.errors import CanNotRecordError, NoSuchDeviceError
from companion.query.device_ids import find_device_id
from companion.recording.nodes import update_nodes
from companion.recording.plan import choose_nodes
from companion.store.devices import load_device
from companion.store.recordings import (
    Recording,
    append_recording_entry,
    delete_recording,
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

    Raises NoSuchDeviceError, SeveralDevicesError, and CanNotRecordError where no node can mirror its messages.
    """
    device = await asyncio.to_thread(find_device_id, store, name)
    nodes = await asyncio.to_thread(_load_nodes, config, store, device)
    now = now_ms()
    recording = Recording(device, by, now, now + minutes * MINUTE_MS)
    if not await asyncio.to_thread(save_recording, store, recording, config.trace.max_recordings):
        _refuse(
            f"{config.trace.max_recordings} devices are recorded already", "stop one, or raise [trace] max_recordings"
        )
    failures = await update_nodes(config, store, [device], nodes)
    if len(failures) == len(nodes):
        await asyncio.to_thread(delete_recording, store, device)
        node, reason = next(iter(failures.items()))
        _refuse(f"{node} can not be asked to mirror its messages", reason)
    await asyncio.to_thread(append_recording_entry, store, device, "recording-started", by, minutes)
    metrics.RECORDINGS.labels("started").inc()
    logger.info("a device is recorded", device=device, by=by, minutes=minutes, failures=dict(failures))
    return Started(recording, failures)


async def stop_recording(config: Config, store: Store, name: str, by: str) -> tuple[str, Mapping[str, str]]:
    """End a recording; return the device, and what failed by node: the scheduler then stops the traces.

    Raises NoSuchDeviceError, SeveralDevicesError, and CanNotRecordError where it is not recorded.
    """
    device = await asyncio.to_thread(find_device_id, store, name)
    if not await asyncio.to_thread(delete_recording, store, device):
        raise CanNotRecordError(f"{device} is not recorded", "`companion trace status` lists the recordings")
    await asyncio.to_thread(append_recording_entry, store, device, "recording-stopped", by)
    metrics.RECORDINGS.labels("stopped").inc()
    logger.info("a recording was stopped", device=device, by=by)
    return device, await update_nodes(config, store, [device])


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
        _refuse("no [[opensips]] is configured", "add a table with node and mi_url for each OpenSIPS")
    if not config.bridge.hep and not any(table.hep_to for table in tables):
        _refuse("SIP messages can not be received", SET_HEP)
    return [table.node for table in tables]


def _refuse(detail: str, remedy: str) -> None:
    metrics.RECORDINGS.labels("refused").inc()
    raise CanNotRecordError(detail, remedy)
