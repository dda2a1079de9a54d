"""Check whether OpenSIPS answers, can be used, and sends us its events. No I/O."""

import re
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import urlsplit

from companion.doctor.facts import Facts, OpensipsFacts
from companion.doctor.finding import Finding, Section, failure, note, ok, some, warning
from companion.opensips.probe import ProbeReply
from companion.opensips.subscriptions import (
    NATIVE,
    REQUIRED_EVENTS,
    USED_EVENTS,
    EventSubscription,
    find_duplicates,
    is_native,
    reaches,
)
from companion.text import times
from companion.times import format_seconds

TESTED = ("3.4", "3.6", "4.0")
ENDED = ("3.4",)
"""No longer maintained by the OpenSIPS project."""

PROBE_URL: Final = "udp:127.0.0.1:8889"
HEP: Final = "udp:127.0.0.1:9060"
TRACE_LINES: Final = """socket=hep_udp:127.0.0.1:9061
loadmodule "proto_hep.so"
loadmodule "tracer.so\""""
PROBE_LINES: Final = """tcp_no_new_conn_bflag=TCP_NO_CONNECT
loadmodule "mi_datagram.so"
modparam("mi_datagram", "socket_name", "{}")
local_route {{ if ($fU == "companion") {{ setbflag("TCP_NO_CONNECT"); $T_fr_timeout = 5; }} }}"""


def check(facts: Facts) -> list[Section]:
    """Return a section for each `[[opensips]]` table."""
    if not facts.opensips:
        remedy = "add an [[opensips]] table with node and mi_url: MI reconciles, pushes and removes"
        return [Section("OpenSIPS", [warning("MI", "no [[opensips]] table in the configuration", remedy)])]
    endpoints = facts.config.consumer.subscribe
    return [Section(f"OpenSIPS {one.node}", list(_findings(one, endpoints))) for one in facts.opensips]


def _findings(opensips: OpensipsFacts, endpoints: Collection[str]) -> Iterator[Finding]:
    if opensips.error:
        yield _unreachable(opensips)
        yield _probe(opensips)
        return
    yield ok("MI", f"answers at {opensips.mi_url}")
    yield _version(opensips.version)
    missing = [event for event in USED_EVENTS if event not in opensips.events]
    if missing:
        yield _no_events(missing)
    yield from _subscriptions(opensips, [event for event in USED_EVENTS if event in opensips.events])
    yield from _unheard(opensips, endpoints)
    yield _request_size(opensips)
    yield _probe(opensips)
    yield _trace(opensips)


def _unreachable(opensips: OpensipsFacts) -> Finding:
    if opensips.refused:
        remedy = "set mi_user and mi_password_file in [[opensips]] as httpd's auth_username and auth_password are"
        return failure("MI", opensips.error, remedy)
    address = urlsplit(opensips.mi_url)
    remedy = (
        "correct mi_url in [[opensips]], or load httpd.so and mi_http.so with:\n"
        f'modparam("httpd", "ip", "{address.hostname}")\nmodparam("httpd", "port", {address.port or 80})'
    )
    return failure("MI", opensips.error, remedy)


def _version(version: str) -> Finding:
    branch = ".".join(re.findall(r"\d+", version)[:2])
    if branch in ENDED:
        return note("version", f"{version}, tested, but OpenSIPS no longer maintains it", "plan the way to 3.6 LTS")
    if branch in TESTED:
        return ok("version", version)
    return warning(
        "version", f"{version}, not tested", f"tested versions are {', '.join(TESTED)}: check the figures first"
    )


def _no_events(missing: list[str]) -> Finding:
    needed = [event for event in missing if event in REQUIRED_EVENTS]
    text = f"OpenSIPS knows no {some(missing)}"
    if needed:
        return failure("events", text, "load usrloc.so, registrar.so and nathelper.so in the script")
    return warning("events", text, "OpenSIPS 3.2 and newer tell when a WebSocket or TCP connection dies")


def _subscriptions(opensips: OpensipsFacts, required: Collection[str]) -> Iterator[Finding]:
    if not opensips.sockets:
        remedy = "if events should go to a bridge, set [bridge] datagram or stream, or events_to in [[opensips]]"
        yield note("subscriptions", "no bridge has an input here: where events should go is unknown", remedy)
        return
    mine = [one for one in opensips.subscriptions if reaches(one.socket, opensips.sockets)]
    missing = [event for event in required if event not in {one.event for one in mine}]
    if missing:
        yield _missing(opensips, missing, [one for one in opensips.subscriptions if one.event in missing])
    elif mine:
        yield ok("subscriptions", f"{times(len(required), 'event')} to {some(sorted({one.socket for one in mine}))}")
    yield from _twice(opensips)
    yield from _ending(opensips, mine)


def _missing(opensips: OpensipsFacts, missing: list[str], others: list[EventSubscription]) -> Finding:
    socket = opensips.sockets[0]
    elsewhere = sorted({one.socket for one in others if not one.socket.startswith("route:")})
    lines = "\n".join(f'subscribe_event("{event}", "{socket}");' for event in missing)
    remedy = f"at once: `companion doctor --fix-subscriptions`; for good, in startup_route:\n{lines}"
    if is_native(socket) and not any(is_native(one.socket) for one in opensips.subscriptions):
        remedy = f'{remedy}\nand before it, once it is built (opensips/README.md): loadmodule "event_zeromq.so"'
    if elsewhere:
        text = f"{some(missing)} go to {some(elsewhere)}, not to {socket}"
        remedy = f"{_accept(elsewhere[0])}; else, in startup_route:\n{lines}"
    else:
        text = f"{some(missing)} {'is' if len(missing) == 1 else 'are'} sent to nobody"
    return (failure if set(missing) & set(REQUIRED_EVENTS) else warning)("subscriptions", text, remedy)


def _accept(socket: str) -> str:
    """Say what makes the companion hear what is sent to this socket."""
    if is_native(socket):
        return f'OpenSIPS publishes there itself: set events_to = "{socket}" in [[opensips]]'
    return f"if a bridge listens at {socket}, set events_to in [[opensips]] or [bridge] datagram to it"


def _unheard(opensips: OpensipsFacts, endpoints: Collection[str]) -> Iterator[Finding]:
    """Check that the bus of an OpenSIPS that publishes itself is read. It may bind all addresses of its machine."""
    endpoint = opensips.sockets[0].removeprefix(NATIVE) if opensips.sockets and is_native(opensips.sockets[0]) else ""
    if endpoint and endpoint not in endpoints and not endpoint.startswith(("tcp://*", "tcp://0.0.0.0", "tcp://[::]")):
        text = f"OpenSIPS publishes at {endpoint}, and [consumer] subscribe does not name it"
        yield failure("subscriptions", text, f'add "{endpoint}" to [consumer] subscribe')


def _twice(opensips: OpensipsFacts) -> Iterator[Finding]:
    duplicates = find_duplicates(opensips.subscriptions, opensips.sockets)
    if duplicates:
        sockets = sorted({socket for sockets in duplicates.values() for socket in sockets})
        text = f"{some(sorted(duplicates))} come twice: {some(sockets)}"
        yield failure("subscriptions", text, "keep one of these: every ping would count twice")


def _ending(opensips: OpensipsFacts, mine: list[EventSubscription]) -> Iterator[Finding]:
    left = [one.seconds_left for one in mine if one.seconds_left is not None and one.event in USED_EVENTS]
    if left and opensips.renewed:
        yield note("subscriptions", "made through MI; `companion run scheduler` renews them")
    elif left:
        text = f"{times(len(left), 'subscription')} made through MI, the first ends in {format_seconds(min(left))}"
        remedy = "set subscribe = true in [[opensips]] to renew it, or use subscribe_event() in startup_route"
        yield warning("subscriptions", text, remedy)


def _request_size(opensips: OpensipsFacts) -> Finding:
    if opensips.size_error:
        remedy = 'else long contacts can not be removed or woken:\nmodparam("httpd", "receive_buf_size", 65536)'
        return warning("request size", opensips.size_error, remedy)
    return ok("request size", "a request of more than 1 kB is accepted")


def _probe(opensips: OpensipsFacts) -> Finding:
    """Tell whether phones can be asked before they are removed."""
    if not opensips.probe_url:
        remedy = f'set probe_url = "{PROBE_URL}" in [[opensips]], and in the script:\n{PROBE_LINES.format(PROBE_URL)}'
        return note("probe", "no probe_url: phones can not be asked, so removals rest on lost pings alone", remedy)
    probe = opensips.probe
    if probe is None:
        return note("probe", "no live contact to ask: register a phone and ask again")
    if probe.result == "answered":
        return ok("probe", f"a phone answered in {probe.duration_ms:.0f} ms ({probe.detail})")
    if probe.result == "unanswered":
        remedy = "`companion ping` asks a phone of your choice; if none answers, check the lines of mi_datagram"
        return warning("probe", f"OpenSIPS sent an OPTIONS, and no phone answered ({probe.detail})", remedy)
    return failure("probe", f"{opensips.probe_url}: {probe.detail}", _probe_remedy(opensips.probe_url, probe))


def _trace(opensips: OpensipsFacts) -> Finding:
    """Tell whether the SIP messages of a device can be recorded."""
    lines = f"in the script of OpenSIPS:\n{TRACE_LINES}"
    if not opensips.hep_to:
        remedy = f'to record the SIP messages of a device, set [bridge] hep = "{HEP}", and {lines}'
        return note("trace", "no [bridge] hep: SIP messages can not be recorded", remedy)
    if "not loaded" in opensips.trace_error:
        return warning("trace", f"{opensips.trace_error}: SIP messages can not be recorded", lines)
    if opensips.trace_error:
        return warning("trace", opensips.trace_error, 'switch it on: MI `trace` with mode "on"')
    return ok("trace", f"devices can be recorded; their SIP messages go to {opensips.hep_to}")


def _probe_remedy(url: str, probe: ProbeReply) -> str:
    if probe.detail.startswith("404"):
        return (
            "probe_url leads to another OpenSIPS than the one whose events have this node's name: "
            "correct probe_url or node in [[opensips]]"
        )
    return f"probe_url must be its mi_datagram; in the script:\n{PROBE_LINES.format(url)}"
