"""Send commands to the servers of a Redis Cluster, each to the master that has its slot.

`redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT?OPTIONS` names some of the servers; `rediss+cluster` speaks TLS with
all. The rest, and who has which slot, they tell. When that changes, the map is read again, and what a server refused
or did not answer is sent once more.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from redis import Redis
from redis.cluster import ClusterNode, NodesManager
from redis.connection import Connection as Socket
from redis.connection import SSLConnection
from redis.exceptions import RedisClusterException, SlotNotCoveredError

from companion.store.redis_errors import (
    AskError,
    ClusterDownError,
    MovedError,
    RedisConnectionError,
    RedisError,
    ResponseError,
    TryAgainError,
    Unreachable,
)
from companion.store.slots import Command, slot_of, slots_of
from companion.store.urls import parse_addresses, parse_options

PORT: Final = 6379
_SUFFIX: Final = "+cluster"
PAUSES_SECONDS: Final = (0.0, 0.0, 0.05, 0.1, 0.2, 0.3)
"""Before each attempt: the first map may be old, and the keys of one command may be on their way to another server."""


class ClusterUrl(NamedTuple):
    """Hold some of the servers, and how to connect to each."""

    servers: list[tuple[str, int]]
    options: dict[str, Any]


def is_cluster_url(url: str) -> bool:
    """Return whether a URL names a Cluster."""
    return urlsplit(url).scheme.endswith(_SUFFIX)


def parse_cluster_url(url: str) -> ClusterUrl:
    """Read the URL of a Cluster. Raises ValueError for one that names no server, or a database other than 0."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    if parts.path.strip("/") not in ("", "0"):
        raise ValueError("a Redis Cluster has no other database than 0: redis+cluster://HOST:PORT,HOST:PORT")
    scheme = parts.scheme.removesuffix(_SUFFIX)
    options = parse_options(scheme, login, "0", dict(parse_qsl(parts.query)))
    if scheme == "rediss":
        options["connection_class"] = SSLConnection
    return ClusterUrl(parse_addresses(hosts, PORT, "a server"), options)


class Cluster:
    """Hold the map of a Cluster, and a pool of connections to each of its servers, from the first command on."""

    def __init__(self, at: ClusterUrl, retried: tuple[type[Exception], ...], **options: Any) -> None:
        self._at = at
        self._retried = retried
        self._options = {**options, **at.options}
        self._pack: Callable[..., list[bytes]] = options["command_packer"].pack
        self._manager: NodesManager | None = None
        self._connecting = Lock()
        self.map_changes = 0
        """How often the map may have become another one."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Send one command and return its reply."""
        (reply,) = self.run([command], **options)
        return _check(reply)

    def pipeline(self, *, transaction: bool, is_plain: bool = False) -> "ClusterPipeline":
        """Return a pipeline. The order of commands holds for each slot, and for all only in a transaction of one."""
        return ClusterPipeline(self, is_transaction=transaction, is_plain=is_plain)

    def run(self, commands: Sequence[Command], *, is_plain: bool = False, **options: Any) -> list[Any]:
        """Return the reply to each command, or the error of its server. Raises what keeps a server out of reach."""
        slots = slots_of(commands)
        call = _Exchange(self._pack, commands, options, is_plain=is_plain)
        left: Sequence[int] = range(len(commands))
        broken: Exception | None = None
        for pause in PAUSES_SECONDS:
            time.sleep(pause)
            call.run(self._group(left, slots, call.replies))
            left = call.select_again()
            if not left:
                return call.replies
            failed_before, broken = broken, self._look_again([call.replies[at] for at in left])
            if broken and (failed_before or not isinstance(broken, self._retried)):
                raise broken
        if broken:
            raise broken
        return call.replies

    def run_at_one_moment(self, commands: Sequence[Command], *, raise_on_error: bool) -> list[Any]:
        """Run commands of one slot as a transaction."""
        slot = slots_of(commands)[0]
        for pause in PAUSES_SECONDS:
            time.sleep(pause)
            pipeline = self._client(self._node_of(slot)).pipeline(transaction=True)
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            try:
                return pipeline.execute(raise_on_error)
            except MovedError as error:
                self._move(error)
            except (AskError, TryAgainError):
                continue
            except Unreachable:
                self._refresh()
                raise
        raise TryAgainError("the keys are on their way to another server")

    def masters(self) -> "list[Master]":
        """Return the servers that have slots."""
        return [Master(self, node) for node in self._map().get_nodes_by_server_type("primary")]

    def master_of(self, key: str) -> "Master":
        """Return the server that has a key."""
        return Master(self, self._node_of(slot_of(key)))

    def run_on(self, node: ClusterNode, command: Command) -> Any:
        """Send a command without a key to a server."""
        call = _Exchange(self._pack, [command], {}, is_plain=False)
        call.run({_Route(self._client(node)): [0]})
        if isinstance(call.replies[0], Unreachable):
            self._refresh()
        return _check(call.replies[0])

    def close(self) -> None:
        if self._manager:
            self._manager.close()

    # The map

    def _map(self) -> NodesManager:
        with self._connecting:
            if self._manager is None:
                nodes = [ClusterNode(*at) for at in self._at.servers]  # type: ignore[no-untyped-call]
                with _explained():
                    self._manager = NodesManager(nodes, from_url=True, **self._options)
            return self._manager

    def _refresh(self) -> None:
        """Read the map again. An old one will do while no server answers."""
        self.map_changes += 1
        with _explained():
            self._map().initialize()

    def _move(self, error: MovedError) -> None:
        self.map_changes += 1
        self._map().move_slot(error)

    def _node_of(self, slot: int | None) -> ClusterNode:
        manager = self._map()
        if slot is None:
            return manager.default_node or manager.get_nodes_by_server_type("primary")[0]
        try:
            return manager.get_node_from_slot(slot)
        except SlotNotCoveredError as error:
            self._refresh()
            raise ClusterDownError(str(error)) from None

    def _client(self, node: ClusterNode) -> "Redis":
        if node.redis_connection is None:
            self._map().create_redis_connections([node])  # type: ignore[no-untyped-call]
        client: Redis = node.redis_connection
        return client

    # Sending

    def _group(
        self, left: Iterable[int], slots: Sequence[int | None], replies: Sequence[Any]
    ) -> "dict[_Route, list[int]]":
        """Group commands by the server that they go to. Who was asked to ask another one says so."""
        groups: defaultdict[_Route, list[int]] = defaultdict(list)
        targets: dict[int | None, _Route] = {}
        for at in left:
            if type(replies[at]) is AskError:
                groups[self._importer(replies[at])].append(at)
                continue
            slot = slots[at]
            if slot not in targets:
                targets[slot] = _Route(self._client(self._node_of(slot)))
            groups[targets[slot]].append(at)
        return groups

    def _importer(self, error: AskError) -> "_Route":
        node = self._map().get_node(error.host, error.port)
        if node is None:
            self._refresh()
            node = self._map().get_node(error.host, error.port)
        if node is None:
            raise ClusterDownError(f"{error.host}:{error.port} is not in the map yet")
        return _Route(self._client(node), is_asking=True)

    def _look_again(self, errors: Sequence[Exception]) -> Exception | None:
        """Correct the map by what servers answered. Return why one is out of reach, if one is."""
        moved = {error.slot_id: error for error in errors if isinstance(error, MovedError)}
        for error in moved.values():
            self._move(error)
        broken = next((error for error in errors if isinstance(error, Unreachable)), None)
        if broken:
            self._refresh()
        return broken


class Master:
    """Name one server of a Cluster, for commands without a key."""

    def __init__(self, cluster: Cluster, node: ClusterNode) -> None:
        self._cluster = cluster
        self._node = node

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply."""
        return self._cluster.run_on(self._node, command)


class ClusterPipeline:
    """Collect commands and send them at once."""

    def __init__(self, cluster: Cluster, *, is_transaction: bool, is_plain: bool) -> None:
        self._cluster = cluster
        self._is_transaction = is_transaction
        self._is_plain = is_plain
        self._commands: list[Command] = []
        self._options: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self._commands)

    def execute_command(self, *command: Any, **options: Any) -> None:
        """Add a command. The options of the last one hold for all."""
        self._commands.append(command)
        self._options = options

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        """Send all and return the replies in order. Raises the first error, if asked to."""
        if self._is_transaction:
            return self._cluster.run_at_one_moment(self._commands, raise_on_error=raise_on_error)
        replies = self._cluster.run(self._commands, is_plain=self._is_plain, **self._options)
        return [_check(reply) for reply in replies] if raise_on_error else replies


_AGAIN: Final = (AskError, TryAgainError, *Unreachable)


class _Route(NamedTuple):
    """Hold a server's pool of connections. `is_asking`: another server sent us there for the time being."""

    client: Redis
    is_asking: bool = False


class _Exchange:
    """Send commands to several servers at once, and collect the replies."""

    def __init__(
        self,
        pack: Callable[..., list[bytes]],
        commands: Sequence[Command],
        options: Mapping[str, Any],
        *,
        is_plain: bool,
    ) -> None:
        self._pack = pack
        self._commands = commands
        self._options = options
        self._is_plain = is_plain
        self.replies: list[Any] = [None] * len(commands)

    def run(self, groups: Mapping[_Route, Sequence[int]]) -> None:
        """Send to all servers before the first reply is read, so that they work side by side."""
        packed = [self._pack_group(target, own) for target, own in groups.items()]
        sent: list[tuple[_Route, Sequence[int], Socket]] = []
        try:
            for (target, own), data in zip(groups.items(), packed, strict=True):
                with self._failing(own):
                    sent.append((target, own, _send(target.client, data)))
            while sent:
                target, own, socket = sent[0]
                with self._failing(own):
                    self._receive(target, own, socket)
                target.client.connection_pool.release(socket)
                del sent[0]
        finally:
            for target, _, socket in sent:
                socket.disconnect()  # type: ignore[no-untyped-call]
                target.client.connection_pool.release(socket)

    def select_again(self) -> list[int]:
        """Return the commands to be sent again, each with the WAIT that belongs to it."""
        again = [at for at, reply in enumerate(self.replies) if isinstance(reply, _AGAIN)]
        follow = (at + 1 for at in again if self._commands[at + 1 : at + 2] and self._commands[at + 1][0] == "WAIT")
        return sorted({*again, *follow}) if again else again

    def _pack_group(self, target: _Route, own: Sequence[int]) -> bytes:
        parts: list[bytes] = []
        for at in own:
            if target.is_asking:
                parts += self._pack("ASKING")
            parts += self._pack(*self._commands[at])
        return b"".join(parts)

    def _receive(self, target: _Route, own: Sequence[int], socket: Socket) -> None:
        try:
            for at in own:
                if target.is_asking:
                    self._read(target.client, socket, "ASKING")
                self.replies[at] = self._read(target.client, socket, self._commands[at][0])
        except BaseException:
            socket.disconnect()  # type: ignore[no-untyped-call]
            raise

    def _read(self, client: Redis, socket: Socket, name: str) -> Any:
        try:
            if self._is_plain:
                return socket.read_response()
            return client.parse_response(socket, name, **self._options)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            return error

    @contextmanager
    def _failing(self, own: Sequence[int]) -> Iterator[None]:
        """Note for all commands of a server that it is out of reach: those that it answered are sent again, too."""
        try:
            yield
        except Unreachable as error:
            for at in own:
                self.replies[at] = error


def _send(client: Redis, data: bytes) -> Socket:
    pool = client.connection_pool
    socket: Socket = pool.get_connection()
    try:
        socket.send_packed_command([data])  # type: ignore[no-untyped-call]
    except BaseException:
        socket.disconnect()  # type: ignore[no-untyped-call]
        pool.release(socket)
        raise
    return socket


def _check(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply


@contextmanager
def _explained() -> Iterator[None]:
    """Raise in place of redis-py's error about the map why the last server that was asked did not tell it."""
    try:
        yield
    except RedisClusterException as error:
        cause = error.__cause__
        if isinstance(cause, RedisClusterException):
            cause = cause.__context__
        if isinstance(cause, RedisError | OSError):
            raise cause from None
        raise RedisConnectionError(str(error)) from None
