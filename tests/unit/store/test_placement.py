"""Test where each key with a hash tag belongs."""

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.store.keys import Keys
from companion.store.placement import ANSWERS, FOLLOWERS, MEMBERS, WRITERS, parse_tagged
from tests.unit.store.contacts import texts

SHARDS = 64
ARGUMENTS = {
    "device": "alice@a.example/b/urn:uuid:1",
    "aor": "alice@a.example/b",
    "instance": "<urn:uuid:1>",
    "cluster": "east/1",
    "address": "192.0.2.1:5060",
    "contact": "0123456789abcdef",
    "ref": "0123456789abcdef",
    "day": "20261128",
    "shard": 7,
}


def _tagged_methods() -> list[str]:
    methods = inspect.getmembers(Keys, inspect.isfunction)
    names = [
        name
        for name, method in methods
        if not name.startswith("_") and set(inspect.signature(method).parameters) - {"self"} <= set(ARGUMENTS)
    ]
    return [name for name in names if name != "shard" and _key(name, SHARDS).startswith("p:{")]


def _key(name: str, shards: int) -> str:
    method = getattr(Keys("p:", shards), name)
    if name in ("shard_count", "shard", "shard_of"):
        return ""
    return str(method(*(ARGUMENTS[parameter] for parameter in inspect.signature(method).parameters)))


@pytest.mark.parametrize("name", _tagged_methods())
def test_every_key_has_its_place(name: str) -> None:
    """Each key with a hash tag that the companion has says where it belongs, or is one of a kind that goes with it."""
    name_of_key = _key(name, SHARDS)
    key = parse_tagged(name_of_key, "p:")
    assert key
    assert key.format("p:") == name_of_key
    assert key.shard == Keys("p:", SHARDS).shard_of(name_of_key)
    if key.owner is not None:
        assert Keys("p:", SHARDS).shard(key.owner) == key.shard
        assert key._replace(shard=0).format("p:") == _key(name, 1)
    elif key.name is not None:
        assert key.lead.kind in FOLLOWERS
    else:
        assert key.kind in {*MEMBERS, ANSWERS, WRITERS}


@given(texts, texts)
def test_any_name(aor: str, instance: str) -> None:
    """Whatever an AOR contains, its keys are read as they were written."""
    keys, device = Keys("p:", SHARDS), f"{aor}/{instance.replace('/', '')}"
    for name in (keys.device(device), keys.aor(aor), keys.pushes(device, "20261128"), keys.calls_of(device)):
        key = parse_tagged(name, "p:")
        assert key
        assert (key.owner, key.format("p:")) == (aor, name)


@given(st.text())
def test_keys_of_others(name: str) -> None:
    """A key that is read is written back as it was."""
    for text in (name, f"p:{{{name}", f"p:{{3}}:{name}"):
        key = parse_tagged(text, "p:")
        assert key is None or key.format("p:") == text
