"""Keep which publishers refuse us, and why. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from companion.bus.handshakes import Handshake, Why

AFTER_FAILURES: Final = 3
"""A publisher that stops also ends connections without a word: only after so many in a row it refuses us."""

EXPLANATIONS: Final[dict[Why, tuple[str, str]]] = {
    "client_key": (
        "the bridge does not accept our CURVE key",
        "add the public key of [consumer] curve_secret_key to [bridge] curve_clients there, and restart the bridge",
    ),
    "server_key": (
        "the bridge ends the CURVE handshake",
        "[consumer] curve_server_key must be the public key of that bridge; if it is, no bridge listens there",
    ),
    "encryption": (
        "only one side of the bus uses CURVE",
        "set curve_secret_key in [bridge] and curve_server_key in [consumer], or neither",
    ),
    "broken": (
        "what listens there ends the handshake of the bus",
        "it is no bridge, or one that demands CURVE: see [consumer] subscribe and curve_server_key",
    ),
}
"""What a subscriber says of each reason, and what to do."""


@dataclass
class _State:
    why: Why
    failures: int = 0
    is_final: bool = False


class Refusals:
    """Keep the failed handshakes of each endpoint since its last good one."""

    def __init__(self, after_failures: int = AFTER_FAILURES) -> None:
        self._after_failures = after_failures
        self._states: dict[str, _State] = {}

    def take(self, handshakes: Iterable[Handshake]) -> None:
        for handshake in handshakes:
            if handshake.why is None:
                self._states.pop(handshake.endpoint, None)
            else:
                state = self._states.setdefault(handshake.endpoint, _State(handshake.why))
                if handshake.is_final or not state.is_final:
                    state.why = handshake.why
                state.failures += 1
                state.is_final = state.is_final or handshake.is_final

    def current(self) -> dict[str, Why]:
        """Return by endpoint why it refuses us now."""
        return {
            endpoint: state.why
            for endpoint, state in self._states.items()
            if state.is_final or state.failures >= self._after_failures
        }

    def given_up(self) -> list[str]:
        """Return the endpoints that ZeroMQ does not try again by itself."""
        return [endpoint for endpoint, state in self._states.items() if state.is_final]
