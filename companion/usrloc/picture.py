"""Our picture of what the nodes hold in usrloc, moved on by their events. No I/O.

`Usrloc.apply` takes one event and notes in `changes` what has to be stored; `changes` is taken away, batch by batch, by
whoever writes. Contacts that are not in the picture must be put there first (`missing`, `put`), else they count as new.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from companion import sip
from companion.opensips.events import (
    DELETE,
    LATENCY,
    LOST_PING_US,
    REFRESH,
    AorEvent,
    ContactEvent,
    DisconnectEvent,
    Event,
    Registration,
)
from companion.usrloc.changes import Changes, Entry, Fields, Sample, Stamp
from companion.usrloc.contact import Binding, Contact, Device, contact_id, ghost_spans, is_dead

LATE_MS: Final = 10_000
"""Words about a contact that come this soon after its end were under way when it ended."""
REMOVED_BEHIND_LOSS_MS: Final = 1_000
"""A DELETE this close behind a lost ping is OpenSIPS' own removal (nathelper remove_on_timeout)."""
HOUR_MS: Final = 3_600_000
ENDED_KEPT: Final = 50
"""Ended contacts a device remembers: enough to leave their losses out, few enough for who reloads all day."""


class Usrloc:
    """Every contact and device that events spoke of and that still has its place in memory."""

    def __init__(self, lost_after: int) -> None:
        self._lost_after = lost_after
        self.contacts: dict[Binding, Contact] = {}
        self.devices: dict[str, Device] = {}
        self._connections: dict[tuple[str, str], dict[Contact, None]] = {}
        self.changes = Changes()
        self.ignored: Counter[str] = Counter()
        self.removals: Counter[str] = Counter()

    def take_changes(self) -> Changes:
        changes, self.changes = self.changes, Changes()
        return changes

    def put(self, devices: Iterable[Device]) -> None:
        """Bring devices with all their contacts back into the picture, as they were stored."""
        for device in devices:
            if device.id in self.devices:
                continue
            self.devices[device.id] = device
            for contact in device.contacts:
                self.contacts[contact.binding] = contact
                if not contact.ended_at and contact.connection:
                    self._connections.setdefault((contact.binding.cluster, contact.connection), {})[contact] = None

    def drop(self, device: Device) -> None:
        """Let go of a device that is stored: its next event finds it there."""
        del self.devices[device.id]
        for contact in device.contacts:
            self.contacts.pop(contact.binding, None)
            self._forget_connection(contact)

    def apply(self, event: Event, stamp: Stamp) -> None:
        if isinstance(event, ContactEvent):
            self._apply_contact(event, stamp)
        elif isinstance(event, DisconnectEvent):
            self._apply_disconnect(event, stamp)
        else:
            assert isinstance(event, AorEvent)  # noqa: S101 - an AOR's contacts say all that its own events say

    def expire(self, contact: Contact, before: int, now: int) -> bool:
        """End a contact whose `expires` passed before a time without word; whether it was so."""
        due = not contact.ended_at and 0 < contact.registration.expires_at <= before
        if due:
            self._end(contact, "expired", max(now, contact.changed_at + 1))
        return due

    def _apply_contact(self, event: ContactEvent, stamp: Stamp) -> None:
        binding = Binding(stamp.cluster, event.domain, event.aor, event.uri)
        contact = self.contacts.get(binding)
        if contact is not None and (contact.run == stamp.run and stamp.ts <= contact.changed_at):
            return  # said before: a batch that was sent again
        if contact is not None and contact.ended_at and _came_late(contact, event, stamp):
            self.ignored["after_end"] += 1
            return
        if event.name == LATENCY:
            self._ping(event, stamp, binding, contact)
        elif event.name == DELETE:
            self._deleted(event, stamp, contact)
        elif event.name == REFRESH:
            self._refresh(stamp, contact)
        else:
            self._register(event, stamp, binding, contact)

    # Pings

    def _ping(self, event: ContactEvent, stamp: Stamp, binding: Binding, contact: Contact | None) -> None:
        if contact is None or contact.ended_at:
            contact = self._discover(event, stamp, binding)
        elif contact.registration != event.registration:
            if contact.failing and not same_registration(contact.registration, event.registration):
                self._recover(contact, stamp.ts, "register")  # nobody told of it, yet it was there
            self._take_registration(contact, event.registration)
            self.changes.contacts[contact] = None
        self._pinged(contact, event.latency_us, stamp.ts, stamp.node, stamp.run)

    def ping(self, contact: Contact, latency_us: int, ts: int, node: str, run: int) -> None:
        """Apply a ping of a contact that has not ended and whose registration is as it was."""
        if contact.run != run or ts > contact.changed_at:
            self._pinged(contact, latency_us, ts, node, run)

    def _pinged(self, contact: Contact, latency_us: int, ts: int, node: str, run: int) -> None:
        contact.node = node
        contact.changed_at = ts
        contact.run = run
        if latency_us == LOST_PING_US:
            self._lost(contact, ts)
        else:
            self._answered(contact, ts, round(latency_us / 1000))

    def _answered(self, contact: Contact, ts: int, latency_ms: int) -> None:
        changes = self.changes
        changes.answered.append(Sample(contact.device, ts, latency_ms))
        device = self.devices[contact.device]
        changes.seen[device] = ts
        if contact.disconnected_at and ts - latency_ms <= contact.disconnected_at:
            return  # the answer was under way when the connection died
        self._lives(contact, ts)
        contact.last_latency_ms = latency_ms
        contact.last_latency_at = ts
        changes.answers[contact] = None
        if contact.consecutive_lost or contact.disconnected_at:
            self._recover(contact, ts, "ping")
        if len(device.contacts) > 1:
            self._supersede(device, contact, ts)

    def _lost(self, contact: Contact, ts: int) -> None:
        self.changes.lost.append(Sample(contact.device, ts, contact.number))
        self.changes.seen[self.devices[contact.device]] = ts
        contact.consecutive_lost += 1
        contact.last_lost_at = ts
        if contact.consecutive_lost == 1:
            contact.lost_since = ts
            self._note(contact, ts, "lost")
        if contact.consecutive_lost == self._lost_after:
            self._note(contact, ts, "stale", lost=contact.consecutive_lost)
            if not contact.disconnected_at:
                self._departed(contact, ts)
        self.changes.contacts[contact] = None

    def _lives(self, contact: Contact, ts: int) -> None:
        """It showed life: no newer contact has answered since. What it lost as a ghost stays a ghost's."""
        if contact.superseded_at:
            contact.was_ghost = ghost_spans(contact, self._lost_after, ts)
            contact.superseded_at = 0

    def _recover(self, contact: Contact, ts: int, by: str) -> None:
        """End a run of losses, or a death that was none."""
        since = min(filter(None, (contact.lost_since, contact.disconnected_at)))
        self._note(contact, ts, "recovered", by=by, lost=contact.consecutive_lost, after_ms=ts - since)
        contact.consecutive_lost = contact.lost_since = contact.disconnected_at = 0
        self.changes.contacts[contact] = None

    def _supersede(self, device: Device, newer: Contact, ts: int) -> None:
        """Mark the older contacts of one SIP instance that a newer one answered since they last showed life."""
        if not device.instance:
            return  # two desk phones may share the fallback id
        for older in device.contacts:
            if older is newer or older.ended_at or older.superseded_at:
                continue
            if older.registered_at < newer.registered_at:
                older.superseded_at = ts
                if older.failing:
                    self.changes.contacts[older] = None

    # Registrations

    def _register(self, event: ContactEvent, stamp: Stamp, binding: Binding, contact: Contact | None) -> None:
        if contact is None or contact.ended_at:
            contact = self._enter(binding, event.registration, stamp)
            contact.registered_at = stamp.ts
            self._note(contact, stamp.ts, "registered", address=contact.address)
            self._arrived(contact, stamp.ts)
        elif _same_register(contact.registration, event.registration) or _overtaken(contact, event.registration, stamp):
            return  # usrloc replication tells every node of the cluster
        else:
            self._lives(contact, stamp.ts)
            self._note_re_register(contact, event, stamp.ts)
            self._re_register(contact, event.registration, stamp.ts, contact.disconnected_at)
        contact.last_register_at = contact.changed_at = stamp.ts
        contact.run = stamp.run
        self.changes.contacts[contact] = None
        self.changes.seen[self.devices[contact.device]] = stamp.ts

    def _note_re_register(self, contact: Contact, event: ContactEvent, ts: int) -> None:
        """Those that change nothing but the time are noted once an hour: a phone may send one a minute."""
        known, said = contact.registration, event.registration
        renewed = known._replace(expires_at=said.expires_at, cseq=said.cseq)
        if renewed != said or contact.failing or ts - contact.re_register_noted_at >= HOUR_MS:
            contact.re_register_noted_at = ts
            self._note(contact, ts, "re-registered", address=sip.network_address(said.received, event.uri))

    def _re_register(self, contact: Contact, said: Registration, ts: int, died_at: int) -> None:
        old_address, alive_at = contact.address, contact.alive_at
        self._take_registration(contact, said)
        if contact.failing:
            self._recover(contact, ts, "register")
        if old_address and contact.address != old_address:
            self._note_switch_over(contact, ts, old_address, died_at, _at_most(alive_at, ts))

    def _discover(self, event: ContactEvent, stamp: Stamp, binding: Binding) -> Contact:
        """A contact whose REGISTER was not heard of: from before our start, or lost on the way."""
        contact = self._enter(binding, event.registration, stamp)
        self._note(contact, stamp.ts, "discovered", address=contact.address)
        self.changes.contacts[contact] = None
        return contact

    def _enter(self, binding: Binding, said: Registration, stamp: Stamp, instance: str = "") -> Contact:
        previous = self.contacts.get(binding)
        instance = instance or sip.instance(said.attr)
        device_id = sip.device_id(binding.aor, binding.uri, instance)
        if previous and not instance:
            device_id = previous.device
        contact = Contact(binding, contact_id(binding), device_id, stamp.node, said)
        if previous:
            contact.was_ghost = ghost_spans(previous, self._lost_after, stamp.ts)
            self._remove_from_device(previous)
        self.contacts[binding] = contact
        self._add_to_device(contact, instance, stamp.ts)
        self._connect(contact)
        return contact

    def _take_registration(self, contact: Contact, said: Registration) -> None:
        """Keep what is said of the registration; an instance that shows up moves the contact to its device."""
        self._disconnect(contact)
        contact.registration = said
        self._connect(contact)
        instance = sip.instance(said.attr)
        if instance:
            self._move(contact, instance)

    def _move(self, contact: Contact, instance: str) -> bool:
        """Give a contact to the device of that instance, unless it is there."""
        device_id = sip.device_id(contact.binding.aor, contact.binding.uri, instance)
        if device_id == contact.device:
            return False
        self._remove_from_device(contact)
        contact.device = device_id
        self._add_to_device(contact, instance, contact.changed_at)
        seen = self.changes.seen
        seen[self.devices[device_id]] = max(contact.changed_at, seen.get(self.devices[device_id], 0))
        return True

    def _add_to_device(self, contact: Contact, instance: str, ts: int) -> None:
        device = self.devices.get(contact.device)
        if device is None:
            device = Device(contact.device, contact.binding.aor, instance, ts)
            self.devices[device.id] = device
        ended = [c for c in device.contacts if c.ended_at]
        for forgotten in ended[:-ENDED_KEPT]:
            device.contacts.remove(forgotten)
            self.contacts.pop(forgotten.binding, None)
        device.contacts.append(contact)
        self.changes.devices[device] = None

    def _remove_from_device(self, contact: Contact) -> None:
        device = self.devices[contact.device]
        device.contacts.remove(contact)
        self.changes.devices[device] = None

    def _refresh(self, stamp: Stamp, contact: Contact | None) -> None:
        """OpenSIPS itself asked for a push to bring this contact back (registrar pn_enable)."""
        if contact and not contact.ended_at:
            self._note(contact, stamp.ts, "push-sent", by="opensips")
            contact.changed_at = stamp.ts
            contact.run = stamp.run
            self.changes.contacts[contact] = None

    # Corrections: what OpenSIPS itself says it holds, as it was some time ago: what an event told since then stands

    def gone(self, binding: Binding, stamp: Stamp) -> bool:
        """End a live contact that OpenSIPS did not have any more at `stamp.ts`; tells whether anything changed."""
        contact = self.contacts.get(binding)
        if contact is None or contact.ended_at or contact.changed_at >= stamp.ts:
            return False
        expired = 0 < contact.registration.expires_at <= stamp.ts
        contact.run = stamp.run
        self._end(contact, "expired" if expired else "gone", self._behind(contact, stamp.ts))
        return True

    def found(
        self, binding: Binding, said: Registration, stamp: Stamp, *, instance: str = "", latency_ms: int | None = None
    ) -> bool:
        """Take over a contact that OpenSIPS had at `stamp.ts`, or its registration where we know an older one.

        `said.bflags` does not count: MI names the flags instead of numbering them. `latency_ms` is of a ping at some
        unknown time, so it is no evidence of life. Tells whether anything changed.
        """
        contact = self.contacts.get(binding)
        if contact is not None and contact.changed_at >= stamp.ts:
            return False
        if contact is None or contact.ended_at:
            contact = self._enter(binding, said, stamp, instance)
            contact.last_latency_ms = latency_ms
            contact.changed_at = self._behind(contact, stamp.ts)
            self._note(contact, contact.changed_at, "discovered", address=contact.address)
        elif same_registration(contact.registration, said):
            return False
        else:
            contact.changed_at = self._behind(contact, stamp.ts)
            self._missed_register(contact, said, contact.changed_at)
            self.identify(binding, instance)
        contact.run = stamp.run
        self.changes.contacts[contact] = None
        self.changes.seen[self.devices[contact.device]] = contact.changed_at
        return True

    def identify(self, binding: Binding, instance: str) -> bool:
        """Move a contact whose events name no SIP instance to the device of this one; tells whether it did."""
        contact = self.contacts.get(binding)
        if not instance or contact is None or contact.ended_at or sip.instance(contact.registration.attr):
            return False
        if not self._move(contact, instance):
            return False
        self.changes.contacts[contact] = None
        return True

    def _missed_register(self, contact: Contact, said: Registration, ts: int) -> None:
        """A REGISTER nobody told of: behind all we know of the contact, for pings would have brought its news too."""
        self._note(contact, ts, "re-registered", address=sip.network_address(said.received, contact.binding.uri))
        self._lives(contact, ts)
        self._re_register(contact, said._replace(bflags=contact.registration.bflags), ts, 0)

    def _behind(self, contact: Contact, ts: int) -> int:
        """`ts`, or just behind all that is on the device's timeline: that takes no entry older than its last."""
        known = self.devices[contact.device].contacts
        return max(ts, 1 + max(max(other.changed_at, other.disconnected_at) for other in known))

    # Ends

    def _deleted(self, event: ContactEvent, stamp: Stamp, contact: Contact | None) -> None:
        if contact is None or contact.ended_at or _overtaken(contact, event.registration, stamp):
            return
        contact.run = stamp.run
        expires_at = contact.registration.expires_at
        if event.lost and stamp.ts - contact.last_lost_at <= REMOVED_BEHIND_LOSS_MS:
            self.removals[stamp.node] += 1
            self._end(contact, "removed-after-lost-pings", stamp.ts)
        elif 0 < expires_at <= stamp.ts:
            self._end(contact, "expired", stamp.ts)
        else:
            self._end(contact, "unregistered", stamp.ts)

    def _end(self, contact: Contact, reason: str, ts: int) -> None:
        self._disconnect(contact)
        contact.ended_at = contact.changed_at = ts
        contact.ended_by = reason
        self._note(contact, ts, reason, address=contact.address)
        self.changes.contacts[contact] = None
        self.changes.answers.pop(contact, None)
        self.changes.seen[self.devices[contact.device]] = ts

    def _apply_disconnect(self, event: DisconnectEvent, stamp: Stamp) -> None:
        contacts = self._connections.get((stamp.cluster, event.address), {})
        if len(contacts) > 1:
            self.ignored["shared_connection"] += 1
            return  # one connection for several lines, or a proxy: it says too little of any of them
        for contact in contacts:
            if contact.disconnected_at or (contact.run == stamp.run and stamp.ts < contact.changed_at):
                continue
            contact.disconnected_at = stamp.ts  # changed_at stays: a contact's own event may have the same time
            self._note(contact, stamp.ts, "disconnected", address=event.address)
            if contact.consecutive_lost < self._lost_after:
                self._departed(contact, stamp.ts)
            self.changes.contacts[contact] = None

    # Switch-overs: a device leaves one address and registers from another (only a SIP instance makes that sure)

    def _arrived(self, contact: Contact, ts: int) -> None:
        """A new contact of a device whose last one is known to be dead."""
        device = self.devices[contact.device]
        others = [c for c in device.contacts if c is not contact]
        if not device.instance or not others:
            return
        last = max(others, key=lambda other: other.alive_at)
        left = last.ended_by in ("unregistered", "expired")  # it went on purpose, or long ago
        if not left and is_dead(last, self._lost_after) and last.address != contact.address:
            self._note_switch_over(contact, ts, last.address, last.disconnected_at, _at_most(last.alive_at, ts))

    def _departed(self, contact: Contact, ts: int) -> None:
        """A contact turned out to be dead after its device had registered from elsewhere."""
        device = self.devices[contact.device]
        if not device.instance:
            return
        newer = [
            other
            for other in device.contacts
            if not other.ended_at and other.registered_at > contact.alive_at and other.address != contact.address
        ]
        if newer:
            first = min(newer, key=lambda other: other.registered_at)
            self._note_switch_over(first, ts, contact.address, 0, _at_most(contact.alive_at, first.registered_at))

    def _note_switch_over(self, contact: Contact, ts: int, old: str, died_at: int, at_most: Fields) -> None:
        """The outage is known when the connection's death was seen before the new REGISTER, else only its bound."""
        outage: Fields = {"outage_ms": ts - died_at} if died_at else at_most
        self._note(contact, ts, "switched-over", **{"from": old, "to": contact.address, **outage})

    # Small things

    def _note(self, contact: Contact, ts: int, event: str, **fields: str | int) -> None:
        self.changes.entries.append(Entry(contact.device, ts, event, {"contact": contact.id, **fields}))

    def _connect(self, contact: Contact) -> None:
        address = contact.connection
        if address and not contact.ended_at:
            self._connections.setdefault((contact.binding.cluster, address), {})[contact] = None
            self.changes.connected[contact] = address

    def _disconnect(self, contact: Contact) -> None:
        address = self._forget_connection(contact)
        if address:
            self.changes.connected.pop(contact, None)
            self.changes.disconnected.append((contact, address))

    def _forget_connection(self, contact: Contact) -> str:
        address = contact.connection
        contacts = self._connections.get((contact.binding.cluster, address), {})
        if contact not in contacts:
            return ""
        del contacts[contact]
        if not contacts:
            del self._connections[contact.binding.cluster, address]
        return address


def _at_most(alive_at: int, back_at: int) -> Fields:
    """The bound of an outage; there is none when nobody ever saw the old contact alive."""
    return {"outage_at_most_ms": back_at - alive_at} if alive_at else {}


def _came_late(contact: Contact, event: ContactEvent, stamp: Stamp) -> bool:
    """Whether it was under way when the contact ended: a ping, or another node's word of the last REGISTER."""
    said_before = event.name == LATENCY or _same_register(contact.registration, event.registration)
    return said_before and stamp.ts - contact.ended_at < LATE_MS


def _same_register(known: Registration, said: Registration) -> bool:
    return (known.callid, known.cseq, known.expires_at) == (said.callid, said.cseq, said.expires_at)


def same_registration(known: Registration, said: Registration) -> bool:
    """Whether both are of one REGISTER, by what events and MI both tell exactly."""
    return (known.callid, known.cseq, known.received, known.path) == (said.callid, said.cseq, said.received, said.path)


def _overtaken(contact: Contact, said: Registration, stamp: Stamp) -> bool:
    """Whether another node's word is of a REGISTER older than the one we know."""
    known = contact.registration
    return stamp.node != contact.node and known.callid == said.callid and said.cseq < known.cseq
