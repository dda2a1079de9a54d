"""Ping devices through mi_datagram of the nodes that can reach them."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Self

from companion.config import Config, OpensipsSection
from companion.errors import NoSuchDeviceError
from companion.opensips.probe import Prober, ProbeResult
from companion.pinging.target import PingTarget, choose_target
from companion.store.devices import load_device
from companion.store.store import Store
from companion.times import now_ms


class PingReply(NamedTuple):
    """Hold what came of one ping, and the node that it went through."""

    result: ProbeResult
    detail: str
    duration_ms: float
    node: str


class Pinger:
    """Ping devices, with one prober for each node. Close it in the event loop that used it."""

    def __init__(self) -> None:
        self._probers: dict[str, Prober] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def ping(self, target: PingTarget) -> PingReply:
        """Ping a contact through all nodes of the target at once; the first answer of the phone counts.

        Never raises for what the network does.
        """
        pings = [asyncio.ensure_future(self._ping_through(table, target)) for table in target.tables]
        replies = []
        try:
            for ping in asyncio.as_completed(pings):
                replies.append(await ping)
                if replies[-1].result == "answered":
                    return replies[-1]
        finally:
            for ping in pings:
                ping.cancel()
        return _combine(replies)

    async def aclose(self) -> None:
        """Close all sockets."""
        for prober in self._probers.values():
            await prober.aclose()
        self._probers.clear()

    async def _ping_through(self, table: OpensipsSection, target: PingTarget) -> PingReply:
        reply = await self._prober(table).ask(target.question)
        return PingReply(*reply, table.node)

    def _prober(self, table: OpensipsSection) -> Prober:
        if table.node not in self._probers:
            self._probers[table.node] = Prober(table.probe_url, table.node)
        return self._probers[table.node]


def load_target(store: Store, device_id: str, config: Config) -> PingTarget:
    """Return whom to ping for a device, as it is stored now.

    Raises NoSuchDeviceError and CanNotPingError.
    """
    device = load_device(store, device_id)
    if device is None:
        raise NoSuchDeviceError(device_id)
    return choose_target(device, config, now_ms())


def _combine(replies: Sequence[PingReply]) -> PingReply:
    """Return the reply that counts where the phone answered nobody: one node that failed leaves it open."""
    return next((reply for reply in replies if reply.result == "failed"), replies[0])
