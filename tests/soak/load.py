"""Send the events of many steady phones, as OpenSIPS does, so that each event leaves a trace of its own in the store.

Phones answer each ping: every E_UL_LATENCY_UPDATE becomes one sample. Visitors register at a new URI, renew and
leave: their contact's record tells which of the three events was stored.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from random import Random
from typing import Final
from zlib import crc32

from companion import sip
from companion.opensips.events import DELETE, INSERT, LATENCY, UPDATE
from companion.simulator.sink import Sink, open_sink
from companion.simulator.usrloc import DOMAIN
from companion.simulator.wire import SimulatedContact, encode_contact_event
from companion.usrloc.contact import Binding, contact_id

VISITORS: Final = 150
"""So many that none visits fifty times in an hour: of a device Redis keeps the last fifty contacts that ended."""
VISIT_EVERY_SECONDS: Final = 0.5
STAY_SECONDS: Final = 5.0
LIFETIME_SECONDS: Final = 7 * 86_400
TURN_SECONDS: Final = 0.02
PLACE: Final = b"123456789"
"""Stands for the latency in the bytes of a ping, all of which but this are always the same."""


@dataclass(frozen=True)
class Visit:
    """Hold the contact that a phone has, or that a visitor had for a few seconds."""

    contact: SimulatedContact

    def id(self, cluster: str) -> str:
        return contact_id(Binding(cluster, DOMAIN, self.contact.aor, self.contact.uri))


class Load:
    """Send `per_second` pings of `phones` phones of one node, and three events of each visit."""

    def __init__(self, node: str, events_to: str, *, phones: int, per_second: int, seed: int) -> None:
        self.node = node
        self.sent = 0
        self.is_paused = False
        self.visits: list[Visit] = []
        self.phones = [Visit(_make_contact(f"{node}-{number}")) for number in range(phones)]
        self._events_to = events_to
        self._per_second = per_second
        self._chance = Random(f"{seed}/{node}")
        self._pings = [_cut(phone.contact) for phone in self.phones]
        self._sink: Sink | None = None
        self._ending = asyncio.Event()

    @property
    def devices(self) -> list[str]:
        """Return the ids of all devices whose samples are of this node."""
        return [_device_id(phone.contact) for phone in self.phones]

    async def run(self) -> None:
        """Register the phones, and send until stopped; visitors that are here leave before."""
        self._sink = open_sink(self._events_to)
        for phone in self.phones:
            self._send(encode_contact_event(INSERT, phone.contact))
        await self._sink.flush()
        visiting = asyncio.create_task(self._receive_visitors())
        await self._ping_all()
        await visiting
        await self._sink.flush()
        await self._sink.close()

    def stop(self) -> None:
        self._ending.set()

    async def _ping_all(self) -> None:
        started, done, phones = time.monotonic(), 0, itertools.cycle(self._pings)
        while not self._ending.is_set():
            due = int((time.monotonic() - started) * self._per_second)
            for _ in range(due - done):
                before, after = next(phones)
                self._send(before + b"%d" % self._chance.randrange(5_000, 200_000) + after)
            done = due
            await asyncio.sleep(TURN_SECONDS)

    async def _receive_visitors(self) -> None:
        visits: set[asyncio.Task[None]] = set()
        for number in itertools.count():
            if self._ending.is_set():
                break
            visits.add(asyncio.create_task(self._visit(number)))
            visits = {visit for visit in visits if not visit.done()}
            await asyncio.sleep(VISIT_EVERY_SECONDS)
        await asyncio.gather(*visits)

    async def _visit(self, number: int) -> None:
        contact = replace(
            _make_contact(f"{self.node}-visitor-{number % VISITORS}"),
            uri=f"sip:{self.node}-visit{number}@{number:012x}.invalid;transport=ws",
            callid=f"visit-{self.node}-{number}",
        )
        self.visits.append(Visit(contact))
        for event in self._stay(contact):
            self._send(event)
            await asyncio.sleep(STAY_SECONDS / 2)

    def _stay(self, contact: SimulatedContact) -> Iterator[bytes]:
        yield encode_contact_event(INSERT, contact)
        renewed = replace(contact, cseq=contact.cseq + 1)
        yield encode_contact_event(UPDATE, renewed)
        yield encode_contact_event(DELETE, renewed)

    def _send(self, event: bytes) -> None:
        assert self._sink
        if not self.is_paused:
            self._sink.send(event)
            self.sent += 1


def _make_contact(aor: str) -> SimulatedContact:
    number = crc32(aor.encode())
    return SimulatedContact(
        aor=aor,
        uri=f"sip:{aor}@{number:012x}.invalid;transport=ws",
        callid=f"call-{aor}",
        expires=int(time.time()) + LIFETIME_SECONDS,
        received=f"sip:{IPv4Address(number)}:40000;transport=ws",
        user_agent="Steady Phone 1.0",
        socket="ws:127.0.0.1:8080",
        bflags=10,
        attr=f"<urn:uuid:6513270e-269e-0d37-f2a7-{number:012x}>",
    )


def _cut(contact: SimulatedContact) -> tuple[bytes, bytes]:
    before, _, after = encode_contact_event(LATENCY, replace(contact, latency=int(PLACE))).partition(PLACE)
    return before, after


def _device_id(contact: SimulatedContact) -> str:
    return sip.device_id(contact.aor, contact.uri, sip.instance(contact.attr))
