"""Read the subscriptions to OpenSIPS' events, and subscribe through MI where the script does not."""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from companion import log, metrics
from companion.config import BridgeSection, Config, OpensipsSection
from companion.config.address import Address, parse_address
from companion.errors import ConfigError, MiCallError, MiError
from companion.opensips import events
from companion.opensips.mi import Mi, open_mi

REQUIRED_EVENTS: Final = (events.INSERT, events.UPDATE, events.DELETE, events.LATENCY)
"""Without one of these the state of contacts is wrong."""
USED_EVENTS: Final = (*REQUIRED_EVENTS, events.DISCONNECT)
"""All events that the companion uses."""

EVERY_SECONDS: Final = 10.0
EXPIRE_SECONDS: Final = 600
"""Life of a subscription that is renewed: OpenSIPS goes on sending for so long to a companion that is gone."""
ANY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on
NATIVE: Final = "zeromq:"
"""The start of an event socket of event_zeromq: OpenSIPS itself publishes on the bus, at the endpoint behind it."""

End = Address | str
"""Where events go: an address, or an event socket of event_zeromq."""

logger = log.get(__name__)


class EventSubscription(NamedTuple):
    """Hold an event and its subscriber, an event socket or a route of the script; `seconds_left` None = for ever.

    `lifetime` (seconds): how long it was to live when it was made. More is left only if OpenSIPS' clock was set back.
    """

    event: str
    socket: str
    seconds_left: int | None
    lifetime: int | None = None

    def must_be_renewed(self, below: float) -> bool:
        """Return whether it ends within `below` seconds, or at a time that its OpenSIPS can not tell."""
        if self.seconds_left is None:
            return False
        return self.seconds_left < below or (self.lifetime is not None and self.seconds_left > self.lifetime)


def parse(answer: Any) -> list[EventSubscription]:
    """Read the answer to subscribers_list; invalid and expired subscriptions are left out."""
    subscriptions = [
        EventSubscription(event["name"], subscriber["socket"], _seconds_left(subscriber), _lifetime(subscriber))
        for event in _items(answer, "Events", "name")
        for subscriber in _items(event, "Subscribers", "socket")
    ]
    return [one for one in subscriptions if one.seconds_left is None or one.seconds_left > 0]


def parse_events(answer: Any) -> frozenset[str]:
    """Read the answer to events_list and return the names of the events that OpenSIPS has."""
    return frozenset(event["name"] for event in _items(answer, "Events", "name"))


def _items(answer: Any, key: str, name: str) -> list[dict[str, Any]]:
    """Return the items of the list at `key` that have a text at `name`."""
    items = answer.get(key) if isinstance(answer, dict) else None
    return [item for item in items if _has(item, name)] if isinstance(items, list) else []


def _has(item: Any, name: str) -> bool:
    return isinstance(item, dict) and isinstance(item.get(name), str)


def _seconds_left(subscriber: dict[str, Any]) -> int | None:
    if subscriber.get("expire") == "never":
        return None
    left = subscriber.get("ttl")
    return left if isinstance(left, int) else 0


def _lifetime(subscriber: dict[str, Any]) -> int | None:
    expire = subscriber.get("expire")
    return expire if isinstance(expire, int) else None


def destinations(table: OpensipsSection, bridge: BridgeSection) -> tuple[str, ...]:
    """Return the addresses where this OpenSIPS may send its events, first the one that we subscribe.

    Raises ConfigError for an invalid address.
    """
    addresses = (table.events_to,) if table.events_to else tuple(filter(None, (bridge.datagram, bridge.stream)))
    for address in addresses:
        _parse_end(address)
    return addresses


def is_native(socket: str) -> bool:
    """Return whether OpenSIPS publishes these events on the bus itself."""
    return socket.startswith(NATIVE)


def is_any_address(destination: str) -> bool:
    """Return whether this is all addresses of a machine, which one can listen on but not send to."""
    end = _parse_end(destination)
    return isinstance(end, Address) and end.host in ANY_ADDRESS


def reaches(socket: str, destinations: Collection[str]) -> bool:
    """Return whether an event socket leads to one of these addresses; a `virtual:` one does by any of its parts."""
    ends = [end for part in socket.removeprefix("virtual:").split() if (end := _read_end(part))]
    return any(_is_same(end, _parse_end(destination)) for end in ends for destination in destinations)


def _read_end(socket: str) -> End | None:
    try:
        return _parse_end(socket if is_native(socket) else socket.partition("/")[0])
    except ConfigError:
        return None


def _parse_end(socket: str) -> End:
    if not is_native(socket):
        return parse_address(socket)
    if not socket.removeprefix(NATIVE).startswith(("tcp://", "ipc://")):
        raise ConfigError(f"not an event socket: {socket!r} (write zeromq:tcp://127.0.0.1:5555)")
    return socket


def _is_same(end: End, destination: End) -> bool:
    if isinstance(end, str) or isinstance(destination, str):
        return end == destination
    same_host = destination.host in ANY_ADDRESS or _ip(end.host) == _ip(destination.host)
    return same_host and (end.scheme, end.port) == (destination.scheme, destination.port)


def _ip(host: str) -> str:
    return "127.0.0.1" if host.lower() == "localhost" else host


class DueSubscription(NamedTuple):
    """Hold a subscription to make, or to renew because it will end."""

    event: str
    socket: str
    ending: bool


def due(
    existing: Sequence[EventSubscription], events: Collection[str], addresses: Sequence[str], below: float = 0
) -> Iterator[DueSubscription]:
    """Yield what must be subscribed so that these events come to `addresses` and do not end within `below` seconds.

    A subscription that never ends is left alone: OpenSIPS would take over the new expiry, and it would end.
    """
    for event in USED_EVENTS:
        mine = [one for one in existing if one.event == event and reaches(one.socket, addresses)]
        if event in events and not mine:
            yield DueSubscription(event, addresses[0], ending=False)
        elif mine and all(one.must_be_renewed(below) for one in mine):
            yield DueSubscription(event, mine[0].socket, ending=True)


def find_duplicates(existing: Sequence[EventSubscription], addresses: Sequence[str]) -> dict[str, list[str]]:
    """Return the sockets of each event that comes to `addresses` more than once: its events would count twice."""
    sockets = {
        event: sorted(one.socket for one in existing if one.event == event and reaches(one.socket, addresses))
        for event in USED_EVENTS
    }
    return {event: own for event, own in sockets.items() if len(own) > 1}


async def list_subscriptions(mi: Mi) -> list[EventSubscription]:
    """Ask OpenSIPS for its subscriptions. Raises MiError."""
    return parse(await mi.call("subscribers_list"))


async def subscribe(mi: Mi, addresses: Sequence[str], expire: int) -> list[DueSubscription]:
    """Make missing subscriptions, renew those that end within half of `expire` seconds, and return both.

    Raises MiError, and ConfigError when there is no address to send to.
    """
    return await complete(mi, await list_subscriptions(mi), addresses, expire)


async def complete(
    mi: Mi, existing: Sequence[EventSubscription], addresses: Sequence[str], expire: int
) -> list[DueSubscription]:
    """Make and renew what is missing among these subscriptions, which OpenSIPS has, as `subscribe` does."""
    if not addresses:
        raise ConfigError("there is no address for events: set [[opensips]] events_to, or [bridge] datagram or stream")
    incomplete = any(not one.ending for one in due(existing, USED_EVENTS, addresses))
    available = parse_events(await mi.call("events_list")) if incomplete else ()
    subscriptions = list(due(existing, available, addresses, expire / 2))
    for one in subscriptions:
        if not one.ending and is_any_address(one.socket):
            raise ConfigError(
                f"events can not be sent to {one.socket}: set [[opensips]] events_to to an address it reaches"
            )
        await _subscribe(mi, one, expire)
    return subscriptions


async def _subscribe(mi: Mi, one: DueSubscription, expire: int) -> None:
    try:
        await mi.call("event_subscribe", event=one.event, socket=one.socket, expire=expire)
    except MiCallError as error:
        text = f"{error.message}: {one.event} to {one.socket}; {_ask_for_module(one.socket)}"
        raise MiCallError(error.code, text) from None


def _ask_for_module(socket: str) -> str:
    """Ask for the likely reason why OpenSIPS does not take an event socket."""
    if is_native(socket):
        return "is event_zeromq.so loaded, and is this its one endpoint?"
    return f"is {'event_datagram' if socket.startswith('udp:') else 'event_stream'}.so loaded?"


class Renewer:
    """Keep the events of each `[[opensips]]` with `subscribe = true` subscribed.

    OpenSIPS is asked each time what it has: it forgets subscriptions when it restarts, and ends them by its own clock.
    """

    def __init__(self, config: Config) -> None:
        self._tables = [(table, destinations(table, config.bridge)) for table in config.opensips if table.subscribe]
        self._episodes = log.Episodes(logger)

    async def run(self) -> None:
        await asyncio.gather(*(self._renew(table, addresses) for table, addresses in self._tables))

    async def _renew(self, table: OpensipsSection, addresses: Sequence[str]) -> None:
        try:
            async with open_mi(table) as mi:
                existing = await list_subscriptions(mi)
                done = await complete(mi, existing, addresses, EXPIRE_SECONDS)
        except (MiError, ConfigError) as error:
            metrics.SUBSCRIBED.labels(table.node, "failed").inc()
            self._episodes.warn("OpenSIPS' events can not be subscribed", node=table.node, error=str(error))
            return
        self._report(table.node, addresses, done)
        self._report_duplicates(table.node, find_duplicates(existing, addresses))

    def _report(self, node: str, addresses: Sequence[str], done: Sequence[DueSubscription]) -> None:
        made = [one.event for one in done if not one.ending]
        metrics.SUBSCRIBED.labels(node, "made").inc(len(made))
        metrics.SUBSCRIBED.labels(node, "renewed").inc(len(done) - len(made))
        if made:
            logger.info("subscribed to events of OpenSIPS", node=node, events=made, socket=addresses[0])

    def _report_duplicates(self, node: str, duplicates: Mapping[str, Sequence[str]]) -> None:
        metrics.SUBSCRIBED.labels(node, "duplicate").inc(len(duplicates))
        if duplicates:
            self._episodes.warn(
                "events are subscribed twice: keep one subscription of each", node=node, sockets=dict(duplicates)
            )
