"""Read from the store what the events of a batch need."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from companion import sip
from companion.consumer.decoder import DecodedMessage
from companion.consumer.memory import RecorderMemory
from companion.consumer.retry import RedisRetry
from companion.opensips.events import DELETE, DISCONNECT, UPDATE, ContactEvent, DisconnectEvent
from companion.store.devices import load_connected_devices, load_devices_of_aors, load_devices_of_bindings
from companion.store.removals import load_removed_contacts
from companion.store.store import Store
from companion.times import now_ms
from companion.usrloc.contact import Binding

OWN_REMOVAL_MS: Final = 60_000
"""The event of a removal by the companion comes within this time."""


class Loader:
    """Read devices that are not in memory, and the companion's own removals."""

    def __init__(self, store: Store, retry: RedisRetry, memory: RecorderMemory) -> None:
        self._store = store
        self._retry = retry
        self._memory = memory

    async def load(self, batch: Sequence[DecodedMessage]) -> None:
        """Read the devices that these messages need. Raises GaveUpError when Redis does not answer in time.

        Messages before them may be applied meanwhile: what is in memory by then is newer, and stays.
        """
        await self._load_contacts(batch)
        await self._load_connected(batch)
        await self._load_replaced(batch)

    async def _load_contacts(self, batch: Sequence[DecodedMessage]) -> None:
        """Read the devices of contacts that are not in memory, or that another `attr` may move to another device."""
        find = self._memory.usrloc.devices.find
        unloaded: dict[Binding, str] = {}
        for message, events, _ in batch:
            cluster = self._memory.feeds.held[message.node].cluster
            for event in events:
                if isinstance(event, ContactEvent):
                    binding = Binding(cluster, event.domain, event.aor, event.uri)
                    contact = find(binding)
                    if contact is None or contact.registration.attr != event.registration.attr:
                        unloaded.setdefault(binding, _device_id(event))
        await self.load_bindings(unloaded)

    async def load_bindings(self, unloaded: Mapping[Binding, str]) -> None:
        """Read the devices of contacts, and those that they are mapped to; of new contacts all devices of their AOR."""
        if unloaded:
            devices = await self._retry.run(lambda: load_devices_of_bindings(self._store, unloaded))
            self._memory.put(devices)

    async def _load_connected(self, batch: Sequence[DecodedMessage]) -> None:
        """Read the devices on connections that have ended."""
        connections = {
            (self._memory.feeds.held[message.node].cluster, event.address): None
            for message, events, _ in batch
            if message.name == DISCONNECT
            for event in events
            if isinstance(event, DisconnectEvent)
        }
        if connections:
            devices = await self._retry.run(lambda: load_connected_devices(self._store, connections))
            self._memory.put(devices)

    async def _load_replaced(self, batch: Sequence[DecodedMessage]) -> None:
        """Read the devices among which a push contact may have another URI: an UPDATE may give it a new one."""
        in_memory = self._memory.usrloc.devices.contacts  # unpacked by now
        aors = {
            event.aor
            for event, binding in self._contact_events(batch, UPDATE)
            if binding not in in_memory and sip.push_identity(event.uri)
        }
        if aors:
            devices = await self._retry.run(lambda: load_devices_of_aors(self._store, aors))
            self._memory.put(devices)

    async def load_own_removals(self, batch: Sequence[DecodedMessage]) -> None:
        """Read which contacts the companion removed, when contacts that failed are deleted.

        All messages before these must be applied: one may have told of the failure.
        """
        in_memory = self._memory.usrloc.devices.contacts  # unpacked by now
        deleted = [in_memory.get(binding) for _, binding in self._contact_events(batch, DELETE)]
        removed: set[str] = set()
        if any(contact and contact.failing for contact in deleted):
            since = now_ms() - OWN_REMOVAL_MS
            removed = await self._retry.run(lambda: load_removed_contacts(self._store, since))
        self._memory.usrloc.ends.own_removals = removed  # an old one may have registered again

    def _contact_events(self, batch: Sequence[DecodedMessage], name: str) -> Iterator[tuple[ContactEvent, Binding]]:
        for message, events, _ in batch:
            if message.name == name:
                cluster = self._memory.feeds.held[message.node].cluster
                for event in events:
                    if isinstance(event, ContactEvent):
                        yield event, Binding(cluster, event.domain, event.aor, event.uri)


def _device_id(event: ContactEvent) -> str:
    return sip.device_id(event.aor, event.uri, sip.contact_instance(event.registration.attr, event.uri))
