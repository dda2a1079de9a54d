"""Take in the results of pings: answers and losses. No I/O."""

from companion.opensips.events import LOST_PING_US
from companion.usrloc.changes import Changes
from companion.usrloc.contact import Contact, Device
from companion.usrloc.devices import Devices
from companion.usrloc.evidence import NodeEvidence
from companion.usrloc.failures import Failures
from companion.usrloc.ghosts import mark_replaced, unmark_replaced
from companion.usrloc.intervals import Intervals


class PingResults:
    """Take in the results of pings of contacts that have not ended."""

    def __init__(
        self, lost_after: int, intervals: Intervals, devices: Devices, changes: Changes, failures: Failures
    ) -> None:
        self._lost_after = lost_after
        self._intervals = intervals
        self._devices = devices.by_id
        self._changes = changes
        self._failures = failures

    def add_if_new(self, contact: Contact, latency_us: int, ts: int, node: str, run: int) -> None:
        """Take in a ping that changes no registration, unless it is in a batch that was sent again."""
        if contact.run != run or ts > contact.changed_at:
            self.add(contact, latency_us, ts, node, run)

    def add(self, contact: Contact, latency_us: int, ts: int, node: str, run: int) -> None:
        """Take in a ping. Most of the companion's time passes here: see `make bench ONLY=consume`."""
        contact.changed_at = ts
        contact.run = run
        device = self._devices[contact.device]
        self._changes.active[device] = ts
        evidence = contact.evidence.get(node)
        if evidence is None:
            evidence = contact.evidence[node] = NodeEvidence()
            self._changes.contacts[contact] = None
        gaps = self._intervals[node]
        if not gaps.since:
            gaps.since = ts
        elif (pinged_at := evidence.pinged_at) >= gaps.since:
            gaps.add(ts - pinged_at)
        if latency_us != LOST_PING_US:
            contact.node = node
            self._add_answer(contact, device, evidence, ts, round(latency_us / 1000))
        elif evidence.add_loss(ts, self._intervals[node].least_gap_ms):
            self._failures.add_loss(contact, node, evidence, ts)

    def _add_answer(self, contact: Contact, device: Device, evidence: NodeEvidence, ts: int, latency_ms: int) -> None:
        changes = self._changes
        changes.answered.append((contact.device, ts, latency_ms))
        if contact.disconnected_at and ts - latency_ms <= contact.disconnected_at:
            return  # the answer was under way when the connection died
        evidence.add_answer(ts)
        if contact.holder != contact.node and contact.connection:
            contact.holder = contact.node  # only over the contact's own connection can it have answered
            changes.contacts[contact] = None
        if contact.superseded_at:
            unmark_replaced(contact, self._lost_after, ts)
        contact.last_latency_ms = latency_ms
        contact.last_latency_at = ts
        changes.answers[contact] = None
        if contact.consecutive_lost or contact.disconnected_at or contact.doubts:
            self._failures.recover(contact, ts, "ping")
        if len(device.contacts) > 1:
            mark_replaced(changes, device, contact, ts, self._intervals.configured_ms)
