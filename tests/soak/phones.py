"""A simulated OpenSIPS whose phones live as real ones do, and which knows whether a removed phone could be reached."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from companion.simulator.fleet import build_fleet
from companion.simulator.mi import Command
from companion.simulator.opensips import SimulatedOpenSIPS
from companion.simulator.phone import PhoneState

SPEED: Final = 10.0
"""The phones live so much faster than real ones."""
REVIVED_SECONDS: Final = 60.0


class Phones:
    """Run the node and note each removal through MI; `wrong` are those of phones that could be reached."""

    def __init__(self, node: str, size: int, ping_seconds: float, seed: int) -> None:
        self.removed = 0
        self.wrong: list[str] = []
        self.opensips = SimulatedOpenSIPS(
            node,
            build_fleet(size, seed, lifetime=1200.0),
            events_to="",  # the companion subscribes through MI
            ping_interval=ping_seconds * SPEED,
            ping_partitions=10,
            speed=SPEED,
            ramp=10 * SPEED,
        )

    async def start(self) -> None:
        await self.opensips.start()
        mi = self.opensips.mi
        handler, recipes = mi._commands["ul_rm_contact"]

        def remove_contact(params: Mapping[str, Any]) -> Any:
            self._note_removal(str(params["aor"]), str(params["contact"]))
            return handler(params)

        mi._commands["ul_rm_contact"] = Command(remove_contact, recipes)

    async def revive(self) -> None:
        """Bring the phones that died back now and then, so that there is always something to remove."""
        while True:
            await asyncio.sleep(REVIVED_SECONDS)
            for phone in self.opensips.fleet:
                if phone.state is PhoneState.DEAD:
                    self.opensips.switch_on(phone)

    def _note_removal(self, aor: str, uri: str) -> None:
        core = self.opensips.core
        binding = core.usrloc.find(aor.partition("@")[0], uri)
        if binding is None:
            return
        self.removed += 1
        phone = core._owners[binding.key]
        is_there = (phone.uri, phone.received) == (uri, binding.contact.received)
        if phone.state is PhoneState.ON and is_there and not phone.muted:
            self.wrong.append(f"{aor} {uri}")
