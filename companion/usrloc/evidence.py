"""Hold what each node knows of a contact, and tell which node can reach it. No I/O."""

from collections.abc import Mapping
from typing import Literal

import msgspec

Reach = Literal["yes", "no", "unknown"]


class NodeEvidence(msgspec.Struct, array_like=True, gc=False):
    """Hold what one node's pings of a contact gave since it came to its present address. Times are epoch ms, 0 = never.

    `lost` counts the lost pings in a row. Events doubled on their way count once.
    """

    answered_at: int = 0
    lost: int = 0
    lost_since: int = 0
    last_lost_at: int = 0

    @property
    def pinged_at(self) -> int:
        """Return the time of the last ping, answered or lost."""
        answered_at, lost_at = self.answered_at, self.last_lost_at
        return answered_at if answered_at > lost_at else lost_at  # noqa: FURB136 - each ping pays for a call of max()

    def add_answer(self, ts: int) -> None:
        """Take in an answered ping."""
        self.answered_at = ts
        self.lost = self.lost_since = 0

    def add_loss(self, ts: int, least_gap_ms: float) -> bool:
        """Take in a lost ping; return whether it counts.

        One that follows the last counted one sooner than `least_gap_ms` is the same loss again: two transports, two
        subscriptions or two bridges doubled it. One much earlier is another: the clock was set back.
        """
        if self.lost and abs(ts - self.last_lost_at) < least_gap_ms:
            return False
        self.lost += 1
        self.last_lost_at = ts
        if self.lost == 1:
            self.lost_since = ts
        return True


def reach(node: str, holder: str, evidence: Mapping[str, NodeEvidence]) -> Reach:
    """Return whether a node can reach a contact, given the evidence of each node.

    `holder` is the node that the contact registered with over a socket of its own, or that got an answer over the
    contact's connection; "" when unknown. Where it is known, only the holder reaches the contact for sure: nobody can
    dial a phone behind NAT, and over UDP its NAT lets another node in only for a while after a call. Otherwise an
    answer proves that a node reaches it.
    """
    if holder:
        return "yes" if node == holder else "no"
    own = evidence.get(node)
    if own is not None and own.answered_at:
        return "yes"
    return "no" if any(other.answered_at for other in evidence.values()) else "unknown"
