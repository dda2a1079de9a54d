"""End contacts that expired although OpenSIPS did not report it."""

from typing import Final

from companion.consumer.memory import RecorderMemory
from companion.consumer.retry import RedisRetry
from companion.store.devices import load_expired_devices
from companion.store.store import Store
from companion.times import now_ms

EXPIRY_GRACE_MS: Final = 90_000
"""OpenSIPS reports an expired contact at its next timer; only later than this do we end it ourselves."""
EXPIRY_LIMIT: Final = 1000
"""The most devices that are loaded at once."""


class Expiry:
    """Check the index of expired contacts, a part of it at each run."""

    def __init__(self, store: Store, retry: RedisRetry, memory: RecorderMemory) -> None:
        self._store = store
        self._retry = retry
        self._memory = memory
        self._skip = 0

    async def run(self) -> None:
        """End contacts that expired too long ago; call it only while all feeds live.

        Contacts of nodes that another consumer records stay in the index: the next run skips them.
        """
        now = now_ms()
        before, skip = now - EXPIRY_GRACE_MS, self._skip
        devices = await self._retry.run(lambda: load_expired_devices(self._store, before, skip, EXPIRY_LIMIT))
        usrloc, held = self._memory.usrloc, self._memory.feeds.held
        self._memory.put(devices)
        loaded = [own for device in devices if (own := usrloc.devices.by_id.get(device.id))]
        ours = [contact for device in loaded for contact in device.contacts if contact.node in held]
        ended = sum(usrloc.ends.expire(contact, before, now) for contact in ours)
        self._skip = skip + EXPIRY_LIMIT if devices and not ended else 0
