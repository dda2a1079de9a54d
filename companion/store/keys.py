"""Name every key of the companion in Redis; docs/redis.md describes them. No I/O.

Keys that belong together carry one hash tag `{n}`, n = crc32(AOR) mod shards: a device, its contacts, its series and
its AOR are in one slot of a Redis Cluster.
"""

from zlib import crc32


class Keys:
    """Name keys under one prefix."""

    def __init__(self, prefix: str, shards: int) -> None:
        self.prefix = prefix
        self.shards = shards
        self._tags = [f"{prefix}{{{n}}}:" for n in range(shards)]

    def shard(self, aor: str) -> int:
        return crc32(aor.encode()) % self.shards if self.shards > 1 else 0

    def shard_of(self, key: str) -> int:
        """Return the shard of a key with a hash tag."""
        if self.shards == 1:
            return 0
        return int(key[len(self.prefix) + 1 : key.index("}")])

    def _tag(self, aor: str) -> str:
        return self._tags[self.shard(aor)]

    def _tag_of(self, device: str) -> str:
        return self._tag(device.rpartition("/")[0]) if self.shards > 1 else self._tags[0]

    # One device

    def device(self, device: str) -> str:
        return f"{self._tag_of(device)}device:{device}"

    def latency(self, device: str) -> str:
        return f"{self._tag_of(device)}latency:{device}"

    def lost(self, device: str) -> str:
        return f"{self._tag_of(device)}lost:{device}"

    def timeline(self, device: str) -> str:
        return f"{self._tag_of(device)}timeline:{device}"

    def trace(self, device: str) -> str:
        """Name a sorted set: packed SIP messages, by their time in epoch µs."""
        return f"{self._tag_of(device)}trace:{device}"

    def spelling(self, device: str) -> str:
        """Name a string: the AOR of a device as its messages write it, where usrloc has other letters."""
        return f"{self._tag_of(device)}spelling:{device}"

    # One call, as one device saw it

    def call(self, device: str, ref: str) -> str:
        """Name a hash: the call and the totals of its media."""
        return f"{self._tag_of(device)}call:{ref}"

    def media(self, device: str, ref: str) -> str:
        """Name a stream: an entry a report of its media."""
        return f"{self._tag_of(device)}media:{ref}"

    def calls_of(self, device: str) -> str:
        """Name a sorted set: the refs of a device's calls, by start time."""
        return f"{self._tag_of(device)}calls:{device}"

    def report_budget(self, device: str) -> str:
        """Name a hash: what a device's reports have used of an hour's budget, and how many were refused."""
        return f"{self._tag_of(device)}report-budget:{device}"

    # One contact, AOR, instance or connection

    def contact(self, aor: str, contact: str) -> str:
        return f"{self._tag(aor)}contact:{contact}"

    def care_state(self, aor: str, contact: str) -> str:
        """Name a hash: what remediation has done about a contact, if anything."""
        return f"{self._tag(aor)}care-state:{contact}"

    def aor(self, aor: str) -> str:
        return f"{self._tag(aor)}aor:{aor}"

    def instance(self, instance: str) -> str:
        return f"{self._tag(instance)}instance:{instance}"

    def connection(self, cluster: str, address: str) -> str:
        return f"{self._tag(address)}connection:{cluster}/{address}"

    # One shard

    def devices(self, shard: int) -> str:
        return f"{self._tags[shard]}devices"

    def answers(self, shard: int) -> str:
        return f"{self._tags[shard]}answers"

    def expires(self, shard: int) -> str:
        return f"{self._tags[shard]}expires"

    def failing(self, shard: int) -> str:
        return f"{self._tags[shard]}failing"

    def writers(self, shard: int) -> str:
        """Name a hash: the token of the consumer that writes each node's events."""
        return f"{self._tags[shard]}writers"

    # All

    def format(self) -> str:
        """Name a string: the number of the format of all data."""
        return f"{self.prefix}format"

    def shard_count(self) -> str:
        """Name a string: the number of shards of all data."""
        return f"{self.prefix}shards"

    def nodes(self) -> str:
        return f"{self.prefix}nodes"

    def node(self, node: str) -> str:
        return f"{self.prefix}node:{node}"

    def seqs(self, node: str) -> str:
        """Name a hash whose hash tag is the name of the node's own: both change in one script."""
        return f"{self.prefix}seqs:{{{self.node(node)}}}"

    def lease(self, node: str) -> str:
        return f"{self.prefix}lease:{node}"

    def cluster_lease(self, cluster: str) -> str:
        """Name a lock: the consumer that records all nodes of a cluster."""
        return f"{self.prefix}lease:cluster:{cluster}"

    def turn(self, name: str) -> str:
        """Name a lock: the companion that runs a periodic job."""
        return f"{self.prefix}lease:job:{name}"

    def consumers(self) -> str:
        """Name a hash: the report of each consumer, JSON."""
        return f"{self.prefix}consumers"

    def jobs(self) -> str:
        """Name a hash: the last good run of each scheduled job, JSON."""
        return f"{self.prefix}jobs"

    def summary(self) -> str:
        return f"{self.prefix}summary"

    def fleet_changes(self) -> str:
        """Name a stream: the devices and answers that the last batches changed."""
        return f"{self.prefix}fleet-changes"

    def networks(self) -> str:
        """Hash: how many contacts each network (/24, /48) has, as last counted."""
        return f"{self.prefix}networks"

    def history(self) -> str:
        return f"{self.prefix}history"

    def callid(self, call_id: str) -> str:
        """Name a set: `REF DEVICE` of each device that reported this call."""
        return f"{self.prefix}callid:{call_id}"

    def calls(self) -> str:
        """Name a sorted set: `REF DEVICE` of all calls, by their last report."""
        return f"{self.prefix}calls"

    def report_budget_of_all(self) -> str:
        """Name a hash: what the reports of all devices have used of an hour's budget."""
        return f"{self.prefix}report-budget"

    def quality(self) -> str:
        """Name a string: JSON with the quality of the last hour's calls."""
        return f"{self.prefix}media"

    def recordings(self) -> str:
        """Name a hash: JSON of each recording, by device."""
        return f"{self.prefix}recordings"

    def tracer(self) -> str:
        """Name a lock: who changes the traces of the OpenSIPS nodes now."""
        return f"{self.prefix}lease:traces"

    # Reconciling

    def corrections(self, node: str) -> str:
        """Name a stream: corrections for the node's recorder; the field is the kind, the value is JSON."""
        return f"{self.prefix}corrections:{node}"

    def reconcile(self, node: str) -> str:
        """Name a hash: the node's last reconciliation: at, run, steady_since, up_since, seconds, failures, result."""
        return f"{self.prefix}reconcile:{node}"

    def dump_lock(self, cluster: str) -> str:
        return f"{self.prefix}lease:reconcile:{cluster}"

    # Remediation

    def pushing(self, shard: int) -> str:
        return f"{self._tags[shard]}pushing"

    def pushes(self, device: str, day: str) -> str:
        return f"{self._tag_of(device)}pushes:{day}:{device}"

    def care(self, device: str) -> str:
        return f"{self._tag_of(device)}care:{device}"

    def remediations(self) -> str:
        return f"{self.prefix}remediations"

    def push(self) -> str:
        return f"{self.prefix}push"

    def pause(self) -> str:
        return f"{self.prefix}pause"

    def breaker(self, group: str) -> str:
        """Hash: the breaker of a node, a cluster or a network."""
        return f"{self.prefix}breaker:{group}"

    def off(self) -> str:
        """Name a string: since when remediation is switched off."""
        return f"{self.prefix}off"

    def removals(self) -> str:
        """Name a sorted set: removals of the last hour, by time."""
        return f"{self.prefix}removals"

    def suspects(self) -> str:
        """Name a sorted set: AORs with a removal in the last hour whose phone came back at once."""
        return f"{self.prefix}suspects"

    def witnesses(self) -> str:
        """Hash: `NODE SOCKET` to the contact that last answered there."""
        return f"{self.prefix}witnesses"

    def sweep(self) -> str:
        return f"{self.prefix}sweep"

    def sweeper(self) -> str:
        return f"{self.prefix}lease:sweeper"

    def fence(self) -> str:
        return f"{self.prefix}fence"

    def actions(self, minute: int) -> str:
        return f"{self.prefix}actions:{minute}"
