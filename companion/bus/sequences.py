"""Count what is missing or repeated in the sequence numbers of each node and event. No I/O."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from companion.bus.envelope import Message


class SequenceCheck(NamedTuple):
    """Hold how many events before a message are missing, and how many of its first ones are repeats."""

    missed: int = 0
    new_run: bool = False
    repeated: int = 0


IN_ORDER: Final = SequenceCheck()


class Sequences:
    """Keep the last seq of each event name of each node to find gaps, new runs and repeats."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.seqs: dict[str, dict[str, int]] = {}
        self._silent: set[str] = set()
        self._catching_up: set[str] = set()

    def fell_silent(self, node: str) -> None:
        """Accept any run next: a bridge that starts after its clock was set back has a lower one."""
        self._silent.add(node)

    def forget(self, node: str) -> None:
        """Forget a node; when it comes back it counts as a new one."""
        self.runs.pop(node, None)
        self.seqs.pop(node, None)
        self._silent.discard(node)
        self._catching_up.discard(node)

    def resume(self, node: str, run: int, seqs: Mapping[str, int]) -> None:
        """Resume from the run and seqs that the previous consumer of this node stored.

        What it stored last still waits for us on the bus: until the first event that is new, repeats are no surprise.
        """
        if run >= self.runs.get(node, 0):
            self.runs[node] = run
            self.seqs[node] = dict(seqs)
            self._catching_up.add(node)

    def is_catching_up(self, node: str) -> bool:
        """Return whether no event of a node was new since `resume`."""
        return node in self._catching_up

    def is_repeat(self, message: Message) -> bool:
        """Return whether all events of a message came before."""
        is_of_run = self.runs.get(message.node) == message.run
        last = self.seqs[message.node].get(message.name, -1) if is_of_run else -1
        return message.seq + len(message.events) <= last + 1

    def begins_run(self, message: Message) -> bool:
        """Return whether a message is the first of another run than the last one that we know of its node."""
        last_run = self.runs.get(message.node)
        return last_run is not None and message.run != last_run and not self._is_of_earlier_run(message, last_run)

    def _is_of_earlier_run(self, message: Message, last_run: int) -> bool:
        return message.run < last_run and message.node not in self._silent

    def check(self, message: Message) -> SequenceCheck:
        """Record a message and return what is missing before it; a message of an earlier run is a repeat."""
        node, run, count = message.node, message.run, len(message.events)
        last_run = self.runs.get(node)
        if last_run is not None and self._is_of_earlier_run(message, last_run):
            return SequenceCheck(repeated=count)
        self._silent.discard(node)
        new_run = run != last_run
        if new_run:
            self.runs[node] = run
            self.seqs[node] = {}
        seqs = self.seqs[node]
        missed = message.seq - (seqs.get(message.name, -1) + 1)
        if missed + count <= 0:
            return SequenceCheck(repeated=count)
        self._catching_up.discard(node)
        seqs[message.name] = message.seq + count - 1
        if missed == 0 and not new_run:
            return IN_ORDER
        return SequenceCheck(max(missed, 0), new_run, max(-missed, 0))

    def check_tail(self, node: str, seqs_sent: Mapping[str, int]) -> dict[str, int]:
        """Return how many of each event are missing at the end, by the seqs in a heartbeat."""
        seqs = self.seqs.setdefault(node, {})
        missing = {event: seq - seqs.get(event, -1) for event, seq in seqs_sent.items() if seq > seqs.get(event, -1)}
        seqs.update((event, seqs_sent[event]) for event in missing)
        return missing
