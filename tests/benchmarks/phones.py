"""Define the phones of the large fleet by their number: always the same, as mixed as a real fleet. No I/O."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from companion import sip
from companion.opensips.events import LOST_PING_US
from companion.usrloc.contact import Status
from tests.benchmarks.publisher import ping_params

INTERVAL_MS: Final = 120_000
SAMPLES_AN_HOUR: Final = 30
WEEK_SAMPLES: Final = 5040

Kind = Literal["answers", "flaky", "dead", "silent", "gone"]
STATUS: Final[dict[Kind, Status]] = {
    "answers": "online",
    "flaky": "losing",
    "dead": "stale",
    "silent": "unknown",
    "gone": "offline",
}
"""The status of a phone by kind; a flaky one is online after every third ping."""
LOSSES: Final[dict[Kind, int]] = {"answers": 0, "flaky": 1, "dead": 5, "silent": 0, "gone": 0}
"""How many pings a phone has lost in a row when the fleet is made."""
PINGED: Final = ("answers", "flaky", "dead")
REGISTERING: Final = ("answers", "flaky")
"""Those that register again when their network returns."""

_OF_A_HUNDRED: Final[tuple[Kind, ...]] = (
    *(("answers",) * 88),
    *(("flaky",) * 2),
    *(("dead",) * 3),
    *(("silent",) * 2),
    *(("gone",) * 5),
)
_USUAL_MS: Final = (18, 35, 35, 60, 60, 90, 120, 160, 250, 450)


class Model(NamedTuple):
    """Hold a make of phones: its User-Agent, its transport, and the push service that wakes it, if any."""

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
    """Represent one phone, registered once."""

    number: int
    kind: Kind
    model: Model

    @property
    def aor(self) -> str:
        return f"user{self.number}"

    @property
    def device(self) -> str:
        params = self.params(0, 0)
        return sip.device_id(self.aor, str(params["uri"]), sip.instance(str(params["attr"])))

    def params(self, latency_us: int, expires: int, cseq: int = 1) -> dict[str, object]:
        """Return the parameters of its events, the same for each ping; `expires` is epoch seconds."""
        params = ping_params(self.number, latency_us, expires)
        transport, push = self.model.transport, self.model.push
        uri, received = (str(params[name]).replace("=ws", f"={transport}") for name in ("uri", "received"))
        uri += f";pn-provider={push};pn-prid={self.number:064x}" if push else ""
        socket = f"{transport}:127.0.0.1:20101"
        changes = {"uri": uri, "received": received, "user_agent": self.model.user_agent, "socket": socket}
        return params | changes | {"cseq": cseq}

    def ping_us(self, turn: int) -> int:
        """Return the latency of its ping number `turn` in µs, LOST_PING_US when it is lost."""
        lost = self.kind == "dead" or (self.kind == "flaky" and turn % 3)
        return LOST_PING_US if lost else self.latency_ms(turn) * 1000

    def latency_ms(self, turn: int) -> int:
        """Return its latency, which varies by half around the usual one of this phone."""
        usual = _USUAL_MS[self.number // 7 % len(_USUAL_MS)]
        return usual + (self.number + turn) * 7919 % (usual // 2)


def phone(number: int) -> Phone:
    return Phone(number, _OF_A_HUNDRED[number % 100], MODELS[number % len(MODELS)])


class Fleet(NamedTuple):
    """Hold the size of a fleet: the first `weeklong` devices have a week of pings, the others some hours.

    All are registered until `expires`, epoch seconds.
    """

    devices: int
    weeklong: int
    expires: int
    hours: int = 24

    def samples(self, number: int) -> int:
        """Return how many answered pings a phone has when the fleet is made."""
        return WEEK_SAMPLES if number < self.weeklong else self.hours * SAMPLES_AN_HOUR

    @property
    def all_samples(self) -> int:
        return self.weeklong * WEEK_SAMPLES + (self.devices - self.weeklong) * self.hours * SAMPLES_AN_HOUR

    def pinged(self) -> Iterator[Phone]:
        """Yield the phones that OpenSIPS has in its usrloc and pings."""
        return (one for one in map(phone, range(self.devices)) if one.kind in PINGED)

    def registering(self) -> Iterator[Phone]:
        """Yield the phones that register again."""
        return (one for one in self.pinged() if one.kind in REGISTERING)
