"""Count what is missing or repeated in the sequence numbers of each node and event. No I/O."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from companion.bus.envelope import Message


class Sight(NamedTuple):
    """What a message's run and seq say: how many events before it never came, and how many of its first ones we had."""

    missed: int = 0
    new_run: bool = False
    repeated: int = 0


EXPECTED: Final = Sight()


class Sequences:
    """The last seq of each event name of each node: finds gaps, new runs and repeats. No I/O."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.seqs: dict[str, dict[str, int]] = {}
        self._silent: set[str] = set()

    def fell_silent(self, node: str) -> None:
        """Take whatever run comes next: a bridge that starts after its clock was set back has a lower one."""
        self._silent.add(node)

    def forget(self, node: str) -> None:
        """Know nothing of a node any more: when it comes back it is a new one."""
        self.runs.pop(node, None)
        self.seqs.pop(node, None)
        self._silent.discard(node)

    def resume(self, node: str, run: int, seqs: Mapping[str, int]) -> None:
        """Go on from what was stored by who read this node before us."""
        if run >= self.runs.get(node, 0):
            self.runs[node] = run
            self.seqs[node] = dict(seqs)

    def see(self, message: Message) -> Sight:
        """Note a message, and tell what is to be thought of it. One of an earlier run is a repeat."""
        node, run, count = message.node, message.run, len(message.said)
        known = self.runs.get(node)
        if known is not None and run < known and node not in self._silent:
            return Sight(repeated=count)
        self._silent.discard(node)
        new_run = run != known
        if new_run:
            self.runs[node] = run
            self.seqs[node] = {}
        seqs = self.seqs[node]
        missed = message.seq - (seqs.get(message.event, -1) + 1)
        if missed + count <= 0:
            return Sight(repeated=count)
        seqs[message.event] = message.seq + count - 1
        if missed == 0 and not new_run:
            return EXPECTED
        return Sight(max(missed, 0), new_run, max(-missed, 0))

    def tail(self, node: str, said: Mapping[str, int]) -> dict[str, int]:
        """How many of each event a heartbeat's `seqs` show to be missing at the end."""
        seqs = self.seqs.setdefault(node, {})
        missing = {event: seq - seqs.get(event, -1) for event, seq in said.items() if seq > seqs.get(event, -1)}
        seqs.update((event, said[event]) for event in missing)
        return missing
