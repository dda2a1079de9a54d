"""Phones with different fates on a cluster, and what the companion does to them."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

from companion.store.devices import load_device
from tests.acceptance.cluster import DOMAIN, Cluster, Node
from tests.acceptance.edge import settled
from tests.sip_phone.message import SipMessage
from tests.sip_phone.phone import Phone
from tests.sip_phone.udp_phone import UdpPhone


def device_of(phone: Phone) -> str:
    return f"{phone.aor}/{phone.instance}"


def _is_of(row: Mapping[str, Any], phone: Phone) -> bool:
    """Return whether a decision is about this contact: push tokens are masked in the audit."""
    return str(row["uri"]).split(";")[0] == phone.uri.split(";")[0]


class DrowsyPhone(Phone):
    """A live phone that ignores nathelper's pings, and answers the companion's question."""

    def _take_ping(self, socket: Any, ping: SipMessage) -> None:
        if "sip:companion@" in ping.first("from"):
            super()._take_ping(socket, ping)
        elif self.answered:
            self.ignored.append(time.time())
        else:
            super()._take_ping(socket, ping)


class LinphonePush(NamedTuple):
    """Hold the push parameters of Linphone's older clients."""

    token: str

    @property
    def uri_params(self) -> str:
        return f";app-id=929724111839;pn-type=firebase;pn-tok={self.token}"


def phone_at(url: str, **settings: Any) -> Phone:
    """Return a phone with an AOR of its own."""
    made = UdpPhone if url.startswith("udp:") else Phone
    return made(url, f"{uuid.uuid4().hex[:12]}@{DOMAIN}", **settings)


class Fate(NamedTuple):
    """Hold a phone, what becomes of it, and whether its contact must be gone in the end."""

    phone: Phone
    name: str
    is_live: bool = True
    must_go: bool = False


class Crowd:
    """Phones of a cluster with different fates; all of them close at the end of the block."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.fates: list[Fate] = []
        self.gone_after: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(fate.phone.close() for fate in self.fates))

    def decisions(self, phone: Phone) -> list[tuple[str, str]]:
        """Return (action, result) of all decisions about a phone's contact."""
        rows = (row for row in self._cluster.audit() if row["device"] == device_of(phone))
        return [(row["action"], row["result"]) for row in rows if _is_of(row, phone)]

    @property
    def live(self) -> list[Phone]:
        return [fate.phone for fate in self.fates if fate.is_live]

    async def add(self, name: str, phone: Phone, *, is_live: bool = True, must_go: bool = False) -> Phone:
        """Register a phone."""
        await phone.start()
        self.fates.append(Fate(phone, name, is_live, must_go))
        return phone

    @asynccontextmanager
    async def roaming(self, phone: Phone, urls: Sequence[str], seconds: float) -> AsyncIterator[None]:
        """Let a live phone lose its connection and register at the next address again and again."""

        async def roam() -> None:
            for url in itertools.cycle(urls):
                await asyncio.sleep(seconds)
                await phone.die()
                phone.url = url
                await phone.start()

        task = asyncio.create_task(roam())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def answered(self) -> None:
        """Wait until each phone answered a ping that the companion took in."""
        await settled(lambda: all(self._has_answered(fate.phone) for fate in self.fates), 60)

    def _has_answered(self, phone: Phone) -> bool:
        return bool(phone.answered) and self._cluster.companion.counts(device_of(phone))[0] > 0

    async def watch(self, seconds: float, patience: float, nodes: Sequence[Node] = ()) -> None:
        """Check that no live phone is removed for some seconds, and until these nodes have none that must go."""
        started_at = time.monotonic()
        while True:
            await self.check()
            left = [fate.name for fate in self.fates if fate.must_go and fate.name not in self.gone_after]
            passed = time.monotonic() - started_at
            assert all(node.is_running for node in nodes or self._cluster.nodes), self.evidence()
            if passed > seconds and not left:
                return
            assert passed < patience, f"still there: {left}\n{self.evidence()}"
            for fate in self.fates:
                if fate.is_live or fate.name in self.gone_after:
                    continue
                if not await self._cluster.holders(fate.phone, nodes):
                    self.gone_after[fate.name] = round(time.monotonic() - started_at, 1)
            await asyncio.sleep(0.5)

    async def check(self) -> None:
        """Fail if a live phone was removed."""
        rows = await asyncio.to_thread(self._cluster.audit)
        removals = [row for row in rows if row["result"] in ("removed", "suspect")]
        for phone in self.live:
            wrong = [row for row in removals if row["device"] == device_of(phone) and _is_of(row, phone)]
            assert not wrong, f"a live phone was removed: {json.dumps(wrong, indent=1)}"

    async def check_registrations(self, nodes: Sequence[Node] = ()) -> None:
        """Fail if a live phone's contact is missing on one of these nodes (none: all)."""
        nodes = nodes or self._cluster.nodes
        for phone in self.live:
            holders = await self._cluster.holders(phone, nodes)
            assert len(holders) == len(nodes), f"{phone.uri} is missing\n{self.evidence()}"

    def evidence(self) -> str:
        """Return what the companion stored of all phones, all decisions and the end of its log."""
        companion = self._cluster.companion
        devices = (load_device(companion.store, device_of(fate.phone)) for fate in self.fates)
        contacts = "\n".join(f"{contact}" for device in devices if device for contact in device.contacts)
        rows = "\n".join(json.dumps(row) for row in self._cluster.audit())
        nodes = (f"{node.name} runs: {node.is_running}\n{node.log[-1500:]}" for node in self._cluster.nodes)
        log = (line for line in companion.log.splitlines() if "maximum number of running instances" not in line)
        return "\n".join((contacts, rows, *list(log)[-40:], *nodes))
