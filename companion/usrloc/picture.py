"""Keep a picture of what the nodes hold in usrloc, moved on by their events. No I/O.

`Usrloc.apply` takes one event and collects in `changes` what has to be stored. The writer takes `changes` away, batch
by batch. Contacts that are stored but not in the picture must be `put` there first, or they count as new.
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
from companion.opensips.sockets import parse_socket
from companion.usrloc.changes import Changes, Sample, Stamp
from companion.usrloc.connections import Connections
from companion.usrloc.contact import Binding, Contact, Device, contact_id, ghost_spans, is_replacement
from companion.usrloc.evidence import NodeEvidence
from companion.usrloc.intervals import Intervals
from companion.usrloc.registrations import is_same_register, is_same_registration
from companion.usrloc.switch_over import Outage, note_arrival, note_death, note_move

LATE_MS: Final = 10_000
"""Events about a contact that arrive this soon after its end were under way when it ended."""
REMOVED_BEHIND_LOSS_MS: Final = 1_000
"""A DELETE this soon after a lost ping is a removal by OpenSIPS itself (nathelper remove_on_timeout)."""
HOUR_MS: Final = 3_600_000
ENDED_KEPT: Final = 50
"""The number of ended contacts that a device keeps: enough to leave out their lost pings."""


class Usrloc:
    """Hold the contacts and devices that are in memory, and what changed since the last write."""

    def __init__(self, lost_after: int, interval_ms: int) -> None:
        self._lost_after = lost_after
        self.intervals = Intervals(interval_ms)
        self.contacts: dict[Binding, Contact] = {}
        self.devices: dict[str, Device] = {}
        self._connections = Connections()
        self.changes = Changes()
        self.ignored: Counter[str] = Counter()
        self.removals: Counter[str] = Counter()

    def take_changes(self) -> Changes:
        changes, self.changes = self.changes, Changes()
        return changes

    def put(self, devices: Iterable[Device]) -> None:
        """Put stored devices with all their contacts into the picture."""
        for device in devices:
            if device.id in self.devices:
                continue
            self.devices[device.id] = device
            self._connections.index(device.contacts)
            self.contacts.update((contact.binding, contact) for contact in device.contacts)

    def drop(self, device: Device) -> None:
        """Drop a stored device from memory."""
        del self.devices[device.id]
        for contact in device.contacts:
            self.contacts.pop(contact.binding, None)
            self._connections.forget(contact)

    def apply(self, event: Event, stamp: Stamp) -> None:
        """Move the picture on by one event."""
        if isinstance(event, ContactEvent):
            self._apply_contact(event, stamp)
        elif isinstance(event, DisconnectEvent):
            self._apply_disconnect(event, stamp)
        else:
            assert isinstance(event, AorEvent)  # noqa: S101 - an AOR's contacts say all that its own events say

    def expire(self, contact: Contact, before: int, now: int) -> bool:
        """End a contact that expired before a time (epoch ms); return whether it did."""
        due = not contact.ended_at and 0 < contact.registration.expires_at <= before
        if due:
            self._end(contact, "expired", max(now, contact.changed_at + 1))
        return due

    def _apply_contact(self, event: ContactEvent, stamp: Stamp) -> None:
        binding = Binding(stamp.cluster, event.domain, event.aor, event.uri)
        contact = self.contacts.get(binding)
        if contact is not None and (contact.run == stamp.run and stamp.ts <= contact.changed_at):
            return  # registration before: a batch that was sent again
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
        else:
            self._follow(contact, event.registration, stamp)
        self._pinged(contact, event.latency_us, stamp.ts, stamp.node, stamp.run)

    def _follow(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Take over what a ping tells of the contact's registration."""
        registration = _with_own_socket(contact, registration, stamp)
        if contact.registration == registration or _overtaken(contact, registration, stamp):
            return
        if contact.failing and not is_same_registration(contact.registration, registration):
            self._recover(contact, stamp.ts, "register")  # its REGISTER was lost on the way
        self._take_registration(contact, registration, stamp)
        self.changes.contacts[contact] = None

    def ping(self, contact: Contact, latency_us: int, ts: int, node: str, run: int) -> None:
        """Apply a ping of a contact that has not ended and whose registration is as it was."""
        if contact.run != run or ts > contact.changed_at:
            self._pinged(contact, latency_us, ts, node, run)

    def _pinged(self, contact: Contact, latency_us: int, ts: int, node: str, run: int) -> None:
        contact.changed_at = ts
        contact.run = run
        self.changes.active[self.devices[contact.device]] = ts
        evidence = contact.evidence.get(node)
        if evidence is None:
            evidence = contact.evidence[node] = NodeEvidence()
            self.changes.contacts[contact] = None
        elif evidence.pinged_at:
            self.intervals.add(node, ts - evidence.pinged_at)
        if latency_us == LOST_PING_US:
            self._lost(contact, node, evidence, ts)
        else:
            contact.node = node
            self._answered(contact, evidence, ts, round(latency_us / 1000))

    def _answered(self, contact: Contact, evidence: NodeEvidence, ts: int, latency_ms: int) -> None:
        changes, node = self.changes, contact.node
        changes.answered.append(Sample(contact.device, ts, latency_ms))
        if contact.disconnected_at and ts - latency_ms <= contact.disconnected_at:
            return  # the answer was under way when the connection died
        evidence.add_answer(ts)
        if contact.holder != node and contact.connection:
            contact.holder = node  # only over the contact's own connection can it have answered
            changes.contacts[contact] = None
        self._lives(contact, ts)
        contact.last_latency_ms = latency_ms
        contact.last_latency_at = ts
        changes.answers[contact] = None
        if contact.failing or contact.doubts:
            self._recover(contact, ts, "ping")
        device = self.devices[contact.device]
        if len(device.contacts) > 1:
            self._supersede(device, contact, ts)

    def _lost(self, contact: Contact, node: str, evidence: NodeEvidence, ts: int) -> None:
        if not evidence.add_loss(ts, self.intervals.least_gap_ms(node)):
            return
        self.changes.contacts[contact] = None
        if contact.reach(node) == "no":
            self._doubt(contact, ts)
            return
        contact.node = node
        self.changes.lost.append(Sample(contact.device, ts, contact.number))
        contact.last_lost_at = ts
        if evidence.lost > contact.consecutive_lost:
            self._count_loss(contact, evidence, ts)

    def _doubt(self, contact: Contact, ts: int) -> None:
        """Count a lost ping of a node that can not reach the contact: no evidence, but a reason to ask its holder."""
        self.ignored["not_reachable_from_node"] += 1
        contact.doubts += 1
        contact.doubted_at = contact.doubted_at or ts

    def _count_loss(self, contact: Contact, evidence: NodeEvidence, ts: int) -> None:
        contact.consecutive_lost = evidence.lost
        contact.lost_since = contact.lost_since or evidence.lost_since
        if contact.consecutive_lost == 1:
            self.changes.note(contact, ts, "lost")
        if contact.consecutive_lost == self._lost_after:
            self.changes.note(contact, ts, "stale", lost=contact.consecutive_lost)
            if not contact.disconnected_at:
                note_death(self.changes, self.devices[contact.device], contact, ts)

    def _lives(self, contact: Contact, ts: int) -> None:
        """End the time in which a newer contact had replaced it; keep its lost pings of that time apart."""
        if contact.superseded_at:
            contact.was_ghost = ghost_spans(contact, self._lost_after, ts)
            contact.superseded_at = 0
            contact.superseded_by = ""

    def _recover(self, contact: Contact, ts: int, by: str) -> None:
        """End a run of lost pings on every node, or withdraw a disconnect."""
        if contact.failing:
            since = min(filter(None, (contact.lost_since, contact.disconnected_at)))
            self.changes.note(contact, ts, "recovered", by=by, lost=contact.consecutive_lost, after_ms=ts - since)
        contact.consecutive_lost = contact.lost_since = contact.disconnected_at = 0
        contact.doubts = contact.doubted_at = 0
        contact.disconnected_by = ""
        for evidence in contact.evidence.values():
            evidence.lost = evidence.lost_since = 0
        self.changes.contacts[contact] = None

    def _supersede(self, device: Device, newer: Contact, ts: int) -> None:
        """Mark the older contacts of a SIP instance that this newer one replaced by its answer."""
        if not device.instance:
            return  # two desk phones may share the fallback id
        for older in device.contacts:
            if older is newer or older.ended_at or older.superseded_at:
                continue
            if is_replacement(older, newer, self.intervals.configured_ms):
                older.superseded_at, older.superseded_by = ts, newer.id
                if older.failing:
                    self.changes.contacts[older] = None

    # Registrations

    def _register(self, event: ContactEvent, stamp: Stamp, binding: Binding, contact: Contact | None) -> None:
        if contact is None or contact.ended_at:
            contact = self._enter(binding, event.registration, stamp)
            contact.registered_at = stamp.ts
            self.changes.note(contact, stamp.ts, "registered", address=contact.address)
            note_arrival(self.changes, self.devices[contact.device], contact, stamp.ts, self._lost_after)
        elif is_same_register(contact.registration, event.registration):
            self._take_replica(contact, event.registration, stamp)
            return
        elif _overtaken(contact, event.registration, stamp):
            return
        else:
            self._lives(contact, stamp.ts)
            self._note_re_register(contact, event, stamp.ts)
            self._re_register(contact, event.registration, stamp, contact.disconnected_at)
        contact.last_register_at = contact.changed_at = stamp.ts
        contact.run = stamp.run
        self.changes.contacts[contact] = None
        self.changes.active[self.devices[contact.device]] = stamp.ts

    def _take_replica(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Take over the listening socket when the node that took the REGISTER tells of it after a replica did."""
        if registration.socket and not contact.registration.socket:
            self._take_registration(contact, registration, stamp)
            self.changes.contacts[contact] = None

    def _note_re_register(self, contact: Contact, event: ContactEvent, ts: int) -> None:
        """Note a REGISTER. One that changes only the expiry is noted once an hour: phones may send one a minute."""
        registration = event.registration
        renewed = contact.registration._replace(expires_at=registration.expires_at, cseq=registration.cseq)
        if renewed != registration or contact.failing or ts - contact.re_register_noted_at >= HOUR_MS:
            contact.re_register_noted_at = ts
            self.changes.note(
                contact, ts, "re-registered", address=sip.network_address(registration.received, event.uri)
            )

    def _re_register(self, contact: Contact, registration: Registration, stamp: Stamp, died_at: int) -> None:
        old_address, alive_at, ts = contact.address, contact.alive_at, stamp.ts
        self._take_registration(contact, registration, stamp)
        if contact.failing or contact.doubts:
            self._recover(contact, ts, "register")
        if old_address and contact.address != old_address:
            note_move(self.changes, contact, old_address, ts, Outage(died_at, alive_at, ts))

    def _discover(self, event: ContactEvent, stamp: Stamp, binding: Binding) -> Contact:
        """Enter a contact without its REGISTER, which came before our start or was lost."""
        contact = self._enter(binding, event.registration, stamp)
        self.changes.note(contact, stamp.ts, "discovered", address=contact.address)
        self.changes.contacts[contact] = None
        return contact

    def _enter(self, binding: Binding, registration: Registration, stamp: Stamp, instance: str = "") -> Contact:
        previous = self.contacts.get(binding)
        instance = instance or sip.instance(registration.attr)
        device_id = sip.device_id(binding.aor, binding.uri, instance)
        if previous and not instance:
            device_id = previous.device
        contact = Contact(binding, contact_id(binding), device_id, stamp.node, registration)
        if previous:
            contact.was_ghost = ghost_spans(previous, self._lost_after, stamp.ts)
            self._remove_from_device(previous)
        contact.holder = _holder(contact, stamp)
        self.contacts[binding] = contact
        self._add_to_device(contact, instance, stamp.ts)
        self._connections.connect(contact, self.changes)
        return contact

    def _take_registration(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Take over a registration; a SIP instance that appears moves the contact to its device."""
        old_path = contact.address, contact.registration.socket
        self._connections.disconnect(contact, self.changes)
        contact.registration = registration
        self._connections.connect(contact, self.changes)
        if old_path != (contact.address, registration.socket):
            contact.holder = _holder(contact, stamp)
            contact.evidence.clear()  # what reached it on the old path says nothing of the new one
            contact.address_since = stamp.ts
        instance = sip.instance(registration.attr)
        if instance:
            self._move(contact, instance)

    def _move(self, contact: Contact, instance: str) -> bool:
        """Move a contact to the device of an instance; return whether it was elsewhere."""
        device_id = sip.device_id(contact.binding.aor, contact.binding.uri, instance)
        if device_id == contact.device:
            return False
        self._remove_from_device(contact)
        contact.device = device_id
        self._add_to_device(contact, instance, contact.changed_at)
        device, active = self.devices[device_id], self.changes.active
        active[device] = max(contact.changed_at, active.get(device, 0))
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
        """Note that OpenSIPS itself asked for a push (registrar pn_enable)."""
        if contact and not contact.ended_at:
            self.changes.note(contact, stamp.ts, "push-sent", by="opensips")
            contact.changed_at = stamp.ts
            contact.run = stamp.run
            self.changes.contacts[contact] = None

    # Corrections from an MI dump of some time ago: events since then count more

    def end_missing(self, binding: Binding, stamp: Stamp) -> bool:
        """End a live contact that OpenSIPS no longer had at `stamp.ts`; return whether anything changed."""
        contact = self.contacts.get(binding)
        if contact is None or contact.ended_at or contact.changed_at >= stamp.ts:
            return False
        expired = 0 < contact.registration.expires_at <= stamp.ts
        contact.run = stamp.run
        self._end(contact, "expired" if expired else "gone", self._behind(contact, stamp.ts))
        return True

    def adopt(
        self,
        binding: Binding,
        registration: Registration,
        stamp: Stamp,
        *,
        instance: str = "",
        latency_ms: int | None = None,
    ) -> bool:
        """Take over a contact that OpenSIPS had at `stamp.ts`, or its newer registration; return whether it changed.

        `registration.bflags` does not count: MI names the flags instead of numbering them. `latency_ms` is of a ping at
        an unknown time, so it is no evidence of life.
        """
        contact = self.contacts.get(binding)
        if contact is not None and contact.changed_at >= stamp.ts:
            return False
        registration, advertised = registration._replace(socket=""), registration.socket
        if contact is None or contact.ended_at:
            contact = self._enter(binding, registration, stamp, instance)
            contact.last_latency_ms = latency_ms
            contact.changed_at = self._behind(contact, stamp.ts)
            self.changes.note(contact, contact.changed_at, "discovered", address=contact.address)
        elif is_same_registration(contact.registration, registration):
            return False
        else:
            contact.changed_at = self._behind(contact, stamp.ts)
            self._missed_register(contact, registration, stamp._replace(ts=contact.changed_at))
            self.identify(binding, instance)
        contact.advertised_socket = advertised
        contact.run = stamp.run
        self.changes.contacts[contact] = None
        self.changes.active[self.devices[contact.device]] = contact.changed_at
        return True

    def identify(self, binding: Binding, instance: str) -> bool:
        """Move a contact whose events name no SIP instance to its device; return whether it moved."""
        contact = self.contacts.get(binding)
        if not instance or contact is None or contact.ended_at or sip.instance(contact.registration.attr):
            return False
        if not self._move(contact, instance):
            return False
        self.changes.contacts[contact] = None
        return True

    def _missed_register(self, contact: Contact, registration: Registration, stamp: Stamp) -> None:
        """Apply a REGISTER that no event brought, after everything that is known of the contact."""
        address = sip.network_address(registration.received, contact.binding.uri)
        self.changes.note(contact, stamp.ts, "re-registered", address=address)
        self._lives(contact, stamp.ts)
        self._re_register(contact, registration._replace(bflags=contact.registration.bflags), stamp, 0)

    def _behind(self, contact: Contact, ts: int) -> int:
        """Return `ts`, or a time just behind the device's timeline, which takes no entry older than its last."""
        contacts = self.devices[contact.device].contacts
        return max(ts, 1 + max(max(other.changed_at, other.disconnected_at) for other in contacts))

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
        self._connections.disconnect(contact, self.changes)
        contact.ended_at = contact.changed_at = ts
        contact.ended_by = reason
        self.changes.note(contact, ts, reason, address=contact.address)
        self.changes.contacts[contact] = None
        self.changes.answers.pop(contact, None)
        self.changes.active[self.devices[contact.device]] = ts

    def _apply_disconnect(self, event: DisconnectEvent, stamp: Stamp) -> None:
        contacts = self._connections.matching(event, stamp)
        if len(contacts) > 1:
            self.ignored["shared_connection"] += 1
            return  # one connection for several lines, or a proxy: it says too little of any of them
        for contact in contacts:
            if contact.disconnected_at or (contact.run == stamp.run and stamp.ts < contact.changed_at):
                continue
            contact.disconnected_at = stamp.ts  # changed_at stays: a contact's own event may have the same time
            contact.disconnected_by = stamp.node
            self.changes.note(contact, stamp.ts, "disconnected", address=event.address)
            if contact.consecutive_lost < self._lost_after:
                note_death(self.changes, self.devices[contact.device], contact, stamp.ts)
            self.changes.contacts[contact] = None


def _holder(contact: Contact, stamp: Stamp) -> str:
    """Return the node whose own listening socket the registration names, "" when that is not certain.

    A replica names no socket, for the socket is another machine's. A wildcard socket (0.0.0.0) exists on every node.
    """
    socket = parse_socket(contact.registration.socket)
    return "" if socket is None or socket.is_wildcard else stamp.node


def _with_own_socket(contact: Contact, registration: Registration, stamp: Stamp) -> Registration:
    """Return a registration as a ping tells it, with the socket that a replica does not know."""
    if not registration.socket and stamp.node != contact.holder:
        return registration._replace(socket=contact.registration.socket)
    return registration


def _came_late(contact: Contact, event: ContactEvent, stamp: Stamp) -> bool:
    """Return whether an event was under way when the contact ended: a ping, or the last REGISTER again."""
    is_repeated = event.name == LATENCY or is_same_register(contact.registration, event.registration)
    return is_repeated and stamp.ts - contact.ended_at < LATE_MS


def _overtaken(contact: Contact, registration: Registration, stamp: Stamp) -> bool:
    """Return whether another node's event is of an older REGISTER than the latest."""
    latest = contact.registration
    return stamp.node != contact.node and latest.callid == registration.callid and registration.cseq < latest.cseq
