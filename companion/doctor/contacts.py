"""Are contacts pinged, measured and told apart? Some of it can only be guessed from outside, and says so. No I/O."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from companion import sip
from companion.doctor.facts import Facts, OpensipsFacts
from companion.doctor.finding import Finding, Section, failure, note, ok, some, times, warning
from companion.opensips.events import LATENCY
from companion.opensips.mi_contact import MiContact
from companion.usrloc.contact import SILENT_INTERVALS, Contact, Ping

PING: Final = re.compile("PING|OPTIONS", re.IGNORECASE)
LATENCY_FLAG: Final = re.compile("LATENCY|RTT", re.IGNORECASE)
REMOVAL: Final = re.compile("RTN|REMOVE|TIMEOUT", re.IGNORECASE)
"""What flags are often called; their names are the operator's own."""

SET_FLAGS: Final = """mark who is to be pinged, and before save() in each route:
modparam("nathelper", "sipping_bflag", "SIP_PING_FLAG")
modparam("nathelper", "sipping_latency_flag", "SIPPING_CALC_LATENCY")
setbflag("SIP_PING_FLAG"); setbflag("SIPPING_CALC_LATENCY");"""
PING_AT_ALL: Final = """these must be set:
modparam("nathelper", "natping_interval", 120)
modparam("nathelper", "sipping_from", "sip:ping@YOUR.DOMAIN")"""
PING_TCP: Final = """with natping_tcp 0, the default, nathelper leaves TCP, TLS and WebSocket out:
modparam("nathelper", "natping_tcp", 1)"""
NO_FILTER: Final = """usrloc must hold no latency back:
modparam("usrloc", "latency_event_min_us", 0)
modparam("usrloc", "latency_event_min_us_delta", 0)"""
FILL_ATTR: Final = """hand the SIP instance over, and before save() in each route:
modparam("registrar", "attr_avp", "$avp(attr)")
$avp(attr) = $(hdr(Contact){nameaddr.param,+sip.instance});"""
CONNECTIONS: Final = ("tcp:", "tls:", "ws:", "wss:")
MANY_PAIRS: Final = 200
ODD_INTERVAL: Final = 0.25


def check(facts: Facts) -> list[Section]:
    """A section for each OpenSIPS whose contacts could be looked at, and one about the pings of all."""
    sections = [
        Section(f"Contacts of {one.node}", list(_contacts(facts, one))) for one in facts.opensips if not one.error
    ]
    pings = [*_interval(facts), *_filter(facts.pings)]
    return [*sections, Section("Pings", pings)] if pings else sections


def _contacts(facts: Facts, opensips: OpensipsFacts) -> Iterator[Finding]:
    stored = facts.live(opensips.cluster)
    if not (opensips.contacts or opensips.registered or stored):
        yield note("contacts", "none is registered: register a phone and ask again")
        return
    yield from _known(facts, opensips, stored)
    if opensips.contacts:
        yield _flags(opensips.contacts)
        yield _instances(opensips.contacts)
    yield from _measured(facts, opensips, stored)
    yield from _removal(facts, opensips)


def _known(facts: Facts, opensips: OpensipsFacts, stored: Sequence[Contact]) -> Iterator[Finding]:
    if opensips.registered and not stored and not facts.redis.error:
        remedy = (
            "`companion reconcile` takes them over, a running scheduler does so by itself; see Feeds if it stays so"
        )
        yield warning("contacts", f"OpenSIPS has {opensips.registered}, none of them is known here", remedy)


def _flags(contacts: Sequence[MiContact]) -> Finding:
    """Which branch flags there are; with none at all nathelper pings nobody with OPTIONS."""
    seen = Counter(flag for contact in contacts for flag in contact.cflags)
    told = ", ".join(f"{flag} on {count}" for flag, count in seen.most_common(8))
    bare = sum(not contact.cflags for contact in contacts)
    of = f"of {times(len(contacts), 'contact')}"
    if bare == len(contacts):
        return failure("flags", f"none {of} has a branch flag, so none is pinged", SET_FLAGS)
    if bare:
        return warning("flags", f"{bare} {of} have no branch flag ({told})", SET_FLAGS)
    return ok("flags", f"{told} {of}")


def _instances(contacts: Sequence[MiContact]) -> Finding:
    able = [contact for contact in contacts if contact.instance]
    filled = [contact for contact in able if sip.instance(contact.attr)]
    of = f"of {times(len(able), 'contact')} with a SIP instance"
    if not able:
        return note(
            "attr", "no contact has a SIP instance", "devices are told apart by AOR and URI user; nothing to do"
        )
    if not filled:
        return failure("attr", f"empty on {len(able)} {of}: a page reload looks like a new device", FILL_ATTR)
    if len(filled) < len(able):
        return warning("attr", f"filled on {len(filled)} {of}", FILL_ATTR)
    return ok("attr", f"filled on {len(filled)} {of}")


def _measured(facts: Facts, opensips: OpensipsFacts, stored: Sequence[Contact]) -> Iterator[Finding]:
    """Who was never pinged as far as we heard, although known for more than two ping intervals."""
    before = facts.now - SILENT_INTERVALS * facts.config.pings.interval_ms
    old = [contact for contact in stored if 0 < (contact.registered_at or contact.last_register_at) < before]
    never = [contact for contact in old if not contact.last_latency_at and not contact.last_lost_at]
    if not old:
        yield note("latency", "no contact is known for two ping intervals yet: ask again later")
    elif not never:
        yield ok("latency", f"{times(len(old), 'contact')} measured")
    else:
        seen = f"{len(never)} of {times(len(old), 'contact')} never measured in two ping intervals and more"
        yield (failure if len(never) == len(old) else warning)("latency", *_why(opensips, old, never, seen))


def _why(opensips: OpensipsFacts, old: list[Contact], never: list[Contact], seen: str) -> tuple[str, str]:
    """The likeliest reason by what else is known: what OpenSIPS itself knows, who else is measured, which flags."""
    by_key = {(one.domain, one.aor, one.uri): one for one in opensips.contacts}
    known = [found for contact in never if (found := by_key.get(contact.binding[1:]))]
    pinged = sum(one.latency_us is not None for one in known)
    if pinged:
        return (
            f"{seen}, yet OpenSIPS has a latency of {pinged} of them",
            f"{LATENCY} must be subscribed, and {NO_FILTER}",
        )
    if known and not any(one.cflags for one in known):
        return f"{seen}: without a branch flag nobody is pinged", "see flags"
    flags = {flag for contact in opensips.contacts for flag in contact.cflags}
    if all(_connected(contact) for contact in never) and (_others_are(old, never) or _named_well(flags)):
        return f"{seen}, all of them over TCP or WebSocket", f"{PING_TCP}\nelse {PING_AT_ALL}"
    if not _named_well(flags):
        told = some(sorted(flags)) or "none"
        return f"{seen}; flags seen: {told}", f"{SET_FLAGS}\nelse {PING_AT_ALL}\nelse {PING_TCP}"
    return seen, f"{PING_AT_ALL}\nelse {PING_TCP}"


def _others_are(old: list[Contact], never: list[Contact]) -> bool:
    return any(contact not in never for contact in old if not _connected(contact))


def _named_well(flags: set[str]) -> bool:
    return any(PING.search(flag) for flag in flags) and any(LATENCY_FLAG.search(flag) for flag in flags)


def _connected(contact: Contact) -> bool:
    """Whether it is reached over a connection: nathelper leaves these out while natping_tcp is 0."""
    return contact.registration.socket.startswith(CONNECTIONS)


def _removal(facts: Facts, opensips: OpensipsFacts) -> Iterator[Finding]:
    """Whether OpenSIPS removes who lost its pings by itself, too."""
    feed = facts.feeds.get(opensips.node)
    removals = feed.removals if feed else 0
    flags = sorted({flag for contact in opensips.contacts for flag in contact.cflags if REMOVAL.search(flag)})
    if not removals and not flags:
        yield ok("removal", "no sign that OpenSIPS itself removes who loses pings")
        return
    seen = f"OpenSIPS itself removed {times(removals, 'contact')} behind lost pings"
    if not removals:
        seen = f"contacts carry {some(flags)}: by its name OpenSIPS itself removes who loses pings"
    if facts.config.remediation.mode == "enforce":
        remedy = (
            'leave one of the two off: no "remove_on_timeout_bflag" in nathelper, or [remediation] mode = "observe"'
        )
        yield warning("removal", seen, remedy)
    else:
        yield note("removal", seen, "fine while [remediation] mode is observe; who is gone can not be woken by push")


def _interval(facts: Facts) -> Iterator[Finding]:
    """Statuses rest on [pings] interval: does OpenSIPS ping so often?"""
    gaps = [next_one.ts - one.ts for pings in facts.pings.values() for one, next_one in pairwise(pings)]
    if len(gaps) < 5:
        return
    seen, said = median(gaps), facts.config.pings.interval_ms
    if abs(seen - said) > ODD_INTERVAL * said:
        remedy = (
            f"set [pings] interval = {seen / 1000:.0f} if that is nathelper's natping_interval: statuses rest on it"
        )
        told = f"a ping about every {seen / 1000:.1f} s, but [pings] interval is {said / 1000:g}"
        yield warning("interval", told, remedy if seen < said else f"{remedy}\nelse {NO_FILTER}")
    else:
        yield ok("interval", f"a ping about every {seen / 1000:.1f} s")


def _filter(pings: Mapping[str, Sequence[Ping]]) -> Iterator[Finding]:
    """A guess: of hundreds of pings some are lost, and some are within a millisecond of the one before."""
    answered = [[ping.latency_ms for ping in one if ping.latency_ms is not None] for one in pings.values()]
    steps = [abs(after - before) for one in answered for before, after in pairwise(one)]
    if len(steps) < MANY_PAIRS:
        return
    lost = sum(ping.latency_ms is None for one in pings.values() for ping in one)
    if not lost and min(steps) > 1:
        seen = f"no lost ping and no two alike in a row among {len(steps)}: small changes may be held back"
        yield warning("filter", seen, f"if the network is not simply that good, {NO_FILTER}")
    else:
        yield ok("filter", f"nothing looks held back among {len(steps)} pings")
