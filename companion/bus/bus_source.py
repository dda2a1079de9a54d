"""Define what the consumer needs of a bus of any kind."""

from typing import Protocol

from companion.bus.envelope import Frames


class BusSource(Protocol):
    """Bring the messages of any number of publishers. A position is a count of events by whoever reads them.

    Only a bus that keeps messages until they are stored has a use for `mark`, `acknowledge` and `give_back`.
    """

    keeps_messages: bool
    """Whether what is not acknowledged comes again, here or at another consumer."""

    async def receive(self, timeout: float) -> list[Frames]:  # noqa: ASYNC109 - the caller waits for this alone
        """Return some messages, after waiting up to `timeout` seconds for the first one."""

    def heartbeats(self) -> list[Frames]:
        """Return the heartbeats that came since the last call on a way that events can not block."""

    def refusals(self) -> dict[str, tuple[str, str]]:
        """Return by endpoint why no events come from it, and what to do."""

    def mark(self, position: int) -> None:
        """Note that all that `receive` returned so far ends at this position."""

    async def acknowledge(self, position: int) -> None:
        """Take note that all up to this position is stored."""

    def give_back(self, node: str) -> None:
        """Leave a node to other consumers, with all of it that is not acknowledged."""

    async def finish(self) -> None:
        """Close."""
