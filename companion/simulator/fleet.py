"""Build fleets of simulated phones in a realistic mix. No I/O."""

import random
from typing import NamedTuple

from companion.simulator.phone import Behaviour, SimulatedPhone, SimulatedPush, Transport

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


class _Model(NamedTuple):
    user_agent: str
    transport: Transport
    latency_ms: float
    jitter: float
    push: str = ""


WEIRD_USER_AGENT = 'Weird "UA" \\ é \t<b>x</b>'
ODD_PHONE = 8
"""Its AOR has a space, and its User-Agent has all that a text from the network may have."""
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
    phones = [_make_phone(index, seed, chance) for index in range(size)]
    for phone in phones:
        phone.pace, phone.lifetime = pace, lifetime
    if size > ODD_PHONE:
        phones[ODD_PHONE].user_agent = WEIRD_USER_AGENT
    return phones


def _make_phone(index: int, seed: int, chance: random.Random) -> SimulatedPhone:
    behaviour = _choose_behaviour(index, chance)
    model = _choose_model(behaviour, chance)
    lossy = behaviour is Behaviour.LOSSY
    return SimulatedPhone(
        aor=_make_aor(index),
        instance=_make_instance(chance),
        user_agent=model.user_agent,
        transport=model.transport,
        push=_make_push(model.push, chance),
        latency_ms=model.latency_ms * chance.lognormvariate(0, 0.5) * (2.5 if lossy else 1),
        jitter=model.jitter * (2 if lossy else 1),
        loss=chance.uniform(0.1, 0.3) if lossy else chance.choice((0, 0, 0, 0.002)),
        behaviour=behaviour,
        seed=f"{seed}/{index}",
    )


def _choose_behaviour(index: int, chance: random.Random) -> Behaviour:
    every = list(Behaviour)
    if index < len(every):
        return every[index]
    return chance.choices(list(MIX), list(MIX.values()))[0]


def _choose_model(behaviour: Behaviour, chance: random.Random) -> _Model:
    """Choose a model: a phone that sleeps has push, one that reloads is a browser."""
    fit = {
        Behaviour.SLEEPING: [model for model in MODELS if model.push],
        Behaviour.RELOADING: [model for model in MODELS if model.transport == "ws"],
    }
    return chance.choice(fit.get(behaviour, MODELS))


def _make_aor(index: int) -> str:
    """Return the AOR: every sixth phone is a second device of the one before it."""
    owner = index - 1 if index % 6 == 5 else index
    number, name = divmod(owner, len(NAMES))
    return f"{NAMES[name]}{number + 1}" if number else NAMES[name]


def _make_instance(chance: random.Random) -> str:
    text = f"{chance.getrandbits(128):032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _make_push(provider: str, chance: random.Random) -> SimulatedPush | None:
    if not provider:
        return None
    token = f"{chance.getrandbits(96):024x}"
    if provider == "webpush":
        return SimulatedPush(provider, f"https%3A%2F%2Fpush.example%2F{token}", "BPk1")
    return SimulatedPush(provider, token, "proj-1" if provider == "fcm" else "TEAM123.org.example.phone.voip")
