"""Check what arrives, from which node, and whether all of it does. No I/O."""

from collections.abc import Iterator, Sequence

from companion.doctor.facts import BusFacts, Facts, QueueFacts
from companion.doctor.finding import Finding, Section, failure, note, ok, warning
from companion.doctor.redis import clock
from companion.store.nodes import Feed
from companion.text import times
from companion.times import SECOND_MS, format_seconds

OPTIONS = {
    "contacts_of_aor": "contacts_per_aor",
    "devices_of_aor": "devices_per_aor",
    "new_aors": "new_aors_per_minute",
    "devices": "max_stored_devices",
}
"""The option that bounds contacts, by why they are left out."""
MANY_MESSAGES = 1000
"""More in a queue than wait there while a batch is stored."""
MISSED_SHARE = 0.01
"""Of all events: what a consumer misses while it is restarted stays below that."""


def check(facts: Facts) -> Section:
    findings = [finding for bus in facts.bus for finding in _bus(bus)]
    findings += [_queue(queue) for _, queue in sorted(facts.queues.items())]
    if not facts.redis.error:
        nodes = {one.node for one in facts.bus if one.node}
        for node in sorted(nodes | {one.node for one in facts.opensips} | set(facts.feeds) | set(facts.unrecorded)):
            findings += _feed(facts, node, publishing=node in nodes)
    return Section("Feeds", findings)


def _bus(bus: BusFacts) -> Iterator[Finding]:
    if not bus.node:
        remedy = (
            "run `companion run bridge` there, or OpenSIPS with event_zeromq; both ends must name the same port, "
            "and with CURVE the keys must match"
        )
        text = f"no bridge was heard at {bus.endpoint}"
        yield failure("bus", f"{text}: {bus.problem}" if bus.problem else text, bus.remedy or remedy)
        return
    yield ok("bus", f"the bridge of {bus.node} was heard at {bus.endpoint}")
    if (clock_finding := clock("clock", bus.ahead_ms, f"the bridge of {bus.node}")).level != "ok":
        yield clock_finding


def _queue(queue: QueueFacts) -> Finding:
    name = f"companion.{queue.node}"
    if not queue.is_read:
        remedy = "run `companion run consumer`; it must subscribe to the same RabbitMQ and virtual host"
        text = f"no consumer reads {name} in RabbitMQ, where {times(queue.messages, 'message')} wait"
        return failure("queue", text, remedy)
    text = f"a consumer reads {name} in RabbitMQ, where {times(queue.messages, 'message')} wait"
    if queue.messages > MANY_MESSAGES:
        return warning(
            "queue", text, "wait if the number falls; else Redis or the consumer is too slow: docs/alerts.md"
        )
    return ok("queue", text)


def _feed(facts: Facts, node: str, *, publishing: bool) -> Iterator[Finding]:
    feed = facts.feeds.get(node, Feed(node))
    if node in facts.unrecorded:
        yield _unrecorded(node, facts.unrecorded[node])
        return
    if not feed.is_alive(facts.now):
        yield _silent(facts, feed, publishing=publishing)
        return
    yield _events(facts, feed)
    yield from _losses(feed)
    yield from _interval(facts, feed)
    yield from _doubled(feed)
    yield from _left_out(feed)


def _silent(facts: Facts, feed: Feed, *, publishing: bool) -> Finding:
    queue = facts.queues.get(feed.node)
    if queue and queue.is_read and queue.messages and feed.heartbeat_at:
        text = f"what is read of it is {_length(facts.now - feed.heartbeat_at)} old"
        return warning(feed.node, text, "wait until its queue in RabbitMQ is read; until then none of it is removed")
    text = f"silent for {_length(facts.now - feed.heartbeat_at)}" if feed.heartbeat_at else "nothing was ever stored"
    if publishing:
        remedy = "its bridge is up, so run `companion run consumer`; [redis] url and prefix must be the same there"
        return failure(feed.node, f"{text}: no consumer stores its events", remedy)
    if feed.node not in {one.node for one in facts.opensips}:
        return note(feed.node, text, f"`companion node forget {feed.node}`, if it is gone for good")
    remedy = f"run its bridge with [bridge] node = {feed.node!r}, and name its bus in [consumer] subscribe"
    return failure(feed.node, text, remedy.replace("'", '"'))


def _unrecorded(node: str, consumers: Sequence[str]) -> Finding:
    text = f"no consumer stores its events; {', '.join(consumers)} hears it, the one that records its cluster does not"
    return failure(node, text, "[consumer] subscribe must name every node of a cluster in each consumer")


def _events(facts: Facts, feed: Feed) -> Finding:
    """Check that events come: an OpenSIPS with contacts raises some in each ping interval."""
    total = f"{times(feed.received, 'event')} since its bridge was started"
    contacts = next((one.registered for one in facts.opensips if one.node == feed.node), None)
    contacts = len(facts.live(facts.config.cluster(feed.node))) if contacts is None else contacts
    silence = facts.now - max(feed.last_event_at, feed.run // 1000)
    if contacts and silence > 2 * facts.config.pings.interval_ms:
        text = f"alive, but no event for {_length(silence)} with {times(contacts, 'contact')} registered"
        remedy = "check the findings about its subscriptions and pings; a firewall may drop its events"
        return failure(feed.node, text, remedy)
    if not feed.last_event_at:
        return note(feed.node, "alive; no event yet, and no contact that one could be about")
    return ok(feed.node, f"alive; last event {_length(facts.now - feed.last_event_at)} ago, {total}")


def _interval(facts: Facts, feed: Feed) -> Iterator[Finding]:
    """Compare the observed ping interval with the configured one, by which losses and statuses are judged."""
    configured_ms = facts.config.pings.interval_ms
    if feed.interval_ms and abs(feed.interval_ms - configured_ms) > configured_ms / 3:
        seconds = round(feed.interval_ms / 1000)
        text = f"it pings every {seconds} s, and [pings] interval says {round(configured_ms / 1000)}"
        yield warning(feed.node, text, f"set [pings] interval = {seconds}, as natping_interval in nathelper")


def _doubled(feed: Feed) -> Iterator[Finding]:
    if feed.doubled:
        remedy = "subscribe each event once and over one transport; until then nothing is removed"
        yield warning(feed.node, f"{times(feed.doubled, 'ping')} arrived twice", remedy)


def _left_out(feed: Feed) -> Iterator[Finding]:
    """Report contacts that are not shown, because there are more than the configured bounds allow."""
    if feed.left_out:
        option = f"[consumer] {OPTIONS[feed.left_out_why]}" if feed.left_out_why in OPTIONS else "maxmemory of Redis"
        whose = f"{feed.left_out_of_aor} of them of AOR {feed.left_out_aor}"
        remedy = f"who registers so many? `opensips-cli -x mi ul_show_contact`; if they are right, raise {option}"
        yield warning(feed.node, f"{times(feed.left_out, 'contact')} left out, {whose}: {feed.left_out_why}", remedy)


def _losses(feed: Feed) -> Iterator[Finding]:
    if feed.kernel_drops:
        remedy = "sysctl -w net.core.rmem_max=8388608 on the bridge's machine, then restart the bridge"
        yield warning(feed.node, f"the kernel dropped {times(feed.kernel_drops, 'datagram')} at the bridge", remedy)
    if feed.missed:
        text = f"{times(feed.missed, 'event')} missed on the bus, in {times(feed.gaps, 'gap')}"
        if feed.missed > MISSED_SHARE * feed.received:
            remedy = (
                "is Redis or the consumer too slow? see docs/doctor.md; "
                "[bridge] high_water_mark, or hwm of event_zeromq, gives more room"
            )
            yield warning(feed.node, text, remedy)
        else:
            yield note(feed.node, text, "a restart costs this; nothing has to be done unless the number grows")
    if feed.refused:
        remedy = "its phone may be missing here: compare with `opensips-cli -x mi ul_show_contact`, and report it"
        text = f"{times(feed.refused, 'event')} refused, the last one of AOR {feed.refused_aor or '(none)'}"
        yield warning(feed.node, f"{text}: {feed.refused_why}", remedy)
    if feed.invalid:
        remedy = "the bridge's log says why; does anything else send to its port?"
        yield note(feed.node, f"{times(feed.invalid, 'message')} refused by the bridge", remedy)


def _length(ms: int) -> str:
    return format_seconds(max(0, ms) // SECOND_MS)
