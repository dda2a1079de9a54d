"""Number what a consumer writes to each shard of a Cluster, to notice that one master lost some of it.

A replica has what its master wrote up to some moment, and nothing behind it. So each script leaves its number in its
slot, and the next one to the slot must find it there. Shards without new events are looked at once a second: what they
lost is written again only while the batches of the last seconds are still kept.

Samples are no scripts. A script follows them when the servers have stored them all, so a replica with the number has
the samples too. If that script goes to another server than the samples, its number proves nothing: `Batch` writes once
more what was written while the map of the Cluster changed.
"""

import time
from collections.abc import Callable, Iterable
from typing import Final

from companion.store.connection import Command
from companion.store.fence import BATCH, Numbering, is_fenced, number_script, renumber
from companion.store.keys import Keys

IDLE_SECONDS: Final = 1.0
Lead = tuple[str, str]
"""A node that the consumer holds, and the token of its lease: the numbers stand under this name."""


def name_field(node: str) -> str:
    """Return the field of `writers` with the number of the last script."""
    return f"{BATCH}/{node}"


class Marks:
    """Hold the number of the last script that each shard acknowledged."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._lead: Lead | None = None
        self._acknowledged: dict[int, int] = {}
        self._sent: dict[int, int] = {}
        self._number = 0
        self._idle_at = 0.0

    def begin(self, lead: Lead | None) -> None:
        """Begin a batch. With another lease than before, the numbers begin anew; without one there are none.

        What an attempt before sent in vain may not be there.
        """
        self._sent.clear()
        if lead != self._lead:
            self.forget()
        self._lead = lead

    def forget(self) -> None:
        """Drop all numbers: Redis lost it, or another consumer wrote since."""
        self._acknowledged.clear()
        self._sent.clear()

    def prepare(self, keys: Iterable[str]) -> list[Command]:
        """Return scripts that only number the shards of these keys, and now and then those of all others."""
        if self._lead is None:
            return []
        shards = set(map(self._keys.shard_of, keys))
        if self._clock() >= self._idle_at:
            self._idle_at = self._clock() + IDLE_SECONDS
            shards.update(self._acknowledged)
        node, token = self._lead
        return [number_script(self._keys.writers(shard), {node: token}) for shard in sorted(shards)]

    def number(self, commands: Iterable[Command]) -> Iterable[Command]:
        """Return these commands with the fenced scripts among them numbered, all of shards."""
        return [self._number_one(self._lead[0], command) for command in commands] if self._lead else commands

    def acknowledge(self) -> None:
        """Keep the numbers that were sent last: Redis has them."""
        self._acknowledged.update(self._sent)
        self._sent.clear()

    def _number_one(self, node: str, command: Command) -> Command:
        if not is_fenced(command):
            return command
        return renumber(command, self._next(node, self._keys.shard_of(command[3])))

    def _next(self, node: str, shard: int) -> Numbering:
        """Return the numbering of the next script. It grows by the clock, as a consumer before us wrote numbers too."""
        expected = self._sent.get(shard) or self._acknowledged.get(shard, 0)
        self._number = max(self._number + 1, time.time_ns() // 1000)
        self._sent[shard] = self._number
        return name_field(node), expected, self._number
