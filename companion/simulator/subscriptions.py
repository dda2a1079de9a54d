"""Keep the subscribers of each event, as OpenSIPS' event interface does."""

import time
from dataclasses import dataclass, field
from typing import Any

EVENTS = (
    *("E_CORE_SR_STATUS_CHANGED", "E_CORE_THRESHOLD", "E_CORE_SHM_THRESHOLD", "E_CORE_PKG_THRESHOLD"),
    *("E_CORE_PROC_AUTO_SCALE", "E_CORE_TCP_DISCONNECT", "E_UL_LATENCY_UPDATE", "E_COMPANION_PUSH"),
    *("E_UL_CONTACT_REFRESH", "E_UL_AOR_INSERT", "E_UL_AOR_DELETE", "E_UL_CONTACT_INSERT"),
    *("E_UL_CONTACT_UPDATE", "E_UL_CONTACT_DELETE", "E_CORE_LOG"),
)
RAISED_EVENTS = tuple(name for name in EVENTS if name.startswith("E_UL_") or name == "E_CORE_TCP_DISCONNECT")


@dataclass
class SimulatedSubscription:
    """Hold a subscriber of an event: a socket or a route of the script. `expire` None = never."""

    socket: str
    expire: int | None = None
    since: float = field(default_factory=time.time)

    @property
    def ttl(self) -> float:
        return float("inf") if self.expire is None else self.expire - (time.time() - self.since)

    def describe(self) -> dict[str, Any]:
        if self.expire is None:
            return {"socket": self.socket, "expire": "never"}
        return {"socket": self.socket, "expire": self.expire, "ttl": int(self.ttl) if self.ttl > 0 else "expired"}


class Subscriptions:
    """Hold the subscribers of each event."""

    def __init__(self) -> None:
        self._by_event: dict[str, dict[str, SimulatedSubscription]] = {name: {} for name in EVENTS}

    def add(self, event: str, socket: str, expire: int | None = None) -> None:
        self._by_event[event][socket] = SimulatedSubscription(socket, expire)

    def remove(self, event: str) -> None:
        self._by_event[event].clear()

    def step_clock(self, seconds: float) -> None:
        """Let the subscriptions age, as when the machine's clock is set."""
        for subscribers in self._by_event.values():
            for subscription in subscribers.values():
                subscription.since -= seconds

    def clear(self) -> None:
        for subscribers in self._by_event.values():
            subscribers.clear()

    def list_sockets(self, event: str) -> list[str]:
        """Return where to send an event now, and forget expired subscribers."""
        subscribers = self._by_event[event]
        for socket in [socket for socket, subscription in subscribers.items() if subscription.ttl <= 0]:
            del subscribers[socket]
        return list(subscribers)

    def describe(self, event: str) -> dict[str, Any]:
        subscribers = [subscription.describe() for subscription in self._by_event[event].values()]
        if not subscribers:
            return {}
        return {"name": event, "id": EVENTS.index(event), "Subscribers": subscribers}
