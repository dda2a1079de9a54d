"""Move the data to another number of shards.

The hash of an AOR says in which shard a key belongs. So a key with another hash tag is moved, and one with the right
tag stays, whatever was done before: a move that was interrupted is continued by the next one. Each key is at its old or
at its new place at any moment; on a Cluster it may be at both. Only keys with a hash tag move.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, NamedTuple

from companion.errors import UsageError
from companion.store.connection import Command, ResponseError
from companion.store.contacts import aor_of, read_aor
from companion.store.fence import prepare_take_over
from companion.store.keys import Keys
from companion.store.maintenance import PAGE, Progress, alone, count_keys, iterate_tagged_keys
from companion.store.placement import ANSWERS, FOLLOWERS, MEMBERS, WRITERS, TaggedKey, parse_tagged
from companion.store.server import read_state
from companion.store.shards import Sharding, load_sharding, save_sharding
from companion.store.store import Store
from companion.times import HOUR_MS, now_ms

AT_ONCE: Final = 100
"""Keys that are copied together: the series of a device without TimeSeries may take half a megabyte."""
_ENDLESS: Final = -1
"""What PTTL says of a key that does not expire."""


class Resharded(NamedTuple):
    """Hold what was done: the numbers of keys that were moved, and of keys that belong to nothing."""

    moved: int = 0
    orphaned: int = 0


class _Group(NamedTuple):
    """Hold the keys that move together. The first one says where they belong, and moves last."""

    keys: Sequence[TaggedKey]
    shard: int
    answer: str | None = None
    """The entry of a contact in `answers`."""


def reshard(store: Store, progress: Progress) -> Resharded:
    """Move all data to the number of shards of this store, while no companion runs.

    Raises UsageError when one runs, or when an earlier move to another number has not ended.
    """
    connection, keys = store.connection, store.keys
    stored = load_sharding(connection, keys)
    if stored is None or stored == Sharding(keys.shards):
        return Resharded()
    if stored.before is not None and stored.number != keys.shards:
        raise UsageError(f"a move to {stored.number} shards has not ended: set [redis] shards = {stored.number} first")
    with alone(store, "move") as renew:
        before = Sharding(keys.shards, stored.before or stored.number)
        save_sharding(connection, keys, before)  # until all is moved
        _refuse_earlier_consumers(store, Keys(keys.prefix, before.tags))
        servers = _identify_servers(store)
        moved = orphaned = looked_at = 0
        for page in iterate_tagged_keys(store):
            renew()
            result = _move_page(store, page, renew)
            moved, orphaned, looked_at = moved + result.moved, orphaned + result.orphaned, looked_at + len(page)
            progress(looked_at, max(looked_at, count_keys(store)))
        if _identify_servers(store) != servers:  # it lists its keys in another order: some were not looked at
            raise UsageError("another server took over from a Redis, and may have keys that did not move: run it again")
        _forget_earlier_shards(store, before)
        save_sharding(connection, keys, Sharding(keys.shards))
    return Resharded(moved, orphaned)


def _identify_servers(store: Store) -> tuple[str, bool] | None:
    """Return what changes when another server takes over from one; None where an ACL denies INFO."""
    state = read_state(store)
    return (state.run_id, state.is_replica) if state else None


def _refuse_earlier_consumers(store: Store, keys: Keys) -> None:
    """Refuse what a consumer writes that was stopped in the middle of a batch, and wakes up later."""
    token = f"move/{now_ms()}"
    for node in store.connection.call("SMEMBERS", keys.nodes()):
        store.connection.pipeline(prepare_take_over(keys, node, token))


def _forget_earlier_shards(store: Store, before: Sharding) -> None:
    """Delete what is left of shards that are no more; the tokens of their consumers only after an hour."""
    keys = Keys(store.keys.prefix, before.tags)
    earlier = range(before.number, before.tags)
    expiries: list[Command] = [("PEXPIRE", keys.writers(shard), HOUR_MS) for shard in earlier]
    store.connection.pipeline([*expiries, *(("DEL", keys.answers(shard)) for shard in earlier)])


def _move_page(store: Store, page: Iterable[str], renew: Callable[[], None]) -> Resharded:
    prefix = store.keys.prefix
    keys = [key for name in page if (key := parse_tagged(name, prefix)) and key.kind not in (ANSWERS, WRITERS)]
    for key in keys:
        if key.kind in MEMBERS:
            _move_members(store, key, renew)
    leads = {key.lead for key in keys if key.kind not in MEMBERS}
    owners = _load_owners(store, leads)
    shards = ((lead, store.keys.shard(owner)) for lead, owner in owners.items())
    moving = _add_answers(store, [_Group(_list_group(lead), shard) for lead, shard in shards if shard != lead.shard])
    if not store.connection.is_cluster:
        return Resharded(_rename(store, moving), len(leads) - len(owners))
    moved = 0
    for start in range(0, len(moving), AT_ONCE):
        renew()
        moved += _copy(store, moving[start : start + AT_ONCE])
    return Resharded(moved, len(leads) - len(owners))


def _load_owners(store: Store, leads: Collection[TaggedKey]) -> dict[TaggedKey, str]:
    """Return the text whose hash decides about each key, without keys of which nobody can tell."""
    owners = {lead: owner for lead in leads if (owner := lead.owner) is not None}
    unclear = [lead for lead in leads if lead.kind in FOLLOWERS]
    reads = (_prepare_read(lead.kind, lead.format(store.keys.prefix)) for lead in unclear)
    for lead, reply in zip(unclear, store.connection.pipeline(reads, raise_on_error=False), strict=True):
        if (owner := _read_owner(lead.kind, reply)) is not None:
            owners[lead] = owner
    return owners


def _prepare_read(kind: str, key: str) -> Command:
    return ("GET", key) if kind == "contact" else ("HGET", key, "device")


def _read_owner(kind: str, reply: Any) -> str | None:
    if not isinstance(reply, str):
        return None
    if kind == "call":
        return aor_of(reply)
    with suppress(ResponseError):
        return read_aor(reply)
    return None


def _list_group(lead: TaggedKey) -> list[TaggedKey]:
    return [lead, *(TaggedKey(lead.shard, kind, lead.name) for kind in FOLLOWERS.get(lead.kind, ()))]


def _add_answers(store: Store, groups: Sequence[_Group]) -> list[_Group]:
    """Add the entries of contacts in `answers`."""
    contacts = [group for group in groups if group.keys[0].kind == "contact"]
    leads = [group.keys[0] for group in contacts]
    reads = (("HGET", _answers(store, lead.shard), lead.name) for lead in leads)
    answers = dict(zip(leads, store.connection.pipeline(reads), strict=True))
    return [group._replace(answer=answers.get(group.keys[0])) for group in groups]


def _answers(store: Store, shard: int) -> str:
    return TaggedKey(shard, ANSWERS).format(store.keys.prefix)


def _prepare_answer(store: Store, group: _Group) -> list[Command]:
    """Prepare to write the entry in `answers` at its new place, and then to delete the old one."""
    if group.answer is None:
        return []
    lead = group.keys[0]
    written: Command = ("HSET", _answers(store, group.shard), lead.name, group.answer)
    return [written, ("HDEL", _answers(store, lead.shard), lead.name)]


def _rename(store: Store, groups: Sequence[_Group]) -> int:
    """Move groups within one server, which carries the commands out one after the other; return how many keys.

    What needs memory comes first: a full server refuses that, and would carry out all the rest.
    """
    answers = [commands for group in groups if (commands := _prepare_answer(store, group))]
    store.connection.pipeline(written for written, _ in answers)
    prefix, commands = store.keys.prefix, [deleted for _, deleted in answers]
    for group in groups:
        for key in reversed(group.keys):
            commands.append(("RENAME", key.format(prefix), key.move(group.shard).format(prefix)))
    replies = store.connection.pipeline(commands, raise_on_error=False)
    renamed = [reply for command, reply in zip(commands, replies, strict=True) if command[0] == "RENAME"]
    for reply in replies:
        if isinstance(reply, ResponseError) and "no such key" not in str(reply):
            raise reply
    return sum(not isinstance(reply, ResponseError) for reply in renamed)


def _copy(store: Store, groups: Sequence[_Group]) -> int:
    """Move groups between the servers of a Cluster, in steps, as these do not wait for each other.

    What says where the others belong is deleted when they are: until then they are found by it again.
    """
    prefix, pipeline = store.keys.prefix, store.connection.pipeline
    answers = [commands for group in groups if (commands := _prepare_answer(store, group))]
    copies = list(_prepare_copies(store, groups))
    pipeline(chain((written for written, _ in answers), copies))
    followers = (("UNLINK", key.format(prefix)) for group in groups for key in group.keys[1:])
    pipeline(chain((deleted for _, deleted in answers), followers))
    pipeline(("UNLINK", group.keys[0].format(prefix)) for group in groups)
    return len(copies)


def _prepare_copies(store: Store, groups: Iterable[_Group]) -> Iterator[Command]:
    """Read keys that are there, and prepare to write them at their new places with the life that they have left."""
    prefix = store.keys.prefix
    pairs = [(key, key.move(group.shard)) for group in groups for key in group.keys]
    reads = chain.from_iterable((("DUMP", key.format(prefix)), ("PTTL", key.format(prefix))) for key, _ in pairs)
    replies = store.connection.read_bytes(reads)
    for (_, target), content, ttl_ms in zip(pairs, replies[::2], replies[1::2], strict=True):
        if isinstance(content, ResponseError):
            raise content
        if content is not None:
            life_ms = 0 if ttl_ms == _ENDLESS else max(1, ttl_ms)  # it may have ended since it was read
            yield ("RESTORE", target.format(prefix), life_ms, content, "REPLACE")


def _move_members(store: Store, key: TaggedKey, renew: Callable[[], None]) -> None:
    """Move the members of a sorted set that belong elsewhere: first add them there, then delete them here."""
    prefix, owner, cursor = store.keys.prefix, MEMBERS[key.kind], -1
    source = key.format(prefix)
    while cursor:
        renew()
        cursor, members = store.connection.call("ZSCAN", source, max(0, cursor), "COUNT", PAGE)
        leaving: defaultdict[int, list[Any]] = defaultdict(list)
        for member, score in members:
            if (shard := store.keys.shard(owner(member))) != key.shard:
                leaving[shard] += score, member
        store.connection.pipeline(("ZADD", key.move(shard).format(prefix), *pairs) for shard, pairs in leaving.items())
        if leaving:
            store.connection.call("ZREM", source, *chain.from_iterable(pairs[1::2] for pairs in leaving.values()))
