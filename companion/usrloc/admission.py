"""Decide which new contacts are taken in, so that no stranger makes us keep more than is documented. No I/O.

What is held already is never refused. A contact that is left out is as unknown to us as one of another registrar: its
pings change nothing, and nothing is ever decided about it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from companion.times import MINUTE_MS
from companion.usrloc.changes import Stamp
from companion.usrloc.contact import Binding, Device, contact_id
from companion.usrloc.devices import Devices

Reason = Literal["contacts_of_aor", "devices_of_aor", "new_aors", "devices", "redis_full"]
REASONS: Final[tuple[Reason, ...]] = ("contacts_of_aor", "devices_of_aor", "new_aors", "devices", "redis_full")
MAX_LEFT_OUT: Final = 10_000
"""Contacts of a node that are told apart while they are left out."""


class AdmissionLimits(NamedTuple):
    """Hold how much is taken in: live contacts and devices of an AOR, new AORs of a node, devices of all."""

    contacts_per_aor: int = 100
    devices_per_aor: int = 100
    new_aors_per_minute: int = 10_000
    stored_devices: int = 2_000_000


class LeftOut(NamedTuple):
    """Hold how many contacts of a node are left out, the AOR of the last one, how many are of that, and why."""

    contacts: int = 0
    aor: str = ""
    of_aor: int = 0
    why: str = ""


class Admission:
    """Decide about new contacts.

    `stored_devices` and `is_redis_full` are what the recorder last read in Redis. `cold_nodes` are those whose phones
    may all be new to us, because we did not hear of the node for long: any number of AORs is admitted.
    """

    def __init__(self, limits: AdmissionLimits, devices: Devices) -> None:
        self.limits = limits
        self.stored_devices = 0
        self.is_redis_full = False
        self.cold_nodes: set[str] = set()
        self.refused: Counter[tuple[str, Reason]] = Counter()
        self.devices = devices
        self._new_aors: dict[str, tuple[int, int]] = {}
        self._left_out: dict[str, dict[tuple[str, str], tuple[int, Reason]]] = {}

    def admits(self, binding: Binding, device_id: str, stamp: Stamp, *, is_reconciled: bool = False) -> bool:
        """Return whether to take in a contact; `is_reconciled` when a whole dump of OpenSIPS has it."""
        held = self.devices.find(binding)
        if held is not None:  # one that has ended may come back, but not to make a device without end
            return not held.ended_at or self.admits_move(binding, device_id, stamp)
        own = self.devices.of_aor(binding.aor)
        if _count_live(own) >= self.limits.contacts_per_aor:
            return self._leave_out("contacts_of_aor", binding, stamp)
        return device_id in self.devices.by_id or self._admits_device(
            binding, own, stamp, is_paced=not own and not is_reconciled and stamp.node not in self.cold_nodes
        )

    def admits_move(self, binding: Binding, device_id: str, stamp: Stamp) -> bool:
        """Return whether a contact that is held may move to a device, which may be new."""
        own = self.devices.of_aor(binding.aor)
        return device_id in self.devices.by_id or self._admits_device(binding, own, stamp, is_paced=False)

    def _admits_device(self, binding: Binding, own: Iterable[Device], stamp: Stamp, *, is_paced: bool) -> bool:
        """Return whether to make a new device. Where there is no room, the AOR's oldest offline device makes some."""
        reason = self._find_reason(own)
        if reason and not self._make_room(own):
            return self._leave_out(reason, binding, stamp)
        if is_paced and not self._is_in_pace(stamp):
            return self._leave_out("new_aors", binding, stamp)
        self.stored_devices += 1
        return True

    def _find_reason(self, own: Iterable[Device]) -> Reason | None:
        if len(list(own)) >= self.limits.devices_per_aor:
            return "devices_of_aor"
        if self.is_redis_full:
            return "redis_full"
        return "devices" if self.stored_devices >= self.limits.stored_devices else None

    def _make_room(self, own: Iterable[Device]) -> bool:
        offline = [device for device in own if all(contact.ended_at for contact in device.contacts)]
        if not offline:
            return False
        self.devices.remove_device(min(offline, key=_last_change))
        self.stored_devices -= 1
        return True

    def _is_in_pace(self, stamp: Stamp) -> bool:
        minute = stamp.ts // MINUTE_MS
        last_minute, count = self._new_aors.get(stamp.node, (minute, 0))
        count = count + 1 if minute == last_minute else 1
        if count > self.limits.new_aors_per_minute:
            return False
        self._new_aors[stamp.node] = minute, count
        return True

    # What was left out

    def _leave_out(self, reason: Reason, binding: Binding, stamp: Stamp) -> bool:
        self.refused[stamp.node, reason] += 1
        left_out = self._left_out.setdefault(stamp.node, {})
        key = binding.aor, contact_id(binding)
        left_out.pop(key, None)  # the latest comes last
        if len(left_out) >= MAX_LEFT_OUT:
            del left_out[next(iter(left_out))]
        left_out[key] = stamp.ts, reason
        return False

    def left_out(self, node: str, since: int) -> LeftOut:
        """Return which contacts of a node were left out since a time (epoch ms), and forget earlier ones."""
        left_out = self._left_out.get(node)
        if not left_out:
            return LeftOut()
        for key in [key for key, (ts, _) in left_out.items() if ts < since]:
            del left_out[key]
        if not left_out:
            return LeftOut()
        aor, last = next(reversed(left_out))
        return LeftOut(len(left_out), aor, sum(own == aor for own, _ in left_out), left_out[aor, last][1])


def _count_live(devices: Iterable[Device]) -> int:
    return sum(not contact.ended_at for device in devices for contact in device.contacts)


def _last_change(device: Device) -> int:
    return max((contact.changed_at for contact in device.contacts), default=device.first_seen_at)
