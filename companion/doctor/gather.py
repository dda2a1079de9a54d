"""Ask MI of each OpenSIPS, the bus and Redis for all that is to be checked, and change nothing."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import zmq

from companion.bus.endpoint import is_ipv6, is_rabbitmq, show_endpoint
from companion.bus.envelope import HEARTBEAT, decode
from companion.bus.handshakes import Handshakes
from companion.bus.rabbitmq_queue import RabbitState, read_rabbitmq
from companion.bus.refusals import EXPLANATIONS, Refusals
from companion.config import Config, ConsumerSection, OpensipsSection
from companion.doctor.facts import BusFacts, Facts, OpensipsFacts, QueueFacts, RedisFacts
from companion.errors import ConfigError, InvalidEnvelopeError, MiCallError, MiError, MiRefusedError, UnavailableError
from companion.opensips.mi import Mi, open_mi
from companion.opensips.mi_contact import MiContact
from companion.opensips.probe import Prober, ProbeReply, ProbeResult
from companion.opensips.subscriptions import destinations, parse, parse_events
from companion.opensips.tracer import MISSING_CODES, load_traces
from companion.pinging.target import can_be_asked, make_question
from companion.query.devices import iterate_devices
from companion.query.now import load_view
from companion.query.pings import read_pings
from companion.store.connection import Connection, Master, ResponseError, Unreachable, find_remedy
from companion.store.consumers import find_listeners, find_unrecorded, load_consumers
from companion.store.leases import load_holders
from companion.store.nodes import load_feeds
from companion.store.series import TimeSeries, detect
from companion.store.server import ServerState, merge_states, parse_state, read_servers, read_settings, read_time
from companion.store.store import Store, open_store
from companion.times import now_ms
from companion.usrloc.contact import Contact, Device, Ping

DEVICES: Final = 500
"""So many of the devices seen last are looked at."""
AORS: Final = 20
MI_CONTACTS: Final = 50
SMALL_DUMP: Final = 500
"""A dump of so many contacts costs OpenSIPS nothing worth speaking of."""
PROBED_CONTACTS: Final = 3
PINGED_DEVICES: Final = 20
PING_INTERVALS: Final = 100
HEAR_SECONDS: Final = 5.0
"""Two heartbeats and some time to connect."""
PUBLISH: Final = "run `companion run bridge` there, with the same virtual host in [bridge] publish"
PLAIN_FAILURES: Final = 15
"""So many connections in a row may end without a word: one of them tends to tell more."""
HEAR_STEP_MS: Final = 200
BIG_REQUEST_BYTES: Final = 1100
SETTINGS: Final = ("maxmemory", "maxmemory-policy", "appendonly", "save")


async def gather(config: Config) -> Facts:
    """Gather all facts, which takes a few seconds. A server that can not be asked is an error in its facts."""
    endpoints = config.consumer.subscribe
    hearing = asyncio.gather(
        *(asyncio.to_thread(_hear, endpoint, config.consumer) for endpoint in endpoints if not is_rabbitmq(endpoint))
    )
    facts = await asyncio.to_thread(_stored, config)
    nodes = {*facts.feeds, *(table.node for table in config.opensips)}
    reading = asyncio.gather(*(read_rabbitmq(url, nodes) for url in endpoints if is_rabbitmq(url)))
    opensips = await asyncio.gather(*(_opensips(table, facts) for table in config.opensips))
    states = dict(zip(filter(is_rabbitmq, endpoints), await reading, strict=True))
    bus = [*await hearing, *(one for url, state in states.items() for one in _heartbeats(url, state))]
    return replace(facts, opensips=opensips, bus=bus, queues=_queues(states.values()))


# Redis


def _stored(config: Config) -> Facts:
    connection = Connection(config.redis.url)
    place = connection.place
    try:
        store = open_store(config.redis)
    except ConfigError as error:
        return Facts(now=now_ms(), config=config, redis=RedisFacts(place=place, error=str(error)))
    except UnavailableError as error:
        facts = RedisFacts(place=place, error=error.detail, remedy=error.remedy)
        return Facts(now=now_ms(), config=config, redis=facts)
    finally:
        connection.close()
    try:
        return _read(config, store, place)
    except (*Unreachable, ResponseError) as error:
        facts = RedisFacts(place=place, error=f"{place}: {error}", remedy=find_remedy(error))
        return Facts(now=now_ms(), config=config, redis=facts)
    finally:
        store.close()


def _read(config: Config, store: Store, place: str) -> Facts:
    devices = list(islice(iterate_devices(store), DEVICES))
    return Facts(
        now=now_ms(),
        config=config,
        redis=_redis(store, place),
        feeds=load_feeds(store),
        devices=devices,
        pings=_pings(config, store, devices),
        unrecorded=_unrecorded(store),
    )


def _unrecorded(store: Store) -> dict[str, Sequence[str]]:
    """Return the nodes that consumers hear and nobody records."""
    listeners = find_listeners(load_consumers(store), now_ms())
    return find_unrecorded(listeners, load_holders(store, listeners))


def _pings(config: Config, store: Store, devices: Sequence[Device]) -> dict[str, Sequence[Ping]]:
    """Read the last pings of some devices that have one contact: those of several come interleaved."""
    view = load_view(config, store)
    since = view.clock.now - PING_INTERVALS * config.pings.interval_ms
    single = (device for device in devices if len(device.contacts) == 1)
    return {device.id: read_pings(store, device, view, since) for device in islice(single, PINGED_DEVICES)}


def _redis(store: Store, place: str) -> RedisFacts:
    infos = read_servers(store)
    info, state = infos[0], merge_states(list(map(parse_state, infos)))
    settings = read_settings(store, SETTINGS) or _settings_in(state)
    return RedisFacts(
        place=place,
        product="Valkey" if "valkey_version" in info else "Redis",
        version=str(info.get("valkey_version") or info.get("redis_version", "")),
        timeseries=detect(store.connection) is TimeSeries,
        settings=settings[0] if settings else None,
        uneven=_uneven(settings or ()),
        used_bytes=state.used_bytes,
        evicted_keys=state.evicted_keys,
        is_replica=state.is_replica,
        ahead_ms=max(map(_ahead_ms, store.connection.masters()), key=abs),
    )


def _ahead_ms(server: Connection | Master) -> int:
    """Return how far the clock of a server is ahead of ours."""
    before = time.time()
    at = read_time(server)
    return round((at - (before + time.time()) / 2) * 1000)


def _uneven(settings: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Return the settings that are not the same on all masters."""
    return tuple(name for name in SETTINGS if len({own.get(name) for own in settings}) > 1)


def _settings_in(state: ServerState) -> list[dict[str, str]] | None:
    """Return the settings that INFO tells, where the server denies CONFIG; None where it tells none."""
    return [{"maxmemory": str(state.max_bytes), "maxmemory-policy": state.policy}] if state.policy else None


# The bus


def _hear(endpoint: str, config: ConsumerSection) -> BusFacts:
    """Wait for a heartbeat, or for the reason why none comes. Only for that: the bridge sends us nothing else."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        if config.curve_server_key:
            socket.curve_secretkey = config.curve_secret_key.encode()
            socket.curve_publickey = zmq.curve_public(config.curve_secret_key.encode())
            socket.curve_serverkey = config.curve_server_key.encode()
        handshakes = Handshakes(context, socket, demands_key=bool(config.curve_server_key))
        try:
            socket.subscribe(HEARTBEAT)
            socket.connect(endpoint)
            return _wait_for_heartbeat(endpoint, socket, handshakes)
        finally:
            handshakes.close()


def _wait_for_heartbeat(endpoint: str, socket: "zmq.Socket[bytes]", handshakes: Handshakes) -> BusFacts:
    refusals, is_bus, deadline = Refusals(PLAIN_FAILURES), False, time.monotonic() + HEAR_SECONDS
    while time.monotonic() < deadline:
        if socket.poll(HEAR_STEP_MS):
            with suppress(InvalidEnvelopeError, ValueError):
                topic, body = socket.recv_multipart()
                message = decode(topic, body)
                return BusFacts(endpoint=endpoint, node=message.node, ahead_ms=message.events[0][0] - now_ms())
        recent = handshakes.read()
        is_bus = is_bus or any(handshake.why is None for handshake in recent)
        refusals.take(recent)
        for why in refusals.current().values():
            problem, remedy = EXPLANATIONS[why]
            return BusFacts(endpoint=endpoint, problem=problem, remedy=remedy)
    if is_bus:
        return BusFacts(endpoint=endpoint, problem="there is a bus, but no heartbeat came on it")
    if not handshakes.connected:
        return BusFacts(endpoint=endpoint, problem="nothing listens there, or a firewall is between")
    return BusFacts(endpoint=endpoint, problem="what listens there does not answer as a bus does")


def _heartbeats(url: str, state: RabbitState) -> Iterator[BusFacts]:
    """Yield the bridges that were heard over a RabbitMQ, or why there are none."""
    endpoint = show_endpoint(url)
    for node, ahead_ms in state.clocks.items():
        yield BusFacts(endpoint=endpoint, node=node, ahead_ms=ahead_ms)
    if state.fault:
        yield BusFacts(endpoint=endpoint, problem=state.fault.problem, remedy=state.fault.remedy)
    elif not state.clocks:
        yield BusFacts(endpoint=endpoint, problem="RabbitMQ is there, but no bridge publishes into it", remedy=PUBLISH)


def _queues(states: Iterable[RabbitState]) -> dict[str, QueueFacts]:
    return {
        node: QueueFacts(node=node, messages=queue.messages, is_read=queue.is_read)
        for state in states
        for node, queue in state.queues.items()
    }


# OpenSIPS


async def _opensips(table: OpensipsSection, stored: Facts) -> OpensipsFacts:
    config = stored.config
    facts = OpensipsFacts(
        node=table.node,
        cluster=config.cluster(table.node),
        mi_url=table.mi_url,
        sockets=destinations(table, config.bridge),
        renewed=table.subscribe,
        probe_url=table.probe_url,
        hep_to=table.hep_to or config.bridge.hep,
        probe=await _ask_phone(table, stored) if table.probe_url else None,
    )
    try:
        async with open_mi(table) as mi:
            return await _ask(mi, facts, stored)
    except MiError as error:
        return replace(facts, error=str(error), refused=isinstance(error, MiRefusedError))


async def _ask(mi: Mi, facts: OpensipsFacts, stored: Facts) -> OpensipsFacts:
    registered = _registered(await mi.call("get_statistics", statistics=["usrloc:"]))
    return replace(
        facts,
        version=await mi.version(),
        events=parse_events(await mi.call("events_list")),
        subscriptions=tuple(parse(await mi.call("subscribers_list"))),
        registered=registered,
        contacts=tuple(await _contacts(mi, facts.cluster, registered, stored)),
        size_error=await _size_error(mi),
        trace_error=await _trace_error(mi) if facts.hep_to else "",
    )


async def _ask_phone(table: OpensipsSection, stored: Facts) -> ProbeReply | None:
    """Ask the phones of a node that answered last, and return the best reply: one of them may have died since."""
    contacts = [contact for contact in stored.live(stored.config.cluster(table.node)) if _is_held(contact, table.node)]
    contacts.sort(key=lambda contact: (not contact.failing, contact.alive_at), reverse=True)
    async with Prober(table.probe_url, table.node) as prober:
        replies = await asyncio.gather(*(prober.ask(make_question(contact)) for contact in contacts[:PROBED_CONTACTS]))
    order: Sequence[ProbeResult] = ("answered", "failed", "unanswered")
    return min(replies, key=lambda reply: order.index(reply.result), default=None)


def _is_held(contact: Contact, node: str) -> bool:
    return can_be_asked(contact) and (contact.holder or contact.node) == node


def _registered(statistics: Any) -> int | None:
    """Count the contacts of all tables of usrloc."""
    if not isinstance(statistics, dict):
        return None
    counts = [count for name, count in statistics.items() if name.endswith("-contacts") and isinstance(count, int)]
    return sum(counts) if counts else None


async def _contacts(mi: Mi, cluster: str, registered: int | None, stored: Facts) -> list[MiContact]:
    """Read a sample of contacts: of the AORs we know, or of a dump where that is small."""
    if registered is not None and registered <= SMALL_DUMP:
        async with aclosing(mi.dump()) as dump:
            return [contact async for contact in dump][:MI_CONTACTS]
    aors = dict.fromkeys((contact.binding.domain, contact.binding.aor) for contact in stored.live(cluster))
    return [contact for aor in islice(aors, AORS) for contact in await mi.show_contact(*aor)]


async def _trace_error(mi: Mi) -> str:
    """Return why OpenSIPS can not mirror SIP messages, "" when it can."""
    try:
        traces = await load_traces(mi)
    except MiCallError as error:
        return "tracer is not loaded" if error.code in MISSING_CODES else str(error)
    return "tracing is switched off (trace_on)" if isinstance(traces, dict) and traces.get("global") == "off" else ""


async def _size_error(mi: Mi) -> str:
    """Return why a request of more than 1 kB fails, "" when it does not. It asks for an event that no OpenSIPS has."""
    try:
        await mi.raise_event("E_COMPANION_DOCTOR", {"padding": "x" * BIG_REQUEST_BYTES})
    except MiCallError:
        return ""
    except MiError as error:
        return str(error)
    return ""
