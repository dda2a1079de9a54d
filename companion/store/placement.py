"""Tell which keys of a shard go together, and whose shard they belong to. No I/O."""

from collections.abc import Callable
from typing import Final, NamedTuple

from companion.store.contacts import aor_of, parse_ref

ANSWERS: Final = "answers"
WRITERS: Final = "writers"
FOLLOWERS: Final = {"contact": ("care-state",), "call": ("media",)}
"""Kinds of keys whose value says where they belong, each with the kinds of those with the same name that go with it."""
_LEAD_OF: Final = {follower: lead for lead, followers in FOLLOWERS.items() for follower in followers}
MEMBERS: Final[dict[str, Callable[[str], str]]] = {
    "devices": aor_of,
    "expires": lambda ref: parse_ref(ref).aor,
    "failing": lambda ref: parse_ref(ref).aor,
    "pushing": lambda ref: parse_ref(ref).aor,
}
"""Sorted sets of a shard: each member says where it belongs."""
_OWNERS: Final[dict[str, Callable[[str], str]]] = {
    **dict.fromkeys(("device", "latency", "lost", "timeline", "care", "trace", "spelling"), aor_of),
    **dict.fromkeys(("calls", "report-budget"), aor_of),
    "pushes": lambda name: aor_of(name.partition(":")[2]),
    **dict.fromkeys(("aor", "instance"), str),
    "connection": lambda name: name.rpartition("/")[2],
}
"""By kind: what the name says that decides about the shard."""
MOST_SHARDS: Final = 4096
_SHARDS: Final = {str(number): number for number in range(MOST_SHARDS)}


class TaggedKey(NamedTuple):
    """Hold a key with a hash tag: its shard, its kind, and its name behind that, None where it is one of a shard."""

    shard: int
    kind: str
    name: str | None = None

    @property
    def lead(self) -> "TaggedKey":
        """Return the key that it goes with, by default itself."""
        kind = _LEAD_OF.get(self.kind)
        return TaggedKey(self.shard, kind, self.name) if kind else self

    @property
    def owner(self) -> str | None:
        """Return the text whose hash decides about the shard, None where the name does not have it."""
        read = _OWNERS.get(self.kind)
        return read(self.name) if read and self.name is not None else None

    def move(self, shard: int) -> "TaggedKey":
        """Return the same key in another shard."""
        return TaggedKey(shard, self.kind, self.name)  # there are millions: _replace takes four times as long

    def format(self, prefix: str) -> str:
        """Return the key as Redis has it."""
        kind = f"{prefix}{{{self.shard}}}:{self.kind}"
        return kind if self.name is None else f"{kind}:{self.name}"


def parse_tagged(key: str, prefix: str) -> TaggedKey | None:
    """Read a key, None for one that is not ours."""
    if not key.startswith(f"{prefix}{{"):
        return None
    number, _, rest = key[len(prefix) + 1 :].partition("}:")
    kind, colon, name = rest.partition(":")
    shard = _SHARDS.get(number)
    return TaggedKey(shard, kind, name if colon else None) if kind and shard is not None else None
