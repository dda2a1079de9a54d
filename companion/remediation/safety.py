"""What keeps remediation from doing harm: is the feed to be trusted, is this a mass event, how much may be done."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from redis.exceptions import LockError
from redis.lock import Lock

from companion.config import Config, PingsSection, RemediationSection
from companion.store.nodes import Feed
from companion.store.store import Store

TRUSTED_INTERVALS: Final = 2
SWEEPER_SECONDS: Final = 10.0
"""How long a turn lasts unless it is renewed, as it is before each action: longer than one call of MI may take."""
CLOCK_STEP_MS: Final = 1_000
LATE_MS: Final = 10_000
"""How far what the bridge says may be behind, or ahead of, our clock."""
SMALL_MASS: Final = 5
HALF: Final = 0.5
"""From five candidates on, more than half of a node's contacts are a mass event."""
_MINUTE_MS: Final = 60_000


def trouble(feed: Feed | None, settings: RemediationSection, pings: PingsSection, now: int) -> str:
    """Why a node's contacts must not be acted on now; "" when nothing speaks against it."""
    if feed is None or not feed.is_alive(now):
        return "its feed is silent"
    if abs(now - feed.said_at) > LATE_MS or feed.heartbeat_at > now + LATE_MS:
        return "its events come late, or a clock is wrong"
    trusted_ms = TRUSTED_INTERVALS * pings.interval_ms
    if now - feed.last_event_at > trusted_ms:
        return "OpenSIPS says nothing"
    warm_up_ms = round(settings.warm_up * 1000) or trusted_ms
    left_ms = feed.steady_since + warm_up_ms - now
    return f"warming up for {-(-left_ms // 1000)} s more" if left_ms > 0 else ""


def observed_only(config: Config, feeds: Mapping[str, Feed], node: str) -> str:
    """Return why removals of a node's contacts are only observed; "" when nothing speaks against them."""
    cluster = config.cluster(node)
    nodes = {table.node for table in config.opensips} | feeds.keys()
    if any(other != node and config.cluster(other) == cluster for other in nodes):
        return "it shares a cluster with other nodes"
    if node in feeds and feeds[node].transports > 1:
        return "its events come over both transports"
    return ""


def is_mass_event(candidates: int, contacts: int, settings: RemediationSection) -> bool:
    """Return whether so many fail at once that it is a dead network or a stopped timer, not dead phones."""
    if candidates >= SMALL_MASS and candidates > max(HALF, settings.breaker_share) * contacts:
        return True
    return candidates > settings.breaker_candidates and candidates > settings.breaker_share * contacts


class Breaker:
    """Open from a mass event until it has been calm for a while; kept in Redis, so that all companions see one."""

    def __init__(self, store: Store, settings: RemediationSection) -> None:
        self._store = store
        self._settings = settings

    def check(self, node: str, candidates: int, contacts: int | None, now: int) -> bool:
        """Whether the node's breaker is open, given how many are to be acted on of how many (None = not counted)."""
        key, call = self._store.keys.breaker(node), self._store.connection.call
        if contacts is not None and is_mass_event(candidates, contacts, self._settings):
            call("HSETNX", key, "opened_at", now)
            call("HSET", key, "mass_at", now, "candidates", candidates, "contacts", contacts)
            return True
        mass_at = call("HGET", key, "mass_at")
        if mass_at is None:
            return False
        if now - int(mass_at) < self._settings.breaker_calm * 1000:
            return True
        call("DEL", key)
        return False


def open_breakers(store: Store, nodes: Sequence[str]) -> dict[str, int]:
    """Since when (epoch ms) the breakers of those of these nodes are open whose breaker is."""
    opened = store.connection.pipeline(("HGET", store.keys.breaker(node), "opened_at") for node in nodes)
    return {node: int(at) for node, at in zip(nodes, opened, strict=True) if at}


class Turn(NamedTuple):
    """One sweeper's turn: a lock, and a number that grows with each turn of anyone."""

    lock: Lock
    fence: int

    def goes_on(self) -> bool:
        """Whether the turn is still ours; it then lasts SWEEPER_SECONDS from now."""
        try:
            return bool(self.lock.reacquire())
        except LockError:
            return False

    def end(self) -> None:
        try:
            self.lock.release()
        except LockError:
            return


def take_turn(store: Store) -> Turn | None:
    """Begin a sweep, unless another companion is at it."""
    lock = Lock(store.connection.redis, store.keys.sweeper(), timeout=SWEEPER_SECONDS, thread_local=False)
    if not lock.acquire(blocking=False):
        return None
    return Turn(lock, int(store.connection.call("INCR", store.keys.fence())))


def may_act(store: Store, settings: RemediationSection, now: int) -> bool:
    """Count one more action of this minute, of all companions together; False when there were enough."""
    key = store.keys.actions(now // _MINUTE_MS)
    count, _ = store.connection.pipeline([("INCR", key), ("PEXPIRE", key, 2 * _MINUTE_MS)])
    return int(count) <= settings.max_per_minute


def pause(store: Store, seconds: float) -> None:
    """Let nobody act for so long."""
    store.connection.call("SET", store.keys.pause(), int(time.time() * 1000), "PX", round(seconds * 1000))


def resume(store: Store) -> None:
    store.connection.call("DEL", store.keys.pause())


def paused_ms(store: Store) -> int:
    """How long the pause lasts; 0 when there is none."""
    return max(0, int(store.connection.call("PTTL", store.keys.pause())))


class ClockWatch:
    """Notices when the machine's clock was set: ages reckoned across that are worth nothing for a while."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset_ms = self._offset()
        self._distrust_until = 0.0

    def distrusts(self, warm_up_seconds: float) -> bool:
        offset_ms = self._offset()
        if abs(offset_ms - self._offset_ms) > CLOCK_STEP_MS:
            self._distrust_until = self._steady() + warm_up_seconds
        self._offset_ms = offset_ms
        return self._steady() < self._distrust_until

    def _offset(self) -> int:
        return round((self._wall() - self._steady()) * 1000)
