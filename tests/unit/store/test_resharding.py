"""The copies of keys that move between the servers of a Cluster."""

from collections.abc import Iterable
from typing import Any

from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.placement import TaggedKey
from companion.store.resharding import _Group, _prepare_copies


class Endings:
    """A store whose keys live for ever, for less than a millisecond, and until just after they were read."""

    def __init__(self) -> None:
        self.keys = Keys("t:", 4)
        self.connection = self

    def read_bytes(self, commands: Iterable[Command]) -> list[Any]:
        assert len(list(commands)) == 8
        return [b"for ever", -1, b"not long", 0, b"ended", -2, None, -2]


def test_no_copy_lives_longer() -> None:
    """RESTORE takes a 0 for no end: a key that ends while it is read must not live for ever."""
    group = _Group([TaggedKey(0, "device", f"{n}/x") for n in range(4)], 1)
    copies = list(_prepare_copies(Endings(), [group]))  # type: ignore[arg-type]
    assert [command[2] for command in copies] == [0, 1, 1]
