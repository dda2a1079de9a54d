"""Read several things in one round trip: each is described first, and all are sent together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from companion.store.connection import Command, Connection

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """Hold the commands that read something, and the function that makes it of their replies.

    Replies are as the server sent them, errors too; `make` raises those that it has no answer to.
    """

    commands: Sequence[Command]
    make: Callable[[Sequence[Any]], T]

    def beside(self, other: "Reading[S]") -> "Reading[tuple[T, S]]":
        """Return the reading of both, in the same round trip."""
        own = len(self.commands)
        return Reading(
            [*self.commands, *other.commands],
            lambda replies: (self.make(replies[:own]), other.make(replies[own:])),
        )

    def then(self, convert: Callable[[T], S]) -> "Reading[S]":
        """Return the reading of what is made of this one."""
        return Reading(self.commands, lambda replies: convert(self.make(replies)))


def read(connection: Connection, reading: Reading[T]) -> T:
    """Read what a reading describes."""
    return reading.make(connection.read(reading.commands))


def make_mapping(reply: Any) -> Mapping[str, str]:
    """Return the reply to HGETALL: a map, or with RESP2 fields and values in turn. Raises it where it is an error."""
    return reply if isinstance(reply, dict) else dict(zip(*[iter(check(reply))] * 2, strict=True))


def check(reply: Any) -> Any:
    """Return a reply. Raises it where it is an error."""
    if isinstance(reply, Exception):
        raise reply
    return reply
