"""The large fleet: what phone number so-and-so is, says and does. Always the same, as mixed as a real one. No I/O."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from companion import sip
from companion.opensips.events import LOST_PING_US
from companion.usrloc.contact import Status
from tests.benchmarks.publisher import ping_params

INTERVAL_MS: Final = 120_000
DAY_SAMPLES: Final = 720
WEEK_SAMPLES: Final = 5040

Kind = Literal["answers", "flaky", "dead", "silent", "gone"]
STATUS: Final[dict[Kind, Status]] = {
    "answers": "online",
    "flaky": "losing",
    "dead": "stale",
    "silent": "unknown",
    "gone": "offline",
}
"""How a phone of each kind is seen; a flaky one is online after every third ping."""
LOSSES: Final[dict[Kind, int]] = {"answers": 0, "flaky": 1, "dead": 5, "silent": 0, "gone": 0}
"""How many pings it has lost in a row when the fleet is made."""
PINGED: Final = ("answers", "flaky", "dead")

_OF_A_HUNDRED: Final[tuple[Kind, ...]] = (
    *(("answers",) * 88),
    *(("flaky",) * 2),
    *(("dead",) * 3),
    *(("silent",) * 2),
    *(("gone",) * 5),
)
_USUAL_MS: Final = (18, 35, 35, 60, 60, 90, 120, 160, 250, 450)


class Model(NamedTuple):
    """A make of phones: its User-Agent, its transport, and the push service that wakes it, if one does."""

    user_agent: str
    transport: str
    push: str = ""


MODELS: Final = (  # seven: no common divisor with the hundred of the kinds, so each make has phones of each kind
    Model("Browser Phone 0.3.29 (SIPJS - 0.20.0)", "ws"),
    Model("Yealink SIP-T46U 108.86.0.90", "udp"),
    Model("Mobile Phone 6.1.4 (Android 15)", "tls", "fcm"),
    Model("Grandstream GRP2614 1.0.11.48", "udp"),
    Model("Browser Phone 0.3.31 (SIPJS - 0.21.2)", "ws"),
    Model("Mobile Phone 6.1.4 (iOS 18.2)", "tls", "apns"),
    Model("Poly VVX 450 6.4.6", "udp"),
)


class Phone(NamedTuple):
    """One phone, registered once."""

    number: int
    kind: Kind
    model: Model

    @property
    def aor(self) -> str:
        return f"user{self.number}"

    @property
    def device(self) -> str:
        said = self.params(0, 0)
        return sip.device_id(self.aor, str(said["uri"]), sip.instance(str(said["attr"])))

    def params(self, latency_us: int, expires: int) -> dict[str, object]:
        """What OpenSIPS says of it; `expires` is epoch seconds. The same each time: a ping changes no registration."""
        said = ping_params(self.number, latency_us, expires)
        transport, push = self.model.transport, self.model.push
        uri, received = (str(said[name]).replace("=ws", f"={transport}") for name in ("uri", "received"))
        uri += f";pn-provider={push};pn-prid={self.number:064x}" if push else ""
        socket = f"{transport}:127.0.0.1:20101"
        return {**said, "uri": uri, "received": received, "user_agent": self.model.user_agent, "socket": socket}

    def ping_us(self, turn: int) -> int:
        """What its ping number `turn` says: µs, or that it was lost."""
        lost = self.kind == "dead" or (self.kind == "flaky" and turn % 3)
        return LOST_PING_US if lost else self.latency_ms(turn) * 1000

    def latency_ms(self, turn: int) -> int:
        """Each phone has its usual latency, and strays by a half from it."""
        usual = _USUAL_MS[self.number // 7 % len(_USUAL_MS)]
        return usual + (self.number + turn) * 7919 % (usual // 2)


def phone(number: int) -> Phone:
    return Phone(number, _OF_A_HUNDRED[number % 100], MODELS[number % len(MODELS)])


class Fleet(NamedTuple):
    """So many phones, the first `weeklong` of them with a week of pings, the others with a day's.

    They are registered until `expires`, epoch seconds.
    """

    devices: int
    weeklong: int
    expires: int

    def samples(self, number: int) -> int:
        """How many answered pings of a phone are kept when the fleet is made."""
        return WEEK_SAMPLES if number < self.weeklong else DAY_SAMPLES

    @property
    def all_samples(self) -> int:
        return self.weeklong * WEEK_SAMPLES + (self.devices - self.weeklong) * DAY_SAMPLES

    def pinged(self) -> Iterator[Phone]:
        """Those that OpenSIPS has in its usrloc and pings."""
        return (one for one in map(phone, range(self.devices)) if one.kind in PINGED)
