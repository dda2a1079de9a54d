"""Refuse what a consumer writes after another one took over its node.

A lock alone cannot do that: a consumer may be stopped between its last look at the lock and its write. So the one that
takes a node over first leaves its token beside all data that it may write, in a hash of each slot. Each write is a
script that compares the token before it changes anything in that slot.

Redis itself may go back in time: a failover or a restart loses the last writes, FLUSHALL all of them. So the batches of
a node are numbered in its own hash, and what was written last must still be there. On a Cluster one of several masters
may go back: there the scripts of each slot are numbered as well (`marks.py`).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from companion.store.connection import Command
from companion.store.keys import Keys
from companion.store.redis_errors import NotNowError, ResponseError, is_not_now
from companion.store.store import Store

WRITER: Final = "writer"
"""The field of a node's own hash with the token of its writer."""
BATCH: Final = "batch"
"""The field of a node's own hash with the number of its last batch."""
MOST_COMMANDS: Final = 200
"""The most commands in one script: Redis does nothing else meanwhile. Each may have some thousand arguments."""

_REFUSED: Final = "FENCED "
_ROLLED_BACK: Final = "ROLLEDBACK "
_SCRIPT: Final = """
local held = tonumber(ARGV[1])
for i = 2, 2 * held, 2 do
  local writer = redis.call('HGET', KEYS[1], ARGV[i])
  if writer and writer ~= ARGV[i + 1] then
    return redis.error_reply('FENCED ' .. ARGV[i + 1])
  end
end
local errors = {}
local at = 2 * held + 6
local field, batch, number, ttl = unpack(ARGV, at - 4, at - 1)
if tonumber(batch) > 0 and tonumber(redis.call('HGET', KEYS[1], field) or '0') < tonumber(batch) then
  return redis.error_reply('ROLLEDBACK ' .. KEYS[1])
end
for i = 2, #KEYS do
  local last = at + 1 + tonumber(ARGV[at + 1])
  local name = ARGV[at]
  local is_kept = string.byte(name, -1) == 43
  if is_kept then
    name = string.sub(name, 1, -2)
  end
  local reply = redis.pcall(name, KEYS[i], unpack(ARGV, at + 2, last))
  if is_kept then
    redis.call('PEXPIRE', KEYS[i], ttl)
  end
  if type(reply) == 'table' and reply.err then
    errors[#errors + 1] = reply.err
  end
  at = last + 1
end
for i = 2, 2 * held, 2 do
  redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
end
if number ~= '' then
  redis.call('HSET', KEYS[1], field, number)
end
return errors
"""


Numbering = tuple[str, int, int | str]
"""(field of the hash with a number, the least that it must have or 0, what it gets or "" for nothing)"""


class FencedError(Exception):
    """Report that another consumer took over; `token` is the one that no longer counts."""

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token = token


class RolledBackError(Exception):
    """Report that Redis lost what was written before; the text is the key that shows it."""


def take_over(store: Store, node: str, token: str) -> None:
    """Refuse from now on what earlier consumers of a node still write."""
    store.connection.pipeline(prepare_take_over(store.keys, node, token))


def prepare_take_over(keys: Keys, node: str, token: str) -> list[Command]:
    """Prepare to refuse what earlier consumers of a node still write, in each shard of these keys."""
    shards = (("HSET", keys.writers(shard), node, token) for shard in range(keys.shards))
    return [("HSET", keys.node(node), WRITER, token), *shards]


def fence(
    key: str, tokens: Mapping[str, str], commands: Iterable[Command], *, batch: int = 0, ttl_ms: int = 0
) -> Iterator[Command]:
    """Yield scripts that run these commands, all of the slot of `key`, unless it holds another token for a field.

    Nor do they run when `batch` was written to the hash at `key`, and is not there any more. A command whose name ends
    with a plus sign also has its key live for another `ttl_ms`.
    """
    every = list(commands)
    for start in range(0, len(every), MOST_COMMANDS):
        part = every[start : start + MOST_COMMANDS]
        arguments: list[Any] = []
        for name, _, *rest in part:
            arguments += name, len(rest), *rest
        keys = [command[1] for command in part]
        yield _make_script([key, *keys], tokens, (BATCH, batch, ""), ttl_ms, arguments)


def number_script(key: str, tokens: Mapping[str, str]) -> Command:
    """Return a script that only checks what `fence` does, to be numbered."""
    return _make_script([key], tokens, (BATCH, 0, ""), 0, ())


def is_fenced(command: Command) -> bool:
    """Return whether a command is a script of `fence`."""
    return len(command) > 1 and command[1] is _SCRIPT


def renumber(command: Command, numbering: Numbering) -> Command:
    """Return a script of `fence` with another numbering."""
    held = 3 + command[2]
    start = held + 1 + 2 * command[held]
    return (*command[:start], *numbering, *command[start + len(numbering) :])


def _make_script(
    keys: Sequence[str], tokens: Mapping[str, str], numbering: Numbering, ttl_ms: int, arguments: Sequence[Any]
) -> Command:
    held = [part for pair in tokens.items() for part in pair]
    return ("EVAL", _SCRIPT, len(keys), *keys, len(tokens), *held, *numbering, ttl_ms, *arguments)


def by_shard(keys: Keys, commands: Iterable[Command]) -> dict[int, list[Command]]:
    """Group commands by the shard of their key: one script takes keys of one."""
    if keys.shards == 1:
        return {0: list(commands)}
    shards: defaultdict[int, list[Command]] = defaultdict(list)
    for command in commands:
        shards[keys.shard_of(command[1])].append(command)
    return shards


def read_errors(replies: Sequence[Any]) -> list[str]:
    """Return the errors of the commands in fenced scripts and of others.

    Raises FencedError when a script was refused, RolledBackError when Redis lost what it had, NotNowError when the
    server may take a command later.
    """
    errors: list[str] = []
    for reply in replies:
        if isinstance(reply, list):
            errors += reply
        elif isinstance(reply, ResponseError):
            errors.append(str(reply))
    for error in errors:
        if error.startswith(_REFUSED):
            raise FencedError(error.removeprefix(_REFUSED))
        if error.startswith(_ROLLED_BACK):
            raise RolledBackError(error.removeprefix(_ROLLED_BACK))
        if is_not_now(ResponseError(error)):
            raise NotNowError(error)
    return errors
