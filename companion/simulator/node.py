"""Simulate one OpenSIPS with its phones: register, ping, count lost pings, delete. No I/O; time is given to it."""

import time
import zlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from companion.opensips.events import LOST_PING_US
from companion.simulator import wire
from companion.simulator.agenda import Agenda
from companion.simulator.conditions import Conditions
from companion.simulator.phone import SimulatedPhone, Transport
from companion.simulator.usrloc import (
    DOMAIN,
    PINGED_FLAGS,
    REMOVED_ON_TIMEOUT_FLAG,
    Raise,
    SimulatedBinding,
    SimulatedUsrloc,
)
from companion.simulator.wire import Address, SimulatedContact

LATENCY_EVENT = "E_UL_LATENCY_UPDATE"


@dataclass(frozen=True)
class Settings:
    """Hold the modparams that matter, in seconds. `speed` 10 lets ten of them pass in one real second."""

    ping_interval: float = 30.0
    ping_threshold: float = 3.0
    ping_partitions: int = 1
    max_pings_lost: int = 3
    remove_on_timeout: bool = False
    timer_interval: float = 60.0
    speed: float = 1.0
    ws_socket: Address = ("127.0.0.1", 8080)
    udp_socket: Address = ("127.0.0.1", 5060)


@dataclass
class Pings:
    """Count the pings to one contact."""

    answered: int = 0
    lost: int = 0


class Node:
    """Connect the phones. Its clock counts simulated seconds since the start; `epoch` maps them to real ones."""

    def __init__(
        self,
        settings: Settings,
        raise_event: Raise,
        epoch: Callable[[float], float] | None = None,
        conditions: Conditions | None = None,
    ) -> None:
        self.settings = settings
        self.agenda = Agenda()
        self.usrloc = SimulatedUsrloc(self._raise)
        self.pings: dict[tuple[str, str], Pings] = defaultdict(Pings)
        self._raise_event = raise_event
        self._epoch = epoch or make_clock(time.time(), settings.speed)
        self._conditions = conditions
        self._phones: list[SimulatedPhone] = []
        self._owners: dict[tuple[str, str], SimulatedPhone] = {}
        self._connections: set[Address] = set()
        self._start_timers()

    @property
    def phones(self) -> list[SimulatedPhone]:
        return list(self._phones)

    @property
    def sockets(self) -> dict[Transport, str]:
        """Return its listening sockets as events name them, by the transport of phones."""
        addresses: dict[Transport, Address] = {"ws": self.settings.ws_socket, "udp": self.settings.udp_socket}
        return {transport: f"{transport}:{host}:{port}" for transport, (host, port) in addresses.items()}

    @property
    def epoch_now(self) -> float:
        return self._epoch(self.agenda.now)

    def go_on(self, settings: Settings, raise_event: Raise, epoch: float) -> None:
        """Set another speed and clock, which begins at `epoch` (epoch seconds), and where events are raised."""
        self.settings = replace(self.settings, speed=settings.speed)
        self._raise_event = raise_event
        self._epoch = make_clock(epoch, settings.speed, self.agenda.now)

    def advance(self, now: float) -> None:
        """Let everything happen that is due by `now`."""
        self.agenda.run_until(now)

    def add(self, phone: SimulatedPhone) -> None:
        self._phones.append(phone)
        phone.join(self)

    def register(self, phone: SimulatedPhone) -> None:
        """Take a REGISTER of a phone, unless the network is cut."""
        if self._conditions and self._conditions.is_cut(self.epoch_now):
            return
        expires = self._epoch(self.agenda.now + phone.lifetime)
        binding = self.usrloc.save(
            self._make_contact(phone, expires), phone.instance, push=phone.push is not None, expires=expires
        )
        self._owners[binding.key] = phone
        if phone.transport == "ws":
            self._connections.add(phone.address)

    def unregister(self, phone: SimulatedPhone) -> None:
        """Take a REGISTER with expires 0."""
        binding = self.usrloc.find(phone.aor, phone.uri)
        if binding:
            self.usrloc.delete(binding, release=True)

    def end_connection(self, address: Address) -> None:
        """Say that the connection from `address` ended, once."""
        if address in self._connections:
            self._connections.remove(address)
            event = wire.encode_disconnect_event(address, self.settings.ws_socket, "ws")
            self._raise("E_CORE_TCP_DISCONNECT", event)

    def push(self, aor: str, uri: str = "") -> None:
        """Send a push to the sleeping phones of an AOR, or to the one with that contact."""
        for phone in self._phones:
            if phone.aor == aor and uri in {"", phone.uri}:
                phone.receive_push()

    def restart(self) -> None:
        """Forget all contacts and connections; phones with a connection come back by themselves."""
        self.usrloc.clear()
        self._connections.clear()
        for phone in self._phones:
            phone.reconnect()

    def reaches(self, binding: SimulatedBinding) -> bool:
        """Return whether the phone of a contact would answer if it were asked again and again."""
        return self._owners[binding.key].is_at(binding.contact.uri, binding.contact.received)

    def _raise(self, event: str, text: bytes) -> None:
        self._raise_event(event, text)

    def _make_contact(self, phone: SimulatedPhone, expires: float) -> SimulatedContact:
        return SimulatedContact(
            aor=phone.aor,
            uri=phone.uri,
            callid=phone.callid,
            expires=round(expires),
            received=phone.received,
            user_agent=phone.user_agent,
            socket=self.sockets[phone.transport],
            bflags=self._choose_bflags(phone),
            cseq=phone.cseq,
            attr=f"<urn:uuid:{phone.instance}>" if phone.instance else "",
            domain=DOMAIN,
        )

    def _choose_bflags(self, phone: SimulatedPhone) -> int:
        if not phone.pinged:
            return 0
        return PINGED_FLAGS | (REMOVED_ON_TIMEOUT_FLAG if self.settings.remove_on_timeout else 0)

    def _start_timers(self) -> None:
        settings = self.settings
        for partition in range(settings.ping_partitions):
            first = settings.ping_interval * (partition + 1) / settings.ping_partitions
            self._repeat(settings.ping_interval, first, partial(self._ping_partition, partition))
        self._repeat(settings.timer_interval, settings.timer_interval, lambda: self.usrloc.sweep(self.epoch_now))

    def _repeat(self, interval: float, first: float, work: Callable[[], None]) -> None:
        def step(now: float) -> None:
            self.agenda.call_at(now + interval, step)
            work()

        self.agenda.call_at(first, step)

    def _ping_partition(self, partition: int) -> None:
        for binding in list(self.usrloc):
            if binding.pinged and self._choose_partition(binding) == partition:
                self._ping(binding)

    def _choose_partition(self, binding: SimulatedBinding) -> int:
        return zlib.crc32("/".join(binding.key).encode()) % self.settings.ping_partitions

    def _ping(self, binding: SimulatedBinding) -> None:
        phone = self._owners[binding.key]
        seconds = phone.answer(binding.contact.uri, binding.contact.received)
        if seconds and self._conditions:
            seconds = self._conditions.delay(seconds, phone.address[0], self.epoch_now)
        if seconds is None or seconds > self.settings.ping_threshold:
            self.agenda.call_later(self.settings.ping_threshold, lambda _: self._lose_ping(binding))
        else:
            self.agenda.call_later(seconds, lambda _: self._answer_ping(binding, round(seconds * 1_000_000)))

    def _answer_ping(self, binding: SimulatedBinding, latency_us: int) -> None:
        if self._is_gone(binding):
            return
        self.pings[binding.key].answered += 1
        binding.lost_in_row = 0
        binding.contact.latency = latency_us
        self.usrloc.raise_event(LATENCY_EVENT, binding)

    def _lose_ping(self, binding: SimulatedBinding) -> None:
        if self._is_gone(binding):
            return
        self.pings[binding.key].lost += 1
        binding.lost_in_row += 1
        binding.contact.latency = LOST_PING_US
        self.usrloc.raise_event(LATENCY_EVENT, binding)
        if self.settings.remove_on_timeout and binding.lost_in_row >= self.settings.max_pings_lost:
            self.usrloc.delete(binding, release=False)

    def _is_gone(self, binding: SimulatedBinding) -> bool:
        return self.usrloc.find(*binding.key) is not binding


def make_clock(epoch: float, speed: float, start: float = 0.0) -> Callable[[float], float]:
    """Return a map from simulated seconds to epoch seconds: `start` is at `epoch`, and `speed` pass in a real one."""
    return lambda now: epoch + (now - start) / speed
