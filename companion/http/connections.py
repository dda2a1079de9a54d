"""Bound the connections of a server: their number, and the time that a client may keep one waiting. No I/O."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Final, Literal, NamedTuple, Protocol

from companion import log, metrics
from companion.http.access.origin import subscriber_network

Debt = Literal["head", "body", "answer", "idle"]
"""What a client owes: the head of its request, its body, to take our answer, or its next request."""

PER_ADDRESS: Final = 4
"""One address may have this part of all connections."""

logger = log.get(__name__)


class HttpLimits(NamedTuple):
    """Say how many connections there may be, and how many seconds each debt may last."""

    connections: int = 2000
    head: float = 10.0
    body: float = 20.0
    """Longer than a report of a call may take, which has an answer of its own for that."""
    answer: float = 30.0
    idle: float = 15.0
    """Of a new connection, too. A page that reports its call every five seconds keeps its connection."""

    @property
    def per_address(self) -> int:
        return max(1, self.connections // PER_ADDRESS)


class HttpConnection(Protocol):
    """Represent a connection; `address` is that of the peer, which may be a proxy."""

    address: str

    @property
    def is_closed(self) -> bool: ...

    def end(self, debt: Debt) -> None:
        """Close it: the client owes this for too long, or others need its place."""


class HttpConnections:
    """Hold the open connections of a server.

    If all places are taken, the connection whose client has owed something for the longest time gives way to a new
    one. A new one is refused only where no client owes anything. The limit for one address works alike; trusted
    proxies have none, as they bring the clients of many.
    """

    def __init__(
        self, limits: HttpLimits, proxies: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits
        self._proxies = [ip_network(proxy) for proxy in proxies]
        self._clock = clock
        self._open: dict[HttpConnection, str] = {}
        """The open connections with their networks."""
        self._count: Counter[str] = Counter()
        self._debts: dict[HttpConnection, tuple[Debt, float]] = {}
        """What clients owe and since when, oldest first."""
        self._upgraded: set[HttpConnection] = set()
        self._episodes = log.Episodes(logger)

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: HttpConnection) -> bool:
        """Take in a new connection; return False if there is no room for it."""
        network = subscriber_network(connection.address)
        is_crowded = self._count[network] >= self.limits.per_address and not self._is_proxy(connection.address)
        if is_crowded and not self._make_room(connection, network):
            return False
        if len(self._open) >= self.limits.connections and not self._make_room(connection):
            return False
        self._open[connection] = network
        self._count[network] += 1
        metrics.HTTP_CONNECTIONS.inc()
        return True

    def owes(self, connection: HttpConnection, debt: Debt | None) -> None:
        """Note what a client owes from now on; None = it is our turn. The same debt goes on as it began."""
        is_ours = connection in self._open and connection not in self._upgraded
        if not is_ours or self._debts.get(connection, (None,))[0] == debt:
            return
        self._debts.pop(connection, None)
        if debt:
            self._debts[connection] = debt, self._clock()

    def upgrade(self, connection: HttpConnection) -> None:
        """Note that the connection became a WebSocket, whose end is noticed by `expire`."""
        if connection in self._open:
            self._debts.pop(connection, None)
            self._upgraded.add(connection)

    def remove(self, connection: HttpConnection) -> None:
        """Forget a connection that has ended."""
        network = self._open.pop(connection, None)
        self._debts.pop(connection, None)
        self._upgraded.discard(connection)
        if network is not None:
            metrics.HTTP_CONNECTIONS.dec()
            self._count[network] -= 1
            if not self._count[network]:
                del self._count[network]

    def expire(self) -> None:
        """Close the connections whose clients owe something for too long."""
        now = self._clock()
        for connection in [one for one in self._upgraded if one.is_closed]:
            self.remove(connection)
        for connection, (debt, since) in list(self._debts.items()):
            if now - since >= getattr(self.limits, debt):
                self._end(connection, debt, debt)
                if debt != "idle":
                    problem = "clients are too slow: their connections are closed"
                    self._episodes.warn(problem, owed=debt, address=connection.address)

    def _make_room(self, new: HttpConnection, network: str | None = None) -> bool:
        """End the oldest debt (of a network), and return whether there is one."""
        victim = next((one for one in self._debts if network in (None, self._open[one])), None)
        self._warn_full(new, network)
        if victim is None:
            metrics.HTTP_CLOSED.labels("refused").inc()
            return False
        self._end(victim, self._debts[victim][0], "gave_way")
        return True

    def _end(self, connection: HttpConnection, debt: Debt, why: str) -> None:
        metrics.HTTP_CLOSED.labels(why).inc()
        self.remove(connection)
        connection.end(debt)

    def _warn_full(self, new: HttpConnection, network: str | None) -> None:
        if network is None:
            problem, limit = "all connections are taken: idle ones give way to new ones", self.limits.connections
            remedy = "raise [api] max_connections and the limit of open files (LimitNOFILE), or find out who connects"
        else:
            problem, limit = "an address took all connections that it may have", self.limits.per_address
            remedy = "is it a reverse proxy? then add it to [api] proxies"
        self._episodes.warn(problem, limit=limit, address=new.address, remedy=remedy)

    def _is_proxy(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self._proxies)
        except ValueError:
            return False
