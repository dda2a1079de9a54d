"""Simulate a phone: it answers, loses pings, sleeps, reloads, roams, leaves and dies. No I/O; it gets the time."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from companion.simulator.agenda import Agenda
from companion.simulator.wire import Address

Transport = Literal["ws", "udp"]


class Behaviour(StrEnum):
    """Name what a phone does by itself, now and then."""

    STEADY = "steady"
    LOSSY = "lossy"
    SLEEPING = "sleeping"
    RELOADING = "reloading"
    ROAMING = "roaming"
    LEAVING = "leaving"
    DYING = "dying"
    SILENT = "silent"


# mean seconds between two of them
PERIODS = {
    Behaviour.SLEEPING: 240.0,
    Behaviour.RELOADING: 300.0,
    Behaviour.ROAMING: 240.0,
    Behaviour.LEAVING: 400.0,
    Behaviour.DYING: 400.0,
}
PUSH_SECONDS = 1.5
PAGE_LOAD_SECONDS = 1.0
HANG_UP_SECONDS = 0.5
REFRESH_AT = 0.8  # of the registration's lifetime


class SimulatedPush(NamedTuple):
    """Hold RFC 8599's pn-provider, pn-prid and pn-param."""

    provider: str
    prid: str
    param: str

    @property
    def uri_params(self) -> str:
        return f";pn-provider={self.provider};pn-prid={self.prid};pn-param={self.param}"


class Network(Protocol):
    """Describe what a phone needs of its network. The simulated OpenSIPS is one."""

    agenda: Agenda

    def register(self, phone: "SimulatedPhone") -> None: ...
    def unregister(self, phone: "SimulatedPhone") -> None: ...
    def end_connection(self, address: Address) -> None: ...


class PhoneState(StrEnum):
    OFF = "off"
    ON = "on"
    ASLEEP = "asleep"
    MOVING = "moving"
    DEAD = "dead"


@dataclass(eq=False)
class SimulatedPhone:
    """Simulate one phone. `latency_ms` is the median round trip and `jitter` the sigma of its logarithm.

    The same fields and the same clock give the same life: chance comes from `seed` alone.
    """

    aor: str
    instance: str = ""
    user_agent: str = "SIPERB 0.1"
    transport: Transport = "ws"
    push: SimulatedPush | None = None
    latency_ms: float = 60.0
    jitter: float = 0.25
    loss: float = 0.0
    behaviour: Behaviour = Behaviour.STEADY
    lifetime: float = 600.0
    pace: float = 1.0
    seed: str = ""

    state: PhoneState = PhoneState.OFF
    muted: bool = False
    uri: str = ""
    address: Address = ("", 0)
    callid: str = ""
    cseq: int = 0
    _network: Network = field(init=False, repr=False)
    _chance: random.Random = field(init=False, repr=False)
    _life: int = field(default=0, init=False, repr=False)
    _distance: float = field(default=1.0, init=False, repr=False)
    _home: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed or f"{self.aor}/{self.instance}")
        self.address = self._make_address()
        self._home = self.address[0]

    @property
    def received(self) -> str:
        """Return the address that its REGISTER came from."""
        suffix = ";transport=ws" if self.transport == "ws" else ""
        return f"sip:{self.address[0]}:{self.address[1]}{suffix}"

    @property
    def pinged(self) -> bool:
        return self.behaviour is not Behaviour.SILENT

    def answer(self, uri: str, received: str | None) -> float | None:
        """Return the seconds it takes to answer a ping to that contact; None when it never answers."""
        if not self.is_at(uri, received) or self.muted or self._chance.random() < self.loss:
            return None
        spread = self._chance.lognormvariate(0, self.jitter)
        return max(0.001, self.latency_ms * self._distance * spread / 1000)

    def is_at(self, uri: str, received: str | None) -> bool:
        """Return whether it is awake at that contact."""
        return self.state is PhoneState.ON and (uri, received) == (self.uri, self.received)

    def join(self, network: Network) -> None:
        """Switch on for the first time, in that network."""
        self._network = network
        self.switch_on()

    def switch_on(self) -> None:
        """Register from a new page load (a browser) or a new start (all others)."""
        self.callid = self._make_hex(32)
        if self.transport == "ws" or not self.uri:
            self.uri = self._make_uri()
        self._connect()

    def hurry(self, pace: float) -> None:
        """Change how often it acts by itself, from now on; one that is off or dead comes back."""
        self.pace = pace
        if self.state in {PhoneState.OFF, PhoneState.DEAD}:
            self.switch_on()
        else:
            self._plan_act()

    def update(self, user_agent: str, loss: float) -> None:
        """Get another firmware, which loses this share of pings."""
        self.user_agent, self.loss = user_agent, loss
        self.reregister()

    def mute(self) -> None:
        """Answer no ping until unmuted; all else goes on."""
        self.muted = True

    def unmute(self) -> None:
        self.muted = False

    def reregister(self) -> None:
        """Refresh the registration: same contact, next CSeq."""
        self.cseq += 1
        self._network.register(self)

    def unregister(self) -> None:
        """Leave properly: REGISTER with expires 0, then hang up."""
        self._become(PhoneState.OFF)
        self._network.unregister(self)
        old_address = self.address
        self._network.agenda.call_later(HANG_UP_SECONDS, lambda _: self._end_connection(old_address))

    def leave(self) -> None:
        """Unregister, and return some minutes later."""
        self.unregister()
        self._call_later(self._chance.uniform(60, 180) / self.pace, self.switch_on)

    def reload(self) -> None:
        """Reload the page: the connection dies, and a second later a new contact of the same instance comes."""
        self._end_connection(self.address)
        self._become(PhoneState.MOVING)
        self._call_later(PAGE_LOAD_SECONDS, self._load_page)

    def roam(self) -> None:
        """Change the network, away or home again: same contact, new address.

        The old connection's end is seen at once, late or never.
        """
        old_address = self.address
        delay = self._chance.choice((0.0, 0.0, self._chance.uniform(6, 20), None))
        if delay is not None:
            self._network.agenda.call_later(delay, lambda _: self._end_connection(old_address))
        self._become(PhoneState.MOVING)
        self._distance = self._chance.uniform(1.5, 4) if self._distance == 1 else 1.0
        self._call_later(self._chance.uniform(1, 4), self._arrive)

    def reconnect(self) -> None:
        """Dial again from a new port after OpenSIPS went away. A UDP phone notices at its next refresh."""
        if self.state is PhoneState.ON and self.transport == "ws":
            self._become(PhoneState.MOVING)
            self._call_later(self._chance.uniform(0.5, 4), self._dial_again)

    def fall_asleep(self) -> None:
        """Freeze the app: pings are lost until a push wakes it. Its connection may end."""
        if self._chance.random() < 0.5:
            self._end_connection(self.address)
        self._become(PhoneState.ASLEEP)

    def receive_push(self) -> None:
        """Wake and register again; only a sleeping phone with push parameters heeds it."""
        if self.state is PhoneState.ASLEEP and self.push:
            self._call_later(PUSH_SECONDS, self._dial_again)

    def drop_connection(self) -> None:
        """End the connection so that OpenSIPS notices."""
        self._end_connection(self.address)
        self.die()

    def die(self) -> None:
        """Leave a half-open connection behind. Only `switch_on` brings the phone back."""
        self._become(PhoneState.DEAD)

    def _arrive(self) -> None:
        is_home = self._distance == 1
        self.address = (self._home, self._choose_port()) if is_home else self._make_address()
        self._connect()

    def _dial_again(self) -> None:
        self.address = (self.address[0], self._choose_port())
        self._connect()

    def _load_page(self) -> None:
        self.address = (self.address[0], self._choose_port())
        self.switch_on()

    def _connect(self) -> None:
        self._become(PhoneState.ON)
        self.reregister()
        self._plan_refresh()
        self._plan_act()

    def _plan_refresh(self) -> None:
        self._call_later(self.lifetime * REFRESH_AT, self._refresh)

    def _refresh(self) -> None:
        self.reregister()
        self._plan_refresh()

    def _plan_act(self) -> None:
        acts: dict[Behaviour, Callable[[], None]] = {
            Behaviour.SLEEPING: self.fall_asleep,
            Behaviour.RELOADING: self.reload,
            Behaviour.ROAMING: self.roam,
            Behaviour.LEAVING: self.leave,
            Behaviour.DYING: self.die,
        }
        if self.behaviour in acts:
            wait = PERIODS[self.behaviour] * self._chance.uniform(0.3, 1.7) / self.pace
            self._call_later(wait, acts[self.behaviour])

    def _become(self, state: PhoneState) -> None:
        self.state = state
        self._life += 1

    def _call_later(self, seconds: float, step: Callable[[], None]) -> None:
        """Plan a step of this life; a change of state in between cancels it."""
        life = self._life
        self._network.agenda.call_later(seconds, lambda _: step() if self._life == life else None)

    def _end_connection(self, address: Address) -> None:
        if self.transport == "ws":
            self._network.end_connection(address)

    def _make_uri(self) -> str:
        user = self.aor.partition("@")[0].replace(" ", "%20")
        push = self.push.uri_params if self.push else ""
        if self.transport == "ws":
            return f"sip:{user}@{self._make_hex(12)}.invalid;transport=ws{push}"
        return f"sip:{user}@192.168.{self._chance.randrange(256)}.{self._chance.randrange(2, 255)}:5060{push}"

    def _make_address(self) -> Address:
        # the three networks kept for documentation
        net = self._chance.choice(("192.0.2", "198.51.100", "203.0.113"))
        return (f"{net}.{self._chance.randrange(1, 255)}", self._choose_port())

    def _choose_port(self) -> int:
        return self._chance.randrange(32768, 61000)

    def _make_hex(self, digits: int) -> str:
        return f"{self._chance.getrandbits(digits * 4):0{digits}x}"
