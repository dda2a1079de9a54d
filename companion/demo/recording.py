"""Store a finished recording: the SIP messages around one call of the past, matched and masked as a consumer does."""

from typing import Final

from companion.config import Config
from companion.demo.calls import PastCall
from companion.demo.offices import NODE
from companion.demo.sip_messages import write_messages
from companion.recording.audit import record_end, record_start
from companion.store.recordings import Recording
from companion.store.store import Store
from companion.store.traces import append_packets
from companion.times import MINUTE_MS
from companion.trace.masking import mask_message
from companion.trace.matching import Matcher, PacketMatch, make_subject
from companion.trace.packet import Packet, pack
from companion.usrloc.contact import Device

MINUTES: Final = 15
BY: Final = "demo"


def make_recording(call: PastCall) -> Recording:
    """Return the recording of a call's device: it began a minute and a half before the call."""
    started_at = call.media.started_at - 3 * MINUTE_MS // 2
    return Recording(call.media.device, BY, started_at, started_at + MINUTES * MINUTE_MS)


def begin_recording(store: Store, recording: Recording) -> None:
    """Write down that somebody asked for it."""
    record_start(store, recording.device, BY, MINUTES, at=recording.started_at)


def end_recording(store: Store, recording: Recording) -> None:
    """Write down that its time is over."""
    record_end(store, recording, at=recording.ends_at)


def store_messages(config: Config, store: Store, device: Device, call: PastCall) -> None:
    """Store the messages of a call that belong to a device."""
    packets = [(NODE, packet) for packet in write_messages(call)]
    matches = Matcher().match(packets, [make_subject(device, ())])
    rows = [(match.packet.at_us, _pack(match)) for match in matches]
    append_packets(store, device.id, rows, min(config.trace.keep_ms, store.retention_ms))


def _pack(match: PacketMatch) -> bytes:
    one = match.packet
    return pack(Packet(one.at_us, one.protocol, one.source, one.target, match.node, match.match, mask_message(one.sip)))
