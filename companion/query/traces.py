"""Read the trace of a device or a call as a ladder, ready for JSON."""

from collections.abc import Iterable
from typing import Final, NamedTuple
from urllib.parse import quote

from companion.config import Config
from companion.credentials import mask
from companion.errors import InvalidPacketError
from companion.store.devices import load_device
from companion.store.recordings import Recording, load_recordings
from companion.store.store import Store
from companion.store.traces import load_trace, load_trace_extent
from companion.text import Json
from companion.times import iso
from companion.trace.export import format_time, show_text
from companion.trace.ladder import ALL_STEPS, Ladder, Participant, Step, StepChoice, build_ladder, select_steps
from companion.trace.matching import trace_addresses
from companion.trace.message import parse
from companion.trace.packet import Packet, unpack
from companion.usrloc.contact import Device

MAX_STEPS: Final = 1000
"""Steps of one answer: the newest."""
MAX_READ_BYTES: Final = 32 << 20
"""Bytes of messages that are read for one answer: the newest. 5,000 messages of web phones have 6 MB."""
CHUNK: Final = 200
"""Packets that are read from Redis at once."""


class DeviceTrace(NamedTuple):
    """Hold packets of a device, oldest first; `is_cut` when older ones were left out."""

    device: str
    packets: list[Packet]
    is_cut: bool


def load_packets(store: Store, device: str, call_id: str = "", max_bytes: int = MAX_READ_BYTES) -> DeviceTrace:
    """Return the newest packets of a device, of one call alone where this is given.

    At most `max_bytes` are unpacked: a trace that takes 4 MB in Redis may have a hundred times as much to read. What
    can not be read is left out.
    """
    packets: list[Packet] = []
    skip = count = 0
    while chunk := load_trace(store, device, skip, CHUNK):
        skip += len(chunk)
        for packet in filter(None, map(_read, reversed(chunk))):
            count += len(packet.sip)
            if count > max_bytes:
                return DeviceTrace(device, packets[::-1], is_cut=True)
            if not call_id or _find_call_id(packet) == call_id:
                packets.append(packet)
    return DeviceTrace(device, packets[::-1], is_cut=False)


def _read(packed: bytes) -> Packet | None:
    try:
        return unpack(packed)
    except InvalidPacketError:
        return None


def _find_call_id(packet: Packet) -> str:
    try:
        return parse(packet.sip).call_id
    except InvalidPacketError:
        return ""


def render_recording(recording: Recording) -> Json:
    """Return a recording as people and machines read it."""
    return {
        "device": recording.device,
        "by": recording.by,
        "started_at": iso(recording.started_at),
        "ends_at": iso(recording.ends_at),
    }


def render_recordings(store: Store, now: int) -> list[Json]:
    """Return the recordings that go on, the first to end first, each with the number of messages in its trace."""
    active = sorted(
        (one for one in load_recordings(store).values() if not one.is_over(now)), key=lambda one: one.ends_at
    )
    return [{**render_recording(one), "messages": load_trace_extent(store, one.device)[0]} for one in active]


def render_trace(config: Config, store: Store, device_id: str, now: int, choice: StepChoice) -> Json:
    """Return the trace of a device: its recording, who took part, the newest MAX_STEPS steps, and an explanation."""
    trace = load_packets(store, device_id, max_bytes=MAX_READ_BYTES)
    recording = load_recordings(store).get(device_id)
    return {
        "device": device_id,
        "recording": render_recording(recording) if recording and not recording.is_over(now) else None,
        **_render_ladder(config, make_ladder(store, [device_id], trace.packets), choice, is_cut=trace.is_cut),
    }


def render_call_trace(config: Config, store: Store, call_id: str, devices: Iterable[str]) -> Json:
    """Return the trace of one call, from the traces of all devices that took part in it."""
    ids = list(devices)
    traces = [load_packets(store, device, call_id, MAX_READ_BYTES // len(ids)) for device in ids]
    ladder = make_ladder(store, ids[:1], [packet for trace in traces for packet in trace.packets])
    return _render_ladder(config, ladder, is_cut=any(trace.is_cut for trace in traces))


def make_ladder(store: Store, devices: Iterable[str], packets: list[Packet]) -> Ladder:
    """Return the ladder of packets; the addresses of these devices are the phone."""
    stored = [device for device_id in devices if (device := load_device(store, device_id))]
    phones = [address for device in stored for address in trace_addresses(device)]
    return build_ladder(packets, phones, _sockets(stored))


def _sockets(devices: Iterable[Device]) -> Iterable[str]:
    """Return the listening sockets of OpenSIPS, `ip:port`."""
    for device in devices:
        for contact in device.contacts:
            _, _, address = contact.registration.socket.partition(":")
            if address:
                yield address


def _render_ladder(config: Config, ladder: Ladder, choice: StepChoice = ALL_STEPS, *, is_cut: bool) -> Json:
    steps = select_steps(ladder.steps, choice)
    explanation = ladder.explanation
    return {
        "total": len(ladder.steps),
        "cut": is_cut or len(steps) > MAX_STEPS,
        "methods": sorted({step.kind for step in ladder.steps if step.kind not in ("ACK", "CANCEL", "")}),
        "call_ids": list(dict.fromkeys(mask(step.call_id) for step in ladder.steps)),
        "participants": [_render_participant(one) for one in ladder.participants],
        "explanation": {"text": mask(explanation.text), "step": explanation.number} if explanation else None,
        "shared": any(step.is_shared for step in steps),
        "steps": [_render_step(config, step) for step in steps[-MAX_STEPS:]],
    }


def _render_participant(one: Participant) -> Json:
    return {"role": one.role, "name": one.name, "addresses": list(one.addresses)}


def _render_step(config: Config, step: Step) -> Json:
    packet = step.packet
    template = config.trace.homer_url
    return {
        "number": step.number,
        "at": format_time(step.at_us),
        "at_us": step.at_us,
        "from": step.start,
        "to": step.end,
        "label": mask(step.label),
        "method": step.kind,
        "call_id": mask(step.call_id),
        "cseq": step.cseq,
        "repeat": step.is_repeat,
        "failed": step.is_failed,
        "shared": step.is_shared,
        "protocol": packet.protocol,
        "source": packet.source,
        "target": packet.target,
        "node": packet.node,
        "text": show_text(packet.sip),
        "homer_url": template.replace("{call_id}", quote(step.call_id, safe="")) if template else None,
    }
