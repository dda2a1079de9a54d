"""The connections of a server: bounded in all and by address, and none may keep us waiting."""

import pytest
from structlog.testing import capture_logs

from companion import metrics
from companion.http.connections import Debt, HttpConnections, HttpLimits

PROXY = "10.0.0.1"
LIMITS = HttpLimits(connections=8)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Client:
    """A connection that remembers with what it was ended."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.is_closed = False
        self.debt: Debt | None = None

    def end(self, debt: Debt) -> None:
        self.is_closed, self.debt = True, debt


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connections(clock: Clock) -> HttpConnections:
    return HttpConnections(LIMITS, [PROXY, "fd00::/8"], clock)


def connect(connections: HttpConnections, *addresses: str, debt: Debt | None = "idle") -> list[Client]:
    clients = [Client(address) for address in addresses]
    for client in clients:
        assert connections.admit(client)
        connections.owes(client, debt)
    return clients


@pytest.mark.parametrize("debt", ["idle", "head", "body", "answer"])
def test_no_debt_lasts(connections: HttpConnections, clock: Clock, debt: Debt) -> None:
    """Whatever a client owes, its time is bounded, and saying so again does not renew it."""
    (client,) = connect(connections, PROXY, debt=debt)
    before = metrics.total(metrics.HTTP_CLOSED, why=debt)
    clock.now = getattr(LIMITS, debt) - 0.1
    connections.owes(client, debt)
    connections.expire()
    assert (len(connections), client.debt) == (1, None)
    clock.now += 0.1
    connections.expire()
    assert (len(connections), client.debt) == (0, debt)
    assert metrics.total(metrics.HTTP_CLOSED, why=debt) - before == 1


def test_our_turn_has_no_end(connections: HttpConnections, clock: Clock) -> None:
    """A client that waits for us, such as one of a stream, is not closed."""
    (client,) = connect(connections, PROXY, debt=None)
    clock.now = 1e6
    connections.expire()
    assert not client.is_closed


def test_the_oldest_debt_gives_way(connections: HttpConnections, clock: Clock) -> None:
    """When all places are taken, a new client gets that of the one that owed us something first; others stay."""
    busy = connect(connections, *[f"192.0.2.{n}" for n in range(4)], debt=None)
    idle = connect(connections, *[f"198.51.100.{n}" for n in range(4)])
    connections.owes(idle[0], None)
    connections.owes(idle[0], "idle")
    connect(connections, "203.0.113.1")
    assert [client.is_closed for client in idle] == [False, True, False, False]
    assert not any(client.is_closed for client in busy)
    assert len(connections) == LIMITS.connections


def test_refused_when_all_are_busy(connections: HttpConnections) -> None:
    """Only when no client owes anything is a new one refused, and an end makes room again."""
    busy = connect(connections, *[f"192.0.2.{n}" for n in range(8)], debt=None)
    before = metrics.total(metrics.HTTP_CLOSED, why="refused")
    assert not connections.admit(Client("203.0.113.1"))
    assert metrics.total(metrics.HTTP_CLOSED, why="refused") - before == 1
    connections.remove(busy[0])
    connections.remove(busy[0])
    assert connections.admit(Client("203.0.113.1"))


@pytest.mark.parametrize(
    "addresses",
    [["192.0.2.1"] * 3, ["2001:db8::1", "2001:db8::2", "2001:db8::3"], ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"]],
)
def test_one_address_has_a_quarter(connections: HttpConnections, addresses: list[str]) -> None:
    """An address, of IPv6 its /64, takes its own places from itself, and others still find some."""
    first, second, third = connect(connections, *addresses)
    assert (first.is_closed, second.is_closed, third.is_closed) == (True, False, False)
    for client in (second, third):
        connections.owes(client, None)
    assert not connections.admit(Client(addresses[0]))
    connect(connections, *[f"198.51.100.{n}" for n in range(6)])


@pytest.mark.parametrize("proxy", [PROXY, "fd00::7"])
def test_a_proxy_brings_many(connections: HttpConnections, proxy: str) -> None:
    """A trusted proxy may have all places, as it brings the clients of many."""
    assert not any(client.is_closed for client in connect(connections, *[proxy] * 8))


def test_websockets_count(connections: HttpConnections, clock: Clock) -> None:
    """A WebSocket has a place and owes nothing; its end is noticed at the next look."""
    sockets = connect(connections, *[PROXY] * 8)
    for socket in sockets:
        connections.upgrade(socket)
        connections.owes(socket, "body")
    clock.now = 1e6
    connections.expire()
    assert len(connections) == 8
    assert not connections.admit(Client(PROXY))
    sockets[0].is_closed = True
    connections.expire()
    assert connections.admit(Client(PROXY))


def test_a_flood_is_one_line(connections: HttpConnections, clock: Clock) -> None:
    """However many come, or are too slow, there is one line for each kind, with the remedy where there is one."""
    with capture_logs() as logs:
        for n in range(100):
            connect(connections, f"203.0.113.{n}", debt="head")
        for _ in range(100):
            connect(connections, "192.0.2.1", debt="head")
        clock.now = LIMITS.head
        connections.expire()
    assert sorted(line["event"] for line in logs) == [
        "all connections are taken: idle ones give way to new ones",
        "an address took all connections that it may have",
        "clients are too slow: their connections are closed",
    ]
    assert all("remedy" in line for line in logs if "limit" in line)


def test_nothing_is_left_behind(connections: HttpConnections) -> None:
    """What ends is forgotten, its address too."""
    before = metrics.HTTP_CONNECTIONS._value.get()
    for client in connect(connections, "192.0.2.1", "nonsense", "", PROXY):
        connections.remove(client)
    assert (len(connections), dict(connections._count), connections._debts) == (0, {}, {})
    assert metrics.HTTP_CONNECTIONS._value.get() == before
