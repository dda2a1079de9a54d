"""What is known of the fleet, in Redis: the one door to it for who writes and who reads."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from companion import log
from companion.config import RedisSection
from companion.errors import ConfigError, UnavailableError
from companion.store import contacts, nodes, timeline
from companion.store.batch import REFRESH_MS, Batch, Prepared
from companion.store.connection import Command, Connection, ResponseError, Unreachable
from companion.store.keys import Keys
from companion.store.locks import Leases
from companion.store.series import Series, Streams, TimeSeries, detect
from companion.usrloc.changes import Changes
from companion.usrloc.contact import Binding, Contact, Device, contact_id

DAY_MS: Final = 86_400_000
CHUNK: Final = 1000
ENGINES: Final[dict[str, type[Series]]] = {"timeseries": TimeSeries, "streams": Streams}

logger = log.get(__name__)


class Store:
    """Blocking; any thread may call it, as each call takes a connection of a pool. `open_store` makes one."""

    def __init__(self, connection: Connection, keys: Keys, engine: type[Series], retention_ms: int) -> None:
        self.connection = connection
        self.keys = keys
        self.retention_ms = retention_ms
        self.series = engine(retention_ms, retention_ms + REFRESH_MS)
        self.leases = Leases(connection, keys)
        self._batch = Batch(connection, keys, self.series, retention_ms)

    def prepare(self, changes: Changes) -> Prepared:
        return self._batch.prepare(changes)

    def write(self, prepared: Prepared, also: Iterable[Command] = ()) -> None:
        self._batch.write(prepared, also)

    def load(self, wanted: Mapping[Binding, str]) -> list[Device]:
        """The stored devices of these bindings: the one each was stored with, else the one it is said to be of."""
        refs = {contact_id(binding): (binding.aor, device) for binding, device in wanted.items()}
        found = self.connection.pipeline(
            ("HGET", self.keys.contact(aor, contact), "device") for contact, (aor, _) in refs.items()
        )
        devices = {stored or said for stored, (_, said) in zip(found, refs.values(), strict=True)}
        return contacts.load_devices(self.connection, self.keys, sorted(devices | set(wanted.values())))

    def load_connected(self, connections: Iterable[tuple[str, str]]) -> list[Device]:
        """The stored devices with a contact on one of these (cluster, address)."""
        members = self.connection.pipeline(("SMEMBERS", self.keys.connection(*each)) for each in connections)
        return self.load_refs(ref for found in members for ref in found)

    def load_expired(self, before: int, skip: int, limit: int) -> list[Device]:
        """Devices with contacts that should have expired before this time without word of it, all but the first `skip`.

        What is left in the index of contacts that are gone altogether goes as well.
        """
        refs: dict[str, str] = {}
        for key in map(self.keys.expires, range(self.keys.shards)):
            due = self.connection.call("ZRANGEBYSCORE", key, 1, before, "LIMIT", skip, limit)
            refs.update(dict.fromkeys(due, key))
        devices = self.load_refs(refs)
        found = {f"{contact.id} {contact.binding.aor}" for device in devices for contact in device.contacts}
        self.connection.pipeline(("ZREM", key, ref) for ref, key in refs.items() if ref not in found)
        return devices

    def load_refs(self, refs: Iterable[str]) -> list[Device]:
        """The devices of contacts given as `id AOR`, as the index keys hold them."""
        pairs = [(aor, contact) for contact, _, aor in (ref.partition(" ") for ref in refs)]
        found = contacts.load_contacts(self.connection, self.keys, pairs)
        return contacts.load_devices(self.connection, self.keys, sorted({c.device for c in found.values()}))

    def failing(self) -> Iterator[Contact]:
        """The contacts that lost pings or whose connection died, in chunks: what fails, not the fleet."""
        for shard in range(self.keys.shards):
            refs = self.connection.call("ZRANGE", self.keys.failing(shard), 0, -1)
            for start in range(0, len(refs), CHUNK):
                pairs = [
                    (aor, contact) for contact, _, aor in (ref.partition(" ") for ref in refs[start : start + CHUNK])
                ]
                yield from contacts.load_contacts(self.connection, self.keys, pairs).values()

    def device(self, device: str) -> Device | None:
        found = contacts.load_devices(self.connection, self.keys, [device])
        return found[0] if found else None

    def clusters_of(self, aor: str) -> set[str]:
        """Return the clusters in which an AOR has live contacts."""
        devices = contacts.load_devices(
            self.connection, self.keys, self.connection.call("SMEMBERS", self.keys.aor(aor))
        )
        return {contact.binding.cluster for device in devices for contact in device.contacts if not contact.ended_at}

    def timeline(self, device: str, since: int, until: int) -> list[dict[str, Any]]:
        """What happened to a device and what was done about it, oldest first; `at` is epoch ms."""
        keys = (self.keys.timeline(device), self.keys.care(device))
        entries = [entry for key in keys for entry in timeline.read(self.connection, key, since, until)]
        return sorted(entries, key=lambda entry: int(entry["at"]))

    def feed(self, node: str) -> tuple[nodes.Feed, dict[str, int]]:
        return nodes.read(self.connection, self.keys, node)

    def feeds(self) -> dict[str, nodes.Feed]:
        return nodes.read_all(self.connection, self.keys)

    def forget_vanished(self, now: int) -> int:
        """Take devices off the index whose keys have run out; tells how many."""
        before = now - self.retention_ms - REFRESH_MS
        shards = range(self.keys.shards)
        return sum(self.connection.pipeline(("ZREMRANGEBYSCORE", self.keys.devices(n), "-inf", before) for n in shards))

    def close(self) -> None:
        self.connection.close()


def open_store(config: RedisSection) -> Store:
    """Connect and choose the engine.

    Raises UnavailableError when Redis does not answer, ConfigError when it can not do what the configuration asks for.
    """
    connection = Connection(config.url)
    try:
        able = detect(connection)
    except Unreachable as error:
        remedy = "start it, or see [redis] url and -c FILE"
        raise UnavailableError(f"no Redis answers at {_place(connection)} ({type(error).__name__}): {remedy}") from None
    except ResponseError as error:
        raise UnavailableError(f"Redis at {_place(connection)} refuses us: {error}; see [redis] url") from None
    engine = able if config.series == "auto" else ENGINES[config.series]
    if engine is TimeSeries and able is not TimeSeries:
        raise ConfigError(
            f"[redis] series = 'timeseries', but {_place(connection)} has no TS commands: "
            "use Redis 8 or Redis Stack, or series = 'streams'"
        )
    keys = Keys(config.prefix, config.shards)
    return Store(connection, keys, engine, config.retention_days * DAY_MS)


def _place(connection: Connection) -> str:
    """Where Redis is, without the password that may be in its URL."""
    options = connection.redis.get_connection_kwargs()
    return str(options.get("path") or f"{options.get('host')}:{options.get('port')}")
