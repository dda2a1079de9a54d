"""Who gets OpenSIPS' events, and subscribing to them through MI where the script does not do it."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple

from companion import log, metrics
from companion.config import BridgeSection, Config, OpensipsSection
from companion.errors import ConfigError, MiCallError, MiError
from companion.opensips import events
from companion.opensips.address import Address, parse_address
from companion.opensips.mi import Mi, open_mi

NEEDED: Final = (events.INSERT, events.UPDATE, events.DELETE, events.LATENCY)
"""Without one of these what we tell of contacts is wrong."""
WANTED: Final = (*NEEDED, events.DISCONNECT)
"""All we make use of."""

EVERY_SECONDS: Final = 10.0
EXPIRE_SECONDS: Final = 600
"""For what is renewed: so long OpenSIPS sends to a companion that is gone for good."""
EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104 - to know it, not to listen there

logger = log.get(__name__)


class Subscription(NamedTuple):
    """Who gets an event: an event socket, or a route of the script. `seconds_left` is None for one that never ends."""

    event: str
    socket: str
    seconds_left: int | None


def parse(answer: Any) -> list[Subscription]:
    """Read the answer to subscribers_list; what is not as it should be is left out, and what has expired."""
    listed = [
        Subscription(event["name"], one["socket"], _seconds_left(one))
        for event in _described(answer, "Events", "name")
        for one in _described(event, "Subscribers", "socket")
    ]
    return [one for one in listed if one.seconds_left is None or one.seconds_left > 0]


def parse_events(answer: Any) -> frozenset[str]:
    """Read the answer to events_list: the names of the events there are."""
    return frozenset(one["name"] for one in _described(answer, "Events", "name"))


def _described(answer: Any, key: str, name: str) -> list[dict[str, Any]]:
    """The items of a list in an answer that have this name."""
    items = answer.get(key) if isinstance(answer, dict) else None
    return [one for one in items if _has(one, name)] if isinstance(items, list) else []


def _has(item: Any, name: str) -> bool:
    return isinstance(item, dict) and isinstance(item.get(name), str)


def _seconds_left(described: dict[str, Any]) -> int | None:
    if described.get("expire") == "never":
        return None
    left = described.get("ttl")
    return left if isinstance(left, int) else 0


def destinations(table: OpensipsSection, bridge: BridgeSection) -> tuple[str, ...]:
    """Where this OpenSIPS may send its events, first where we subscribe. Raises ConfigError for what is no address."""
    found = (table.events_to,) if table.events_to else tuple(filter(None, (bridge.datagram, bridge.stream)))
    for one in found:
        parse_address(one)
    return found


def is_everywhere(destination: str) -> bool:
    """Whether it is all addresses of a machine: good to listen on, nothing to send to."""
    return parse_address(destination).host in EVERYWHERE


def reaches(socket: str, wanted: Collection[str]) -> bool:
    """Whether an event socket of OpenSIPS' leads to one of these destinations, a `virtual:` one by any of its parts."""
    ends = [end for part in socket.removeprefix("virtual:").split() if (end := _address(part))]
    return any(_same(end, parse_address(destination)) for end in ends for destination in wanted)


def _address(socket: str) -> Address | None:
    try:
        return parse_address(socket.partition("/")[0])
    except ConfigError:
        return None


def _same(one: Address, wanted: Address) -> bool:
    same_host = wanted.host in EVERYWHERE or _ip(one.host) == _ip(wanted.host)
    return same_host and (one.scheme, one.port) == (wanted.scheme, wanted.port)


def _ip(host: str) -> str:
    return "127.0.0.1" if host.lower() == "localhost" else host


class Due(NamedTuple):
    """A subscription that is to be made, or renewed because it will end."""

    event: str
    socket: str
    ending: bool


def due(
    listed: Sequence[Subscription], there: Collection[str], wanted: Sequence[str], below: float = 0
) -> Iterator[Due]:
    """What must be subscribed so that all events that are `there` come to `wanted`, and does not end within `below` s.

    One that never ends is never touched: OpenSIPS would take over the new expiry, and it would end.
    """
    for event in WANTED:
        mine = [one for one in listed if one.event == event and reaches(one.socket, wanted)]
        if event in there and not mine:
            yield Due(event, wanted[0], ending=False)
        elif mine and all(one.seconds_left is not None and one.seconds_left < below for one in mine):
            yield Due(event, mine[0].socket, ending=True)


async def subscribe(mi: Mi, wanted: Sequence[str], expire: int) -> list[Due]:
    """Subscribe to what is not subscribed and renew what ends in less than half of `expire` seconds; tell what.

    Raises MiError, and ConfigError when there is no address to send to.
    """
    listed = parse(await mi.call("subscribers_list"))
    incomplete = any(not one.ending for one in due(listed, WANTED, wanted))
    there = parse_events(await mi.call("events_list")) if incomplete else ()
    found = list(due(listed, there, wanted, expire / 2))
    for one in found:
        if not one.ending and is_everywhere(one.socket):
            raise ConfigError(
                f"events can not be sent to {one.socket}: set [[opensips]] events_to, as OpenSIPS sees us"
            )
        await _subscribe(mi, one, expire)
    return found


async def _subscribe(mi: Mi, one: Due, expire: int) -> None:
    try:
        await mi.call("event_subscribe", event=one.event, socket=one.socket, expire=expire)
    except MiCallError as error:
        module = "event_datagram" if one.socket.startswith("udp:") else "event_stream"
        raise MiCallError(error.code, f"{error.message}: {one.event} to {one.socket}; is {module}.so loaded?") from None


class Renewer:
    """The job: keeps the events of each `[[opensips]]` with `subscribe = true` coming, also after it was restarted."""

    def __init__(self, config: Config) -> None:
        self._tables = [(table, destinations(table, config.bridge)) for table in config.opensips if table.subscribe]
        self._episodes = log.Episodes(logger)

    async def run(self) -> None:
        await asyncio.gather(*(self._renew(table, wanted) for table, wanted in self._tables))

    async def _renew(self, table: OpensipsSection, wanted: Sequence[str]) -> None:
        try:
            async with open_mi(table) as mi:
                done = await subscribe(mi, wanted, EXPIRE_SECONDS)
        except (MiError, ConfigError) as error:
            metrics.SUBSCRIBED.labels(table.node, "failed").inc()
            self._episodes.warn("OpenSIPS' events can not be subscribed", node=table.node, error=str(error))
            return
        made = [one.event for one in done if not one.ending]
        metrics.SUBSCRIBED.labels(table.node, "made").inc(len(made))
        metrics.SUBSCRIBED.labels(table.node, "renewed").inc(len(done) - len(made))
        if made:
            logger.info("subscribed to events of OpenSIPS", node=table.node, events=made, socket=wanted[0])
