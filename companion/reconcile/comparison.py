"""What OpenSIPS says it holds (MI ul_dump) against the store.

Only a node's recorder writes contacts, so what is wrong goes to it as corrections; and none goes there before the dump
has reached its end, for only then it tells what OpenSIPS does not have.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from companion import metrics, sip
from companion.config import Config
from companion.errors import MiError
from companion.opensips.events import LOST_PING_US, MAX_EXPIRES, Registration
from companion.opensips.mi import Mi
from companion.opensips.mi_contact import MiContact
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
from companion.store.store import Store
from companion.times import now_ms
from companion.usrloc.contact import Binding, Contact, contact_id
from companion.usrloc.picture import same_registration

DUMP_SECONDS: Final = 180.0
"""OpenSIPS takes half a minute to write down 100,000 contacts."""
MARGIN_MS: Final = 5_000
"""What an event told in the seconds before the dump stands too: it may have been stamped by another host's clock, and
the bridge may stamp late what was said before the dump."""
DOUBTED: Final = 50
"""When more than so many vanish, and more than half of what is known, it is the dump that is doubted."""
SETTLED_SECONDS: Final = 60
"""An OpenSIPS that runs so long has read its database and its cluster's contacts: what it lost, a restart lost."""
CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Report:
    """What a comparison found, in contacts. `known` were live in the store before; `gone` OpenSIPS has no more, `found`
    nobody told of, `refreshed` had a newer registration, `enriched` got a SIP instance. `unparsable` ones of the dump
    were left out, for `dropped` corrections there was no room. `refused` says why nothing was corrected, "" = it was.
    """

    node: str
    known: int = 0
    in_dump: int = 0
    gone: int = 0
    found: int = 0
    refreshed: int = 0
    enriched: int = 0
    unparsable: int = 0
    dropped: int = 0
    seconds: float = 0.0
    up_since: int = 0
    refused: str = ""

    def __str__(self) -> str:
        numbers = (f"{getattr(self, name)} {name}" for name in ("gone", "found", "refreshed", "enriched"))
        said = f"{self.node}: {self.known} contacts known, {self.in_dump} in OpenSIPS; {', '.join(numbers)}"
        left_out = f"; {self.unparsable} that can not be read" if self.unparsable else ""
        dropped = f"; no room for {self.dropped} corrections" if self.dropped else ""
        refused = f"; nothing was corrected: {self.refused}" if self.refused else ""
        return f"{said} ({self.seconds:.1f} s){left_out}{dropped}{refused}"

    @property
    def complete(self) -> bool:
        return not self.refused and not self.dropped


async def reconcile(node: str, mi: Mi, store: Store, config: Config, *, dry_run: bool = False) -> Report:
    """Compare the contacts of a node's cluster with the node's dump, and hand what is wrong to the recorders.

    An MI that fails is in the report; Redis' errors are raised. With `dry_run` nothing is handed over.
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
        refused = await asyncio.to_thread(comparison.settle, unparsable, up_since)
        counts = comparison.counts() | {"unparsable": len(unparsable), "up_since": up_since}
        if not refused and not dry_run:
            counts["dropped"] = await asyncio.to_thread(comparison.hand_over)
    metrics.RECONCILED.labels(node, "refused" if refused else "done").inc()
    return Report(node, **counts, seconds=round(time.monotonic() - started, 2), refused=refused)


async def _take_dump(mi: Mi, comparison: "_Comparison") -> list[Any]:
    """Compare the dump as it comes in; the AORs of contacts that could not be read."""
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


class _Vanished(NamedTuple):
    """A contact that is live in the store and not in the dump."""

    binding: Binding
    node: str
    changed_at: int


class _Comparison:
    """One dump against the store, in chunks: of a contact that is alike on both sides only a number is kept."""

    def __init__(self, store: Store, node: str, cluster: str) -> None:
        self._store = store
        self._node = node
        self._cluster = cluster
        self._as_of = now_ms() - MARGIN_MS
        self._dumped: set[int] = set()
        self._counts: Counter[str] = Counter()
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)

    def counts(self) -> dict[str, int]:
        named = ("known", "gone", "found", "refreshed", "enriched")
        return {"in_dump": len(self._dumped)} | {name: self._counts[name] for name in named}

    def take(self, dumped: Sequence[MiContact]) -> None:
        """Look at some contacts of the dump."""
        bindings = [Binding(self._cluster, said.domain, said.aor, said.uri) for said in dumped]
        ids = [contact_id(binding) for binding in bindings]
        self._dumped.update(int(one, 16) for one in ids)
        refs = [ContactRef(said.aor, one) for said, one in zip(dumped, ids, strict=True)]
        known = load_contacts(self._store, refs)
        for binding, one, said in zip(bindings, ids, dumped, strict=True):
            self._compare(binding, said, known.get(one))

    def _compare(self, binding: Binding, said: MiContact, known: Contact | None) -> None:
        if known is not None and not known.ended_at:
            self._counts["known"] += 1
        what, correction = compare(binding, said, known, self._as_of, now_ms())
        if correction:
            self._correct(what, correction, known.node if known else self._node)

    def settle(self, unparsable: Sequence[Any], up_since: int) -> str:
        """After the dump: what is not in it is gone. Returns why the dump is not believed, "" when it is."""
        spared = {aor for aor in unparsable if isinstance(aor, str)}
        if len(unparsable) > sum(isinstance(aor, str) for aor in unparsable):
            return "not every AOR in the dump can be read"
        vanished = list(self._vanished())
        self._counts["known"] += len(vanished)
        old = [one for one in vanished if one.changed_at < self._as_of and one.binding.aor not in spared]
        restarted_at = up_since if now_ms() - up_since >= 1000 * SETTLED_SECONDS else 0
        doubtful = sum(one.changed_at >= restarted_at for one in old)
        if doubtful > DOUBTED and 2 * doubtful > self._counts["known"]:
            return f"{doubtful} of {self._counts['known']} contacts would be gone at once"
        for binding, node, _ in old:
            self._correct("gone", Gone(binding, self._as_of), node)
        return ""

    def hand_over(self) -> int:
        """Give each recorder its corrections; how many there was no room for."""
        leased = select_leased(self._store, list(self._rows))
        dropped = 0
        for node, rows in self._rows.items():
            # who pinged a contact last may be no more; the rest of its cluster can correct it as well
            dropped += append_corrections(self._store, node if node in leased else self._node, rows)
        return dropped

    def _correct(self, what: str, correction: Correction, node: str) -> None:
        self._counts[what] += 1
        self._rows[node].append(encode_correction(correction))

    def _vanished(self) -> Iterator[_Vanished]:
        """The cluster's live contacts that are not in the dump."""
        looked_at = set(self._dumped)
        for refs in iterate_live_refs(self._store):
            missing: list[ContactRef] = []
            for ref in refs:
                if (number := int(ref.contact, 16)) not in looked_at:
                    looked_at.add(number)
                    missing.append(ref)
            for contact in load_contacts(self._store, missing).values():
                if contact.binding.cluster == self._cluster and not contact.ended_at:
                    yield _Vanished(contact.binding, contact.node, contact.changed_at)


def compare(
    binding: Binding, said: MiContact, known: Contact | None, as_of: int, now: int
) -> tuple[str, Correction | None]:
    """What is wrong about one contact of the dump, in a word and as its correction. Times are epoch ms."""
    if said.state != "active":
        return "", None
    registration = _registration(said, now)
    found = Present(binding, as_of, registration, said.instance or sip.instance(said.attr), _latency_ms(said))
    if known is None or known.ended_at:
        return ("", None) if known and known.changed_at >= as_of else ("found", found)
    if known.changed_at < as_of and not same_registration(known.registration, registration):
        return "refreshed", found
    if _needs_instance(known, said.instance):
        return "enriched", Identified(binding, said.instance)
    return "", None


def _needs_instance(known: Contact, instance: str) -> bool:
    if not instance or sip.instance(known.registration.attr):
        return False
    return known.device != sip.device_id(known.binding.aor, known.binding.uri, instance)


def _registration(said: MiContact, now: int) -> Registration:
    """What MI tells of it, without flags. `now` is late by as long as the dump took to come: rather long than short."""
    expires_at = 0 if said.seconds_left is None else min(now + 1000 * said.seconds_left, 1000 * MAX_EXPIRES)
    return Registration(
        said.received, said.path, said.user_agent, said.socket, 0, expires_at, said.callid, said.cseq, said.attr
    )


def _latency_ms(said: MiContact) -> int | None:
    return None if said.latency_us in (None, LOST_PING_US) else round(said.latency_us / 1000)
