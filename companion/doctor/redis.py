"""Check whether Redis can keep a week of pings. No I/O."""

import re
from collections.abc import Iterator, Mapping

from companion.doctor.facts import Facts, RedisFacts
from companion.doctor.finding import Finding, Section, failure, note, ok, warning

OLDEST = (6, 2)
CLOCK_MS = 2000
NEARLY_FULL = 0.9
LISTPACK_BYTES = 512
"""Contact URIs with push parameters are longer than the 64 bytes that Redis' default keeps compact."""


def check(facts: Facts) -> Section:
    return Section("Redis", list(_findings(facts.redis)))


def _findings(redis: RedisFacts) -> Iterator[Finding]:
    if redis.error:
        yield failure("server", redis.error, redis.remedy)
        return
    yield _server(redis)
    yield _engine(redis)
    if redis.settings is None:
        yield note("settings", "CONFIG is not allowed here: memory policy and persistence are unknown")
    else:
        yield _memory(redis.settings, redis.used_bytes)
        yield _persistence(redis.settings)
        yield from _hashes(redis.settings)
    yield clock("clock", redis.ahead_ms, "Redis")


def _server(redis: RedisFacts) -> Finding:
    text = f"{redis.product} {redis.version} at {redis.place}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", redis.version)[:2])
    if redis.product == "Redis" and numbers < OLDEST:
        return failure("server", text, "use Redis 6.2 or newer, or Valkey")
    return ok("server", text)


def _engine(redis: RedisFacts) -> Finding:
    if redis.timeseries:
        return ok("engine", "has TimeSeries: 3 bytes a ping")
    remedy = "nothing has to be done; Redis 8 or Redis Stack keeps the same in a seventh of the memory"
    return note("engine", "has no TimeSeries: pings are kept in streams, 23 bytes each", remedy)


def _memory(settings: Mapping[str, str], used_bytes: int) -> Finding:
    policy, limit = settings.get("maxmemory-policy", ""), int(settings.get("maxmemory", 0))
    text = f"maxmemory-policy {policy}, {_megabytes(used_bytes)} used of {_megabytes(limit) if limit else 'no limit'}"
    if policy.startswith("allkeys-"):
        remedy = (
            "redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf: else a full Redis forgets at random"
        )
        return warning("memory", text, remedy)
    if limit and used_bytes > NEARLY_FULL * limit:
        return warning("memory", text, "raise maxmemory, or lower [redis] retention_days: a full Redis takes no pings")
    if limit and policy != "noeviction":
        return note("memory", text, "when full, Redis evicts what expires, and all history does: noeviction is safer")
    return ok("memory", text)


def _megabytes(number: int) -> str:
    return f"{number / (1 << 20):.0f} MB"


def _persistence(settings: Mapping[str, str]) -> Finding:
    appends, saves = settings.get("appendonly") == "yes", bool(settings.get("save"))
    if not appends and not saves:
        return note("persistence", "off: a restart of Redis forgets all history", "appendonly yes keeps it")
    return ok("persistence", " and ".join(filter(None, ("append-only file" * appends, "snapshots" * saves))))


def _hashes(settings: Mapping[str, str]) -> Iterator[Finding]:
    name = next((name for name in settings if re.fullmatch("hash-max-(listpack|ziplist)-value", name)), "")
    if name and int(settings[name]) < LISTPACK_BYTES:
        remedy = f"{name} {LISTPACK_BYTES} in redis.conf keeps contacts with long URIs smaller"
        yield note("hashes", f"{name} {settings[name]}", remedy)


def clock(name: str, ahead_ms: int, whose: str) -> Finding:
    if abs(ahead_ms) > CLOCK_MS:
        text = f"{whose} is {abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} this machine"
        return warning(name, text, "let chrony or systemd-timesyncd set the clocks of both machines")
    return ok(name, f"{whose} and this machine agree")
