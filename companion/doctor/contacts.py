"""Check whether contacts are pinged, measured and told apart. A guess from outside says that it is one. No I/O."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

from companion import sip
from companion.doctor.facts import Facts, OpensipsFacts
from companion.doctor.finding import Finding, Section, failure, note, ok, some, warning
from companion.opensips.events import LATENCY
from companion.opensips.mi_contact import MiContact
from companion.text import times
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
if ($(ct[1]) == NULL)
    $avp(attr) = $(ct.fields(params){param.value,+sip.instance});"""
CONNECTIONS: Final = ("tcp:", "tls:", "ws:", "wss:")
MANY_PAIRS: Final = 200
ODD_INTERVAL: Final = 0.25


def check(facts: Facts) -> list[Section]:
    """Return a section for each OpenSIPS whose contacts could be read, and one about the pings of all."""
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
    yield from _unstored(facts, opensips, stored)
    if opensips.contacts:
        yield _flags(opensips.contacts)
        yield _instances(opensips.contacts)
    yield from _measured(facts, opensips, stored)
    yield from _removal(facts, opensips)


def _unstored(facts: Facts, opensips: OpensipsFacts, stored: Sequence[Contact]) -> Iterator[Finding]:
    if opensips.registered and not stored and not facts.redis.error:
        remedy = (
            "`companion reconcile` stores them; a running scheduler does so by itself; if nothing changes, see Feeds"
        )
        yield warning("contacts", f"OpenSIPS has {opensips.registered}, and none of them is stored", remedy)


def _flags(contacts: Sequence[MiContact]) -> Finding:
    """Check the branch flags: without any, nathelper sends no OPTIONS pings."""
    counts = Counter(flag for contact in contacts for flag in contact.cflags)
    text = ", ".join(f"{flag} on {count}" for flag, count in counts.most_common(8))
    bare = sum(not contact.cflags for contact in contacts)
    of = f"of {times(len(contacts), 'contact')}"
    if bare == len(contacts):
        return failure("flags", f"none {of} has a branch flag, so none is pinged", SET_FLAGS)
    if bare:
        return warning("flags", f"{bare} {of} have no branch flag ({text})", SET_FLAGS)
    return ok("flags", f"{text} {of}")


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
    """Find contacts that are registered for more than two ping intervals and were never pinged."""
    before = facts.now - SILENT_INTERVALS * facts.config.pings.interval_ms
    old = [contact for contact in stored if 0 < (contact.registered_at or contact.last_register_at) < before]
    never = [contact for contact in old if not contact.last_latency_at and not contact.last_lost_at]
    if not old:
        yield note("latency", "no contact is older than two ping intervals yet: ask again later")
    elif not never:
        yield ok("latency", f"{times(len(old), 'contact')} measured")
    else:
        text = f"{len(never)} of {times(len(old), 'contact')} never measured in two ping intervals and more"
        yield (failure if len(never) == len(old) else warning)("latency", *_why(opensips, old, never, text))


def _why(opensips: OpensipsFacts, old: list[Contact], never: list[Contact], text: str) -> tuple[str, str]:
    """Return the likeliest reason, from OpenSIPS' own latencies, other contacts and the flags."""
    by_key = {(one.domain, one.aor, one.uri): one for one in opensips.contacts}
    records = [record for contact in never if (record := by_key.get(contact.binding[1:]))]
    pinged = sum(one.latency_us is not None for one in records)
    if pinged:
        return (
            f"{text}, yet OpenSIPS has a latency of {pinged} of them",
            f"{LATENCY} must be subscribed, and {NO_FILTER}",
        )
    if records and not any(one.cflags for one in records):
        return f"{text}: without a branch flag they are not pinged", "see flags"
    flags = {flag for contact in opensips.contacts for flag in contact.cflags}
    if all(_connected(contact) for contact in never) and (_others_are(old, never) or _named_well(flags)):
        return f"{text}, all of them over TCP or WebSocket", f"{PING_TCP}\nelse {PING_AT_ALL}"
    if not _named_well(flags):
        text = some(sorted(flags)) or "none"
        return f"{text}; flags seen: {text}", f"{SET_FLAGS}\nelse {PING_AT_ALL}\nelse {PING_TCP}"
    return text, f"{PING_AT_ALL}\nelse {PING_TCP}"


def _others_are(old: list[Contact], never: list[Contact]) -> bool:
    return any(contact not in never for contact in old if not _connected(contact))


def _named_well(flags: set[str]) -> bool:
    return any(PING.search(flag) for flag in flags) and any(LATENCY_FLAG.search(flag) for flag in flags)


def _connected(contact: Contact) -> bool:
    """Return whether it is reached over a connection: nathelper leaves these out while natping_tcp is 0."""
    return contact.registration.socket.startswith(CONNECTIONS)


def _removal(facts: Facts, opensips: OpensipsFacts) -> Iterator[Finding]:
    """Check whether OpenSIPS itself removes contacts that lose pings."""
    feed = facts.feeds.get(opensips.node)
    removals = feed.removals if feed else 0
    flags = sorted({flag for contact in opensips.contacts for flag in contact.cflags if REMOVAL.search(flag)})
    if not removals and not flags:
        yield ok("removal", "no sign that OpenSIPS itself removes contacts that lose pings")
        return
    text = f"OpenSIPS itself removed {times(removals, 'contact')} behind lost pings"
    if not removals:
        text = (
            f"contacts carry {some(flags)}: by the name of the flag, OpenSIPS itself removes contacts that lose pings"
        )
    if facts.config.remediation.mode == "enforce":
        remedy = (
            'leave one of the two off: no "remove_on_timeout_bflag" in nathelper, or [remediation] mode = "observe"'
        )
        yield warning("removal", text, remedy)
    else:
        yield note(
            "removal", text, "fine while [remediation] mode is observe; a removed contact can not be woken by push"
        )


def _interval(facts: Facts) -> Iterator[Finding]:
    """Compare [pings] interval, which statuses rest on, with how often OpenSIPS pings."""
    gaps = [after - at for pings in facts.pings.values() for (at, _), (after, _) in pairwise(pings)]
    if len(gaps) < 5:
        return
    gap_ms, configured_ms = median(gaps), facts.config.pings.interval_ms
    if abs(gap_ms - configured_ms) > ODD_INTERVAL * configured_ms:
        remedy = (
            f"set [pings] interval = {gap_ms / 1000:.0f} if that is nathelper's natping_interval: statuses rest on it"
        )
        text = f"a ping about every {gap_ms / 1000:.1f} s, but [pings] interval is {configured_ms / 1000:g}"
        yield warning("interval", text, remedy if gap_ms < configured_ms else f"{remedy}\nelse {NO_FILTER}")
    else:
        yield ok("interval", f"a ping about every {gap_ms / 1000:.1f} s")


def _filter(pings: Mapping[str, Sequence[Ping]]) -> Iterator[Finding]:
    """Guess whether latencies are filtered: of hundreds of pings some are lost, and some repeat the one before."""
    answered = [[latency_ms for _, latency_ms in one if latency_ms is not None] for one in pings.values()]
    steps = [abs(after - before) for one in answered for before, after in pairwise(one)]
    if len(steps) < MANY_PAIRS:
        return
    lost = sum(latency_ms is None for one in pings.values() for _, latency_ms in one)
    if not lost and min(steps) > 1:
        text = f"no lost ping and no two alike in a row among {len(steps)}: pings may be filtered"
        yield warning("filter", text, f"unless the network really is that good, {NO_FILTER}")
    else:
        yield ok("filter", f"no sign of a filter among {len(steps)} pings")
