"""Simulate phones: they answer, lose pings, sleep, reload, roam, leave and die. No I/O; time is given to them."""

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
MIX = {
    Behaviour.STEADY: 62,
    Behaviour.LOSSY: 10,
    Behaviour.SLEEPING: 8,
    Behaviour.RELOADING: 7,
    Behaviour.ROAMING: 6,
    Behaviour.LEAVING: 4,
    Behaviour.DYING: 2,
    Behaviour.SILENT: 1,
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
    def connection_died(self, address: Address) -> None: ...


class State(StrEnum):
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

    state: State = State.OFF
    muted: bool = False
    uri: str = ""
    address: Address = ("", 0)
    callid: str = ""
    cseq: int = 0
    _network: Network = field(init=False, repr=False)
    _chance: random.Random = field(init=False, repr=False)
    _life: int = field(default=0, init=False, repr=False)
    _distance: float = field(default=1.0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed or f"{self.aor}/{self.instance}")
        self.address = self._new_address()

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
        reached = self.state is State.ON and (uri, received) == (self.uri, self.received)
        if not reached or self.muted or self._chance.random() < self.loss:
            return None
        spread = self._chance.lognormvariate(0, self.jitter)
        return max(0.001, self.latency_ms * self._distance * spread / 1000)

    def join(self, network: Network) -> None:
        """Switch on for the first time, in that network."""
        self._network = network
        self.switch_on()

    def switch_on(self) -> None:
        """Register from a new page load (a browser) or a new start (all others)."""
        self.callid = self._hex(32)
        if self.transport == "ws" or not self.uri:
            self.uri = self._new_uri()
        self._connect()

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
        self._become(State.OFF)
        self._network.unregister(self)
        left = self.address
        self._network.agenda.later(HANG_UP_SECONDS, lambda _: self._died(left))

    def leave(self) -> None:
        """Unregister, and return some minutes later."""
        self.unregister()
        self._later(self._chance.uniform(60, 180) / self.pace, self.switch_on)

    def reload(self) -> None:
        """Reload the page: the connection dies, and a second later a new contact of the same instance comes."""
        self._died(self.address)
        self._become(State.MOVING)
        self._later(PAGE_LOAD_SECONDS, self._load_page)

    def roam(self) -> None:
        """Change the network: same contact, new address. The old connection's end is seen at once, late or never."""
        left = self.address
        seen_after = self._chance.choice((0.0, 0.0, self._chance.uniform(6, 20), None))
        if seen_after is not None:
            self._network.agenda.later(seen_after, lambda _: self._died(left))
        self._become(State.MOVING)
        self._distance = self._chance.uniform(1.5, 4) if self._distance == 1 else 1.0
        self._later(self._chance.uniform(1, 4), self._arrive)

    def reconnect(self) -> None:
        """Dial again from a new port after OpenSIPS went away. A UDP phone notices at its next refresh."""
        if self.state is State.ON and self.transport == "ws":
            self._become(State.MOVING)
            self._later(self._chance.uniform(0.5, 4), self._dial_again)

    def fall_asleep(self) -> None:
        """Freeze the app: pings are lost until a push wakes it. Its connection may end."""
        if self._chance.random() < 0.5:
            self._died(self.address)
        self._become(State.ASLEEP)

    def push_arrives(self) -> None:
        """Wake and register again; only a sleeping phone with push parameters heeds it."""
        if self.state is State.ASLEEP and self.push:
            self._later(PUSH_SECONDS, self._dial_again)

    def drop_connection(self) -> None:
        """End the connection so that OpenSIPS notices."""
        self._died(self.address)
        self.die()

    def die(self) -> None:
        """Leave a half-open connection behind. Only `switch_on` brings the phone back."""
        self._become(State.DEAD)

    def _arrive(self) -> None:
        self.address = self._new_address()
        self._connect()

    def _dial_again(self) -> None:
        self.address = (self.address[0], self._new_port())
        self._connect()

    def _load_page(self) -> None:
        self.address = (self.address[0], self._new_port())
        self.switch_on()

    def _connect(self) -> None:
        self._become(State.ON)
        self.reregister()
        self._refresh_later()
        self._act_later()

    def _refresh_later(self) -> None:
        self._later(self.lifetime * REFRESH_AT, self._refresh)

    def _refresh(self) -> None:
        self.reregister()
        self._refresh_later()

    def _act_later(self) -> None:
        acts: dict[Behaviour, Callable[[], None]] = {
            Behaviour.SLEEPING: self.fall_asleep,
            Behaviour.RELOADING: self.reload,
            Behaviour.ROAMING: self.roam,
            Behaviour.LEAVING: self.leave,
            Behaviour.DYING: self.die,
        }
        if self.behaviour in acts:
            wait = PERIODS[self.behaviour] * self._chance.uniform(0.3, 1.7) / self.pace
            self._later(wait, acts[self.behaviour])

    def _become(self, state: State) -> None:
        self.state = state
        self._life += 1

    def _later(self, seconds: float, step: Callable[[], None]) -> None:
        """Plan a step of this life; a change of state in between cancels it."""
        life = self._life
        self._network.agenda.later(seconds, lambda _: step() if self._life == life else None)

    def _died(self, address: Address) -> None:
        if self.transport == "ws":
            self._network.connection_died(address)

    def _new_uri(self) -> str:
        user = self.aor.partition("@")[0].replace(" ", "%20")
        push = self.push.uri_params if self.push else ""
        if self.transport == "ws":
            return f"sip:{user}@{self._hex(12)}.invalid;transport=ws{push}"
        return f"sip:{user}@192.168.{self._chance.randrange(256)}.{self._chance.randrange(2, 255)}:5060{push}"

    def _new_address(self) -> Address:
        # the three networks kept for documentation
        net = self._chance.choice(("192.0.2", "198.51.100", "203.0.113"))
        return (f"{net}.{self._chance.randrange(1, 255)}", self._new_port())

    def _new_port(self) -> int:
        return self._chance.randrange(32768, 61000)

    def _hex(self, digits: int) -> str:
        return f"{self._chance.getrandbits(digits * 4):0{digits}x}"


class _Model(NamedTuple):
    user_agent: str
    transport: Transport
    latency_ms: float
    jitter: float
    push: str = ""


WEIRD_USER_AGENT = 'Weird "UA" \\ é \t<b>x</b>'
MODELS = (
    _Model("SIPERB 0.1", "ws", 45, 0.25),
    _Model("Yealink SIP-T46S 66.86.0.15", "udp", 14, 0.15),
    _Model("LinphoneAndroid/5.2.5 (Pixel 8) LinphoneSDK/5.3.47", "udp", 85, 0.45, "fcm"),
    _Model("JsSIP 3.10.1", "ws", 55, 0.3),
    _Model("Zoiper rv2.10.20.5", "udp", 40, 0.3),
    _Model("LinphoneiOS/5.2.3 (iPhone 15) LinphoneSDK/5.3.47", "udp", 95, 0.4, "apns"),
    _Model("SIPERB 0.1 (Android)", "ws", 110, 0.4, "webpush"),
    _Model("Grandstream GXP2170 1.0.11.79", "udp", 18, 0.15),
    _Model("Browser Phone 0.3.29 (SIPJS - 0.20.0) Mozilla/5.0 (X11; Linux x86_64) Firefox/133.0", "ws", 60, 0.3),
    _Model("snomD785/10.1.175.14", "udp", 22, 0.2),
    _Model("SIP.js/0.21.2", "ws", 70, 0.35),
    _Model("PolyEdge E350/8.2.0.3", "udp", 16, 0.15),
    _Model("Acrobits Groundwire/6.5", "udp", 120, 0.5, "apns"),
    _Model("MicroSIP/3.21.5", "udp", 35, 0.3),
)
NAMES = (
    *("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan x", "judy", "kim", "leo"),
    *("mallory", "niaj", "olivia", "peggy", "quentin", "rupert", "sybil", "trent", "ursula", "victor"),
    *("walter", "xenia", "yara", "zoe"),
)


def build_fleet(size: int, seed: int = 1, pace: float = 1.0, lifetime: float = 600.0) -> list[SimulatedPhone]:
    """Build `size` phones in a realistic mix; the first eight show every behaviour. A seed always gives the same fleet.

    `pace` 10 makes the phones sleep, reload, roam … ten times as often; `lifetime` is of a registration, in seconds.
    """
    chance = random.Random(seed)
    phones = [_phone(index, seed, chance) for index in range(size)]
    for phone in phones:
        phone.pace, phone.lifetime = pace, lifetime
    if size > 3:
        phones[3].user_agent = WEIRD_USER_AGENT
    return phones


def _phone(index: int, seed: int, chance: random.Random) -> SimulatedPhone:
    behaviour = _behaviour(index, chance)
    model = _model(behaviour, chance)
    lossy = behaviour is Behaviour.LOSSY
    return SimulatedPhone(
        aor=_aor(index),
        instance=_instance(chance),
        user_agent=model.user_agent,
        transport=model.transport,
        push=_push(model.push, chance),
        latency_ms=model.latency_ms * chance.lognormvariate(0, 0.5) * (2.5 if lossy else 1),
        jitter=model.jitter * (2 if lossy else 1),
        loss=chance.uniform(0.1, 0.3) if lossy else chance.choice((0, 0, 0, 0.002)),
        behaviour=behaviour,
        seed=f"{seed}/{index}",
    )


def _behaviour(index: int, chance: random.Random) -> Behaviour:
    every = list(Behaviour)
    if index < len(every):
        return every[index]
    return chance.choices(list(MIX), list(MIX.values()))[0]


def _model(behaviour: Behaviour, chance: random.Random) -> _Model:
    """Choose a model: a phone that sleeps has push, one that reloads is a browser."""
    fit = {
        Behaviour.SLEEPING: [model for model in MODELS if model.push],
        Behaviour.RELOADING: [model for model in MODELS if model.transport == "ws"],
    }
    return chance.choice(fit.get(behaviour, MODELS))


def _aor(index: int) -> str:
    """Return the AOR: every sixth phone is a second device of the one before it."""
    owner = index - 1 if index % 6 == 5 else index
    number, name = divmod(owner, len(NAMES))
    return f"{NAMES[name]}{number + 1}" if number else NAMES[name]


def _instance(chance: random.Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _push(provider: str, chance: random.Random) -> SimulatedPush | None:
    if not provider:
        return None
    token = f"{chance.getrandbits(96):024x}"
    if provider == "webpush":
        return SimulatedPush(provider, f"https%3A%2F%2Fpush.example%2F{token}", "BPk1")
    return SimulatedPush(provider, token, "proj-1" if provider == "fcm" else "TEAM123.org.example.phone.voip")
