"""Check whether Redis can keep a week of pings. No I/O."""

import re
from collections.abc import Iterator, Mapping

from companion.doctor.facts import Facts, RedisFacts
from companion.doctor.finding import Finding, Section, failure, note, ok, warning
from companion.text import times

OLDEST = (6, 2)
CLOCK_MS = 2000
NEARLY_FULL = 0.9
NO_EVICTION = "redis-cli CONFIG SET maxmemory-policy noeviction, and in redis.conf"


def check(facts: Facts) -> Section:
    return Section("Redis", list(_findings(facts.redis)))


def _findings(redis: RedisFacts) -> Iterator[Finding]:
    if redis.error:
        yield failure("server", redis.error, redis.remedy)
        return
    yield _server(redis)
    if redis.is_replica:
        yield failure("server", "it is a replica and takes no writes", "set [redis] url to the master")
    yield _engine(redis)
    if redis.settings is None:
        yield note("settings", "CONFIG is not allowed here: memory policy and persistence are unknown")
    else:
        yield _memory(redis)
        yield _persistence(redis.settings)
    if redis.uneven:
        yield warning("settings", f"masters differ in {', '.join(redis.uneven)}", "set them alike on all masters")
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


def _memory(redis: RedisFacts) -> Finding:
    settings = redis.settings or {}
    policy, limit = settings.get("maxmemory-policy", ""), int(settings.get("maxmemory", 0))
    size = _megabytes(limit) if limit else "no limit"
    text = f"maxmemory-policy {policy}, {_megabytes(redis.used_bytes)} used of {size}"
    if redis.evicted_keys and policy != "noeviction":
        text = f"{text}; {times(redis.evicted_keys, 'key')} evicted since its start"
        return failure("memory", text, f"{NO_EVICTION}: devices and their history vanish; raise maxmemory")
    if policy.startswith("allkeys-"):
        return warning("memory", text, f"{NO_EVICTION}: else a full Redis forgets at random")
    if limit and redis.used_bytes > NEARLY_FULL * limit:
        return warning("memory", text, "raise maxmemory, or lower [redis] retention_days: a full Redis takes no pings")
    if limit and policy != "noeviction":
        return note("memory", text, "when full, Redis evicts what expires, and all history does: noeviction is safer")
    return ok("memory", text)


def _megabytes(number: int) -> str:
    return f"{number / (1 << 20):.0f} MB"


def _persistence(settings: Mapping[str, str]) -> Finding:
    if "appendonly" not in settings:
        return note("persistence", "CONFIG is not allowed here: it is unknown whether Redis keeps its data")
    appends, saves = settings.get("appendonly") == "yes", bool(settings.get("save"))
    if not appends and not saves:
        return note("persistence", "off: a restart of Redis forgets all history", "appendonly yes keeps it")
    return ok("persistence", " and ".join(filter(None, ("append-only file" * appends, "snapshots" * saves))))


def clock(name: str, ahead_ms: int, whose: str) -> Finding:
    if abs(ahead_ms) > CLOCK_MS:
        text = f"{whose} is {abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} this machine"
        return warning(name, text, "let chrony or systemd-timesyncd set the clocks of both machines")
    return ok(name, f"{whose} and this machine agree")
