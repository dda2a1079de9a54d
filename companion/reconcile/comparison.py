"""Compare the contacts that OpenSIPS holds (MI ul_dump) with the store.

Only a node's recorder writes contacts, so it gets corrections. It gets none before the end of the dump: only a whole
dump shows which contacts OpenSIPS does not have.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from companion import log, metrics, sip
from companion.config import Config
from companion.errors import MiError
from companion.opensips.events import LOG_CHARACTERS, LOST_PING_US, MAX_EXPIRES, Registration
from companion.opensips.mi import Mi
from companion.opensips.mi_contact import MiContact
from companion.reconcile.result import Reconciliation
from companion.store.contacts import ContactRef, iterate_live_refs, load_contacts
from companion.store.corrections import (
    Correction,
    Gone,
    Identified,
    Present,
    Row,
    append_corrections,
    encode_correction,
)
from companion.store.leases import select_leased
from companion.store.nodes import load_feeds
from companion.store.store import Store
from companion.text import printable
from companion.times import now_ms
from companion.usrloc.contact import Binding, Contact, contact_id
from companion.usrloc.registrations import is_same_registration

DUMP_SECONDS: Final = 180.0
"""OpenSIPS takes half a minute to write 100,000 contacts."""
MARGIN_MS: Final = 5_000
"""An event of the last seconds before the dump wins too: it may have the time of another host's clock, and the bridge
may stamp an event late."""
DOUBTED: Final = 50
"""When more contacts than this are missing, and more than half of those stored, the dump is refused."""
SETTLED_SECONDS: Final = 60
"""An OpenSIPS that runs so long has read its database and its cluster's contacts: a restart lost what is missing."""
CHUNK: Final = 500
LOG_AORS: Final = 10
"""AORs of contacts that can not be read, in the log."""

logger = log.get(__name__)


async def reconcile(node: str, mi: Mi, store: Store, config: Config, *, dry_run: bool = False) -> Reconciliation:
    """Compare the contacts of a node's cluster with the node's dump, and send corrections to the recorders.

    The result holds an error of MI; those of Redis are raised. With `dry_run` no correction is sent.
    """
    started = time.monotonic()
    counts: dict[str, Any] = {}
    try:
        up_since = now_ms() - 1000 * await mi.uptime_seconds()
        comparison = _Comparison(store, node, config.cluster(node))
        unparsable = await _take_dump(mi, comparison)
    except MiError as error:
        refused = str(error)
    else:
        if unparsable:
            aors = [printable(str(aor))[:LOG_CHARACTERS] for aor in unparsable[:LOG_AORS]]
            logger.warning("contacts in the dump can not be read", node=node, count=len(unparsable), aors=aors)
        refused = await asyncio.to_thread(comparison.settle, unparsable, up_since)
        counts = comparison.counts() | {"unparsable": len(unparsable), "up_since": up_since}
        if not refused and not dry_run:
            counts["dropped"] = await asyncio.to_thread(comparison.hand_over)
    metrics.RECONCILED.labels(node, "refused" if refused else "done").inc()
    return Reconciliation(node, **counts, seconds=round(time.monotonic() - started, 2), refused=refused)


async def _take_dump(mi: Mi, comparison: "_Comparison") -> list[Any]:
    """Compare the dump as it comes in; return the AORs of contacts that can not be read."""
    unparsable: list[Any] = []
    chunk: list[MiContact] = []
    async with aclosing(mi.dump(DUMP_SECONDS, unparsable)) as dumped:
        async for contact in dumped:
            chunk.append(contact)
            if len(chunk) == CHUNK:
                await asyncio.to_thread(comparison.take, chunk)
                chunk = []
    await asyncio.to_thread(comparison.take, chunk)
    return unparsable


class _MissingContact(NamedTuple):
    """Hold a contact that is live in the store and not in the dump."""

    binding: Binding
    node: str
    changed_at: int


class _Comparison:
    """Compare one dump with the store, in chunks; of a contact that is the same on both sides only a number is kept."""

    def __init__(self, store: Store, node: str, cluster: str) -> None:
        self._store = store
        self._node = node
        self._cluster = cluster
        self._as_of = now_ms() - MARGIN_MS
        self._dumped: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)

    def counts(self) -> dict[str, int]:
        """Return the counts of the result so far."""
        names = ("stored", "gone", "added", "refreshed", "enriched")
        return {"in_dump": len(self._dumped)} | {name: self._counts[name] for name in names}

    def take(self, dumped: Sequence[MiContact]) -> None:
        """Compare some contacts of the dump."""
        bindings = [Binding(self._cluster, contact.domain, contact.aor, contact.uri) for contact in dumped]
        ids = [contact_id(binding) for binding in bindings]
        self._dumped.update(int(one, 16) for one in ids)
        refs = [ContactRef(binding.aor, one) for binding, one in zip(bindings, ids, strict=True)]
        stored = load_contacts(self._store, refs)
        for binding, one, contact in zip(bindings, ids, dumped, strict=True):
            self._compare(binding, contact, stored.get(one))

    def _compare(self, binding: Binding, contact: MiContact, record: Contact | None) -> None:
        if record is not None and not record.ended_at:
            self._counts["stored"] += 1
        what, correction = compare(binding, contact, record, self._as_of, now_ms())
        if correction:
            self._correct(what, correction, record.node if record else self._node)

    def settle(self, unparsable: Sequence[Any], up_since: int) -> str:
        """End contacts that the whole dump does not have. Return why the dump is refused, "" when it is not."""
        spared = {aor for aor in unparsable if isinstance(aor, str)}
        if len(unparsable) > sum(isinstance(aor, str) for aor in unparsable):
            return "not every AOR in the dump can be read"
        missing = list(self._missing())
        self._counts["stored"] += len(missing)
        old = [one for one in missing if one.changed_at < self._as_of and one.binding.aor not in spared]
        restarted_at = up_since if now_ms() - up_since >= 1000 * SETTLED_SECONDS else 0
        doubtful = sum(one.changed_at >= restarted_at for one in old)
        if doubtful > DOUBTED and 2 * doubtful > self._counts["stored"]:
            return f"{doubtful} of {self._counts['stored']} contacts would be gone at once"
        for binding, node, _ in old:
            self._correct("gone", Gone(binding, self._as_of), node)
        return ""

    def hand_over(self) -> int:
        """Send each recorder its corrections; return how many there was no room for."""
        leased = select_leased(self._store, list(self._rows))
        dropped = 0
        for node, rows in self._rows.items():
            # the node that pinged a contact last may be gone; another one of its cluster can correct it as well
            dropped += append_corrections(self._store, node if node in leased else self._node, rows)
        return dropped

    def _correct(self, what: str, correction: Correction, node: str) -> None:
        self._counts[what] += 1
        self._rows[node].append(encode_correction(correction))

    def _missing(self) -> Iterator[_MissingContact]:
        """Return the cluster's live contacts that are not in the dump, and that this node's dump may end."""
        numbers = set(self._dumped)
        now = now_ms()
        others = {name for name, feed in load_feeds(self._store).items() if feed.is_alive(now)} - {self._node}
        for refs in iterate_live_refs(self._store):
            new = [ref for ref in dict.fromkeys(refs) if int(ref.contact, 16) not in numbers]
            numbers.update(int(ref.contact, 16) for ref in new)
            for contact in load_contacts(self._store, new).values():
                if contact.binding.cluster != self._cluster or contact.ended_at:
                    continue
                # a replica may be missing: the node that holds the contact knows best
                if (contact.holder or contact.node) not in others:
                    yield _MissingContact(contact.binding, contact.node, contact.changed_at)


def compare(
    binding: Binding, contact: MiContact, record: Contact | None, as_of: int, now: int
) -> tuple[str, Correction | None]:
    """Return what is wrong with the record of one contact of the dump: a word and a correction. Times are epoch ms."""
    if contact.state != "active":
        return "", None
    registration = _registration(contact, now)
    instance = contact.instance or sip.contact_instance(contact.attr, contact.uri)
    present = Present(binding, as_of, registration, instance, _latency_ms(contact))
    if record is None or record.ended_at:
        return ("", None) if record and record.changed_at >= as_of else ("added", present)
    if record.changed_at < as_of and not is_same_registration(record.registration, registration):
        return "refreshed", present
    if _needs_instance(record, contact.instance):
        return "enriched", Identified(binding, contact.instance)
    return "", None


def _needs_instance(record: Contact, instance: str) -> bool:
    return bool(instance) and record.device != sip.device_id(record.binding.aor, record.binding.uri, instance)


def _registration(contact: MiContact, now: int) -> Registration:
    """Return the registration in a dump, without flags.

    `now` is late by the time that the dump took to arrive: the expiry is rather too late than too early.
    """
    expires_at = 0 if contact.seconds_left is None else min(now + 1000 * contact.seconds_left, 1000 * MAX_EXPIRES)
    return Registration(
        received=contact.received,
        path=contact.path,
        user_agent=contact.user_agent,
        socket=contact.socket,
        bflags=0,
        expires_at=expires_at,
        callid=contact.callid,
        cseq=contact.cseq,
        attr=contact.attr,
    )


def _latency_ms(contact: MiContact) -> int | None:
    return None if contact.latency_us in (None, LOST_PING_US) else round(contact.latency_us / 1000)
