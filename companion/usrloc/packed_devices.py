"""Hold devices packed, while nothing happens to them. No I/O.

A packed device takes a fifth of the memory of one in use, and the garbage collector has nothing of it to go over. It
is packed with all fields in microseconds, in the order in which `Device` and `Contact` declare them.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from companion.usrloc.contact import Device

_encode_into: Final = msgspec.msgpack.Encoder().encode_into
_decode: Final = msgspec.msgpack.Decoder(tuple[Device, ...]).decode
_read_items: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class PackedDevices:
    """Hold the devices of an AOR in one value of bytes. `count` is the number of devices."""

    def __init__(self) -> None:
        self.count = 0
        self._of_aor: dict[str, bytes] = {}
        self._buffer = bytearray()
        """Where devices are packed: bytes of just their length are copied off it, and leave no gaps in memory."""

    def put(self, aor: str, devices: Sequence[Device]) -> None:
        """Pack the devices of an AOR, of which none is packed yet. They are used up.

        Devices with a number or text that can not be packed are left out: the store has them.
        """
        for device in devices:
            for contact in device.contacts:
                contact.device = ""
        try:
            _encode_into(devices, self._buffer)
        except (OverflowError, UnicodeEncodeError):
            return
        self._of_aor[aor] = bytes(self._buffer)
        self.count += len(devices)

    def take(self, aor: str) -> Sequence[Device]:
        """Return the devices of an AOR, none if they are not packed; they are not held here any more."""
        packed = self._of_aor.pop(aor, None)
        if packed is None:
            return ()
        devices = _decode(packed)
        for device in devices:
            for contact in device.contacts:
                contact.device = device.id
        self.count -= len(devices)
        return devices

    def drop_cluster(self, cluster: str) -> None:
        """Drop at least the devices with contacts of a cluster, by its name in the packed bytes."""
        name = cluster.encode()
        for aor in [aor for aor, packed in self._of_aor.items() if name in packed]:
            self.count -= len(_read_items(self._of_aor.pop(aor)))

    def drop_oldest(self, count: int) -> None:
        """Drop at least so many devices, those that were packed first."""
        for aor in list(islice(self._of_aor, max(0, count))):
            if count <= 0:
                return
            dropped = len(_read_items(self._of_aor.pop(aor)))
            self.count -= dropped
            count -= dropped
