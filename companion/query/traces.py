"""Read the trace of a device or a call as a ladder, ready for JSON."""

from collections.abc import Iterable
from typing import Final
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


def load_packets(store: Store, device: str, call_id: str = "", since_us: int = 0) -> list[Packet]:
    """Return the packets of a device, of one call alone where this is given; what can not be read is left out."""
    packets: list[Packet] = []
    for packed in load_trace(store, device, since_us):
        try:
            packet = unpack(packed)
            if not call_id or parse(packet.sip).call_id == call_id:
                packets.append(packet)
        except InvalidPacketError:
            continue
    return packets


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
    packets = load_packets(store, device_id)
    recording = load_recordings(store).get(device_id)
    return {
        "device": device_id,
        "recording": render_recording(recording) if recording and not recording.is_over(now) else None,
        **_render_ladder(config, make_ladder(store, [device_id], packets), choice),
    }


def render_call_trace(config: Config, store: Store, call_id: str, devices: Iterable[str]) -> Json:
    """Return the trace of one call, from the traces of all devices that took part in it."""
    ids = list(devices)
    packets = [packet for device in ids for packet in load_packets(store, device, call_id)]
    return _render_ladder(config, make_ladder(store, ids[:1], packets))


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


def _render_ladder(config: Config, ladder: Ladder, choice: StepChoice = ALL_STEPS) -> Json:
    steps = select_steps(ladder.steps, choice)
    explanation = ladder.explanation
    return {
        "total": len(ladder.steps),
        "cut": len(steps) > MAX_STEPS,
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
