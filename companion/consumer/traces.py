"""Store the SIP messages of recorded devices; those of all others are counted and dropped.

What comes over the bus waits here in a bounded queue, apart from events: a flood of messages delays no event. Storing
a packet twice changes nothing, so two consumers may store the same ones, and no lease is needed.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from companion import log, metrics
from companion.bus.envelope import Message
from companion.config import Config
from companion.opensips.hep import MAX_BYTES, HepPacket
from companion.sip import is_ip_port
from companion.store.connection import NotNowError, ResponseError, Unreachable
from companion.store.devices import load_devices, load_devices_of_aors
from companion.store.recordings import load_recordings, save_spelling
from companion.store.store import Store
from companion.store.traces import Row, TraceLimits, append_packets, trim_trace
from companion.text import UNDECODABLE
from companion.times import now_ms
from companion.trace.masking import mask_message
from companion.trace.matching import Matcher, PacketMatch, Subject, make_subject
from companion.trace.packet import Packet, pack

MAX_WAITING: Final = 4000
MAX_WAITING_BYTES: Final = 32 << 20
TURN_PACKETS: Final = 200
TURN_BYTES: Final = 256 << 10
"""Packets, and bytes of them, that are handled before other tasks run; one packet more may pass the latter."""
EVERY_SECONDS: Final = 0.3
SUBJECTS_SECONDS: Final = 1.0
"""How often the contacts of recorded devices are read again while packets come."""
TRIM_SHARE: Final = 16
"""A trace is trimmed when so large a part of its limits came in."""

logger = log.get(__name__)


ShortText = Annotated[str, msgspec.Meta(max_length=64)]


class _Params(msgspec.Struct, gc=False):
    """Hold the parameters of one packet as its bridge publishes them."""

    at_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
    protocol: Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,16}$")]
    source: ShortText
    target: ShortText
    sip: Annotated[bytes, msgspec.Meta(max_length=MAX_BYTES)]


class _Waiting(NamedTuple):
    node: str
    params: msgspec.Raw


class TraceRecorder:
    """Match packets to recorded devices, mask them, and store them."""

    def __init__(self, config: Config, store: Store) -> None:
        self._store = store
        self._mask = config.trace.mask
        keep_ms = min(config.trace.keep_ms, store.retention_ms)
        self._limits = TraceLimits(config.trace.max_messages, config.trace.max_bytes, keep_ms)
        self._matcher = Matcher()
        self._subjects: list[Subject] = []
        self._devices: frozenset[str] = frozenset()
        self._subjects_at = float("-inf")
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._stopping = False
        self._unstored: defaultdict[str, list[Row]] = defaultdict(list)
        self._untrimmed: defaultdict[str, list[int]] = defaultdict(list)
        self._spellings: dict[str, str] = {}
        self._episodes = log.Episodes(logger)
        self._decode = msgspec.msgpack.Decoder(_Params).decode

    def put(self, message: Message) -> None:
        """Queue the packets of one message of the bus; what does not fit is counted."""
        for _, params in message.events:
            size = len(memoryview(params))
            if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
                metrics.DROPPED.labels("traces").inc()
                self._episodes.warn("SIP messages came faster than they can be stored, and some were dropped")
                continue
            self._waiting.append(_Waiting(message.node, params))
            self._waiting_bytes += size
        self._arrived.set()

    async def run(self) -> None:
        """Store what comes until stopped, then store the rest once."""
        while not self._stopping or self._arrived.is_set():
            await self._arrived.wait()
            await asyncio.sleep(0 if self._stopping else EVERY_SECONDS)
            self._arrived.clear()
            try:
                await self._handle()
            except (*Unreachable, NotNowError, ResponseError) as error:
                self._episodes.warn("SIP messages can not be stored now; they wait", error=str(error)[:200])
                if not self._stopping:
                    self._arrived.set()
            except Exception:
                metrics.INVALID.labels("traces", "error").inc()
                logger.exception("SIP messages could not be handled")

    def stop(self) -> None:
        self._stopping = True
        self._arrived.set()

    async def _handle(self) -> None:
        """Handle all packets that wait. An error of Redis leaves the rest for the next time."""
        await self._write()
        while self._waiting:
            await self._load_subjects()
            packets = self._take_turn()
            if self._subjects:
                await self._sort(packets)
            else:
                metrics.TRACE_PACKETS.labels("unrecorded").inc(len(packets))
            await self._write()
            await asyncio.sleep(0)

    def _take_turn(self) -> list[tuple[str, HepPacket]]:
        packets: list[tuple[str, HepPacket]] = []
        end = self._waiting_bytes - TURN_BYTES
        for _ in range(min(TURN_PACKETS, len(self._waiting))):
            if packet := self._next():
                packets.append(packet)
            if self._waiting_bytes <= end:
                break
        return packets

    def _next(self) -> tuple[str, HepPacket] | None:
        node, params = self._waiting.popleft()
        self._waiting_bytes -= len(memoryview(params))
        try:
            fields = self._decode(params)
        except UNDECODABLE:
            metrics.INVALID.labels("traces", "shape").inc()
            return None
        if not is_ip_port(fields.source) or not is_ip_port(fields.target):
            metrics.INVALID.labels("traces", "address").inc()
            return None
        return node, HepPacket(fields.at_us, fields.protocol, fields.source, fields.target, fields.sip)

    # Matching

    async def _load_subjects(self) -> None:
        """Read which devices are recorded, before each turn, and their contacts, once a second."""
        recordings = await asyncio.to_thread(load_recordings, self._store)
        now = now_ms()
        active = frozenset(device for device, one in recordings.items() if not one.is_over(now))
        if not active:
            self._subjects = []
            self._matcher.forget()
        elif active != self._devices or time.monotonic() - self._subjects_at > SUBJECTS_SECONDS:
            self._subjects = await asyncio.to_thread(_read_subjects, self._store, sorted(active))
            self._subjects_at = time.monotonic()
        self._devices = active

    async def _sort(self, packets: Sequence[tuple[str, HepPacket]]) -> None:
        """Put packets in the traces that they belong to."""
        matches = self._matcher.match(packets, self._subjects)
        metrics.INVALID.labels("traces", "not_sip").inc(self._matcher.invalid)
        self._matcher.invalid = 0
        metrics.TRACE_PACKETS.labels("unmatched").inc(max(0, len(packets) - len({id(one.packet) for one in matches})))
        rows = await asyncio.to_thread(lambda: list(map(self._pack, matches)))
        for match, row in zip(matches, rows, strict=True):
            self._unstored[match.device].append(row)
            if match.spelling:
                self._spellings[match.device] = match.spelling

    def _pack(self, match: PacketMatch) -> Row:
        one = match.packet
        sip = mask_message(one.sip) if self._mask else one.sip
        packet = Packet(one.at_us, one.protocol, one.source, one.target, match.node, match.match, sip)
        return one.at_us, pack(packet)

    # Writing

    async def _write(self) -> None:
        while self._spellings:
            device, spelling = next(iter(self._spellings.items()))
            await asyncio.to_thread(save_spelling, self._store, device, spelling)
            del self._spellings[device]
        for device in list(self._unstored):
            rows = self._unstored[device]
            await asyncio.to_thread(append_packets, self._store, device, rows, self._limits.keep_ms)
            del self._unstored[device]
            metrics.TRACE_PACKETS.labels("stored").inc(len(rows))
            self._untrimmed[device] += [len(packed) for _, packed in rows]
            if self._is_trim_due(device):
                trimmed = await asyncio.to_thread(trim_trace, self._store, device, self._limits, now_ms())
                metrics.TRACE_PACKETS.labels("trimmed").inc(trimmed)
                del self._untrimmed[device]

    def _is_trim_due(self, device: str) -> bool:
        sizes = self._untrimmed[device]
        return len(sizes) > self._limits.packets // TRIM_SHARE or sum(sizes) > self._limits.bytes // TRIM_SHARE


def _read_subjects(store: Store, devices: Sequence[str]) -> list[Subject]:
    recorded = load_devices(store, devices)
    others = load_devices_of_aors(store, {device.aor for device in recorded})
    return [make_subject(device, [one for one in others if one.aor == device.aor]) for device in recorded]
