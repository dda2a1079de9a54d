"""Find the changes of network in a call and describe them in our own words. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from companion.media.report import Happening
from companion.text import Json

BEFORE_MS: Final = 5_000
"""A network fails before anybody notices: browsers call ICE disconnected after about five seconds of silence."""
AFTER_MS: Final = 10_000
"""A change can spoil the sound for so long afterwards: jitter buffers and bitrates settle again."""
LONGEST_MS: Final = 120_000
"""A switch-over cannot take longer: a browser tries ICE again for so long at most."""
OFFLINE: Final = "the device went offline"
ONLINE: Final = "the device was online again"
_PLAIN: Final = {"offline": OFFLINE, "online": ONLINE, "restart": "ICE was restarted"}
_CANDIDATES: Final = {"host", "srflx", "prflx", "relay"}
_NETWORKS: Final = {"wifi", "cellular", "ethernet", "wimax", "bluetooth", "none"}


class Change(NamedTuple):
    """Describe a change of network, and give the time (epoch ms) in which it may have spoilt the sound."""

    at: int
    since: int
    until: int
    sentence: str


def find_changes(happenings: Iterable[Happening]) -> list[Change]:
    """Return the changes of network among the happenings of a call, in their order.

    The first path and the first network are how the call began: they are no change, nor is another speed alone.
    """
    network, changes = _Network(), []
    for happening in happenings:
        sentence = network.describe_change(happening)
        if sentence:
            since, until = happening.at - _duration(happening) - BEFORE_MS, happening.at + AFTER_MS
            changes.append(Change(happening.at, since, until, sentence))
    return changes


@dataclass(slots=True)
class _Network:
    """Follow the path and the network of a call from happening to happening."""

    path: tuple[object, ...] = ()
    kind: str = ""
    network: str = ""

    def describe_change(self, happening: Happening) -> str:
        """Return a sentence on the change; empty when nothing has changed."""
        if happening.what == "path":
            return self._take_path(happening.fields)
        if happening.what == "network":
            return self._take_network(happening.fields)
        if happening.what == "switch-over":
            return _describe_switch_over(happening.fields)
        return _PLAIN.get(happening.what, "")

    def _take_path(self, fields: Json) -> str:
        before, before_kind = self.path, self.kind
        names = ("local", "remote", "protocol", "relay", "local_address", "remote_address")
        self.path, self.kind = tuple(fields.get(name) for name in names), describe_path(fields)
        if not before or before == self.path:
            return ""
        return f"the media's path changed{'' if before_kind == self.kind else f' from {before_kind} to {self.kind}'}"

    def _take_network(self, fields: Json) -> str:
        before = self.network
        self.network = _allow(fields.get("type"), _NETWORKS)
        changed = before and self.network and before != self.network
        return f"the network changed from {before} to {self.network}" if changed else ""


def describe_path(fields: Json) -> str:
    """Return a path in words: `host to host over udp`, `relay (over tcp) to srflx over udp`."""
    local, remote = (_allow(fields.get(name), _CANDIDATES) or "unknown" for name in ("local", "remote"))
    protocol = _allow(fields.get("protocol"), {"udp", "tcp"})
    through = _allow(fields.get("relay"), {"udp", "tcp", "tls"})
    via = f" (over {through})" if local == "relay" and through else ""
    return f"{local}{via} to {remote}" + (f" over {protocol}" if protocol else "")


def is_relayed(fields: Json) -> bool:
    """Return whether a path leads through a relay, at either end."""
    return "relay" in (fields.get("local"), fields.get("remote"))


def _allow(value: object, words: set[str]) -> str:
    """Return a word that is one of `words`, else "": other text from the network is never repeated."""
    return value if isinstance(value, str) and value in words else ""


def _describe_switch_over(fields: Json) -> str:
    steps = (("noticed_ms", "noticed"), ("registered_ms", "registered again"), ("media_ms", "media back"))
    durations = [(words, _milliseconds(fields, name)) for name, words in steps]
    parts = ", ".join(f"{words} after {ms / 1000:.1f} s" for words, ms in durations if ms is not None)
    outcome = "failed" if fields.get("result") == "failed" else "was made"
    return f"a switch-over {outcome}: {parts}" if parts else f"a switch-over {outcome}"


def _duration(happening: Happening) -> int:
    """Return for how many ms a happening had been under way: a switch-over is reported when it is over."""
    if happening.what != "switch-over":
        return 0
    steps = ("socket_ms", "registered_ms", "reinvite_ms", "media_ms")
    longest = max(_milliseconds(happening.fields, name) or 0 for name in steps)
    return longest + (_milliseconds(happening.fields, "noticed_ms") or 0)


def _milliseconds(fields: Json, name: str) -> int | None:
    """Return a duration, at most LONGEST_MS; None where the field holds none."""
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return round(min(value, LONGEST_MS))
