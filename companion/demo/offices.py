"""Build the phones of the demo: a mixed fleet on one node, desk phones of a branch office on another. No I/O."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from companion.simulator.fleet import build_fleet
from companion.simulator.phone import Behaviour, SimulatedPhone

NODE: Final = "demo"
BRANCH: Final = "branch"
BRANCH_PHONES: Final = 6
"""More than four: only so many that fail at once are a mass event."""
BRANCH_NETWORK: Final = "10.20.30."
"""The office has a tunnel."""
BRANCH_LIFETIME: Final = 36_000.0
"""So long that no contact expires while the office is cut off."""
LEAST_PHONES: Final = 12
"""A smaller demo has no branch office."""
_MODELS: Final = ("snomD785/10.1.175.14", "PolyEdge E350/8.2.0.3", "Grandstream GXP2170 1.0.11.79")

Fleets = Mapping[str, list[SimulatedPhone]]
"""Phones by the node that they register at."""


def build_fleets(phones: int, seed: str) -> Fleets:
    """Build so many phones, and the branch office. The seed gives them their contacts and their lives."""
    fleets = {NODE: [replace(phone, seed=f"{seed}/{n}") for n, phone in enumerate(build_fleet(phones))]}
    if phones >= LEAST_PHONES:
        fleets[BRANCH] = [_build_desk_phone(number, seed) for number in range(BRANCH_PHONES)]
    return fleets


def _build_desk_phone(number: int, seed: str) -> SimulatedPhone:
    chance = random.Random(f"desk {number}")
    phone = SimulatedPhone(
        aor=f"desk{number + 1}",
        instance=f"00000000-0000-4000-8000-{chance.getrandbits(48):012x}",
        user_agent=_MODELS[number % len(_MODELS)],
        transport="udp",
        latency_ms=chance.uniform(24, 38),
        jitter=0.15,
        behaviour=Behaviour.STEADY,
        lifetime=BRANCH_LIFETIME,
        seed=f"{seed}/{BRANCH}/{number}",
    )
    phone.address = (f"{BRANCH_NETWORK}{101 + number}", 5060)
    return phone
