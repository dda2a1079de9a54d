"""Test what is known of a Redis Cluster without one: its URL, slots, and the numbers of scripts."""

import pytest
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MasterDownError, MovedError, TryAgainError

from companion.store.cluster import is_cluster_url, parse_cluster_url
from companion.store.connection import Command
from companion.store.fence import fence
from companion.store.keys import Keys
from companion.store.marks import IDLE_SECONDS, Marks, name_field
from companion.store.redis_errors import is_not_now
from companion.store.slots import list_keys, slot_of, slots_of

LEAD = ("edge", "token")


def test_all_parts() -> None:
    """A URL has some of the servers, and what all of them need."""
    at = parse_cluster_url("redis+cluster://ann:s%40cret@a.invalid,[2001:db8::1]:7001?health_check_interval=9")
    assert at.servers == [("a.invalid", 6379), ("2001:db8::1", 7001)]
    assert at.options == {"username": "ann", "password": "s@cret", "db": 0, "health_check_interval": 9}
    assert "connection_class" in parse_cluster_url("rediss+cluster://a:1?ssl_ca_certs=/ca.pem").options


@pytest.mark.parametrize("url", ["redis+cluster://", "redis+cluster://a:1,:2", "redis+cluster://a:1/3"])
def test_wrong_urls(url: str) -> None:
    """A URL without servers, or with a database, is refused."""
    assert is_cluster_url(url)
    with pytest.raises(ValueError, match=r"HOST:PORT|database"):
        parse_cluster_url(url)


@pytest.mark.parametrize("key", ["plain", "p:{7}:device:a/b", "p:{}:x", "p:}{:x", "{a}{b}", "p:{7}:aor:{x}", "ü{ß}"])
def test_slots(key: str) -> None:
    """The slot of a key is that of its hash tag, if it has one."""
    start, end = key.find("{"), key.find("}", key.find("{") + 1)
    tag = key[start + 1 : end] if 0 <= start < end - 1 else key
    assert slot_of(key) == key_slot(tag.encode())


def test_keys_of_commands() -> None:
    """Each kind of command has its keys in another place; WAIT belongs to the command before it."""
    assert list_keys(("EVAL", "script", 2, "a", "b", "argument")) == ("a", "b")
    assert list_keys(("TS.MADD", "a", 1, 2, "b", 3, 4)) == ("a", "b")
    assert list_keys(("MGET", "a", "b")) == ("a", "b")
    assert slots_of([("SET", "a", 1), ("WAIT", 1, 500)]) == [slot_of("a")] * 2
    assert slots_of([("INFO",)]) == [None]


def test_what_will_be_over() -> None:
    """redis-py takes the word that names them from the texts of these errors."""
    errors = [
        *(ClusterDownError("Hash slot not served"), MasterDownError("Link with MASTER is down")),
        *(TryAgainError("Multiple keys request"), MovedError("7 a:1")),
    ]
    assert all(map(is_not_now, errors))


def prepare(marks: Marks, *keys: str) -> list[Command]:
    return list(marks.number(marks.prepare(keys)))


def test_scripts_are_numbered() -> None:
    """A script must find in its shard what the last one left that was sent, or that Redis acknowledged."""
    keys, now = Keys("p:", 4), 0.0
    marks = Marks(keys, lambda: now)
    marks.begin(LEAD)
    (first,) = prepare(marks, keys.devices(2))
    assert (first[3], first[-4:-1]) == (keys.writers(2), (name_field("edge"), 0, first[-2]))
    written = fence(keys.writers(2), dict([LEAD]), [("SET", keys.devices(2), "x")])
    (second,) = marks.number(written)
    assert second[-7:-3] == (name_field("edge"), first[-2], second[-5], 0)
    marks.acknowledge()
    assert prepare(marks) == []
    now = IDLE_SECONDS
    (third,) = prepare(marks)
    assert third[-3] == second[-5] < third[-2]
    marks.begin(LEAD)
    (again,) = prepare(marks, keys.devices(2))
    assert again[-3] == second[-5]


def test_numbers_begin_anew() -> None:
    """Nothing is expected after another lease began, or a loss was noticed; without a lease there are no numbers."""
    keys = Keys("p:", 4)
    marks = Marks(keys)
    marks.begin(LEAD)
    assert prepare(marks, keys.devices(0))
    marks.acknowledge()
    marks.begin(("edge", "other token"))
    assert prepare(marks, keys.devices(0))[0][-3] == 0
    marks.begin(None)
    assert prepare(marks, keys.devices(0)) == []
