"""Test the names of keys."""

from hypothesis import given
from hypothesis import strategies as st

from companion import sip
from companion.store.keys import Keys
from tests.unit.store.contacts import texts


@given(texts, texts, st.sampled_from([1, 2, 256]))
def test_keys_of_a_device_are_in_one_slot(aor: str, uri: str, shards: int) -> None:
    """All that is of one AOR carries one hash tag, so that a Redis Cluster has it in one slot."""
    keys = Keys("companion:", shards)
    device = sip.device_id(aor, uri, "")
    names = [keys.device(device), keys.latency(device), keys.lost(device), keys.timeline(device)]
    names += [keys.contact(aor, "0123"), keys.aor(aor)]
    tag = f"companion:{{{keys.shard(aor)}}}:"
    assert all(name.startswith(tag) for name in names)
    assert len(set(names)) == len(names)
    assert 0 <= keys.shard(aor) < shards


def test_keys_differ() -> None:
    """No two kinds of key have one name, and each is under the prefix."""
    keys = Keys("p:", 1)
    names = [
        *(name("a/b") for name in (keys.device, keys.latency, keys.lost, keys.timeline, keys.aor, keys.instance)),
        *(keys.contact("a", "b"), keys.connection("a", "b"), keys.nodes(), keys.summary()),
        *(name(0) for name in (keys.devices, keys.answers, keys.expires, keys.failing)),
        *(name("a/b") for name in (keys.node, keys.seqs, keys.lease)),
    ]
    assert len(set(names)) == len(names)
    assert all(name.startswith("p:") for name in names)


@given(st.lists(texts, min_size=50, max_size=50, unique=True))
def test_shards_are_stable(aors: list[str]) -> None:
    """An AOR is in the same shard whoever asks."""
    assert [Keys("a", 16).shard(aor) for aor in aors] == [Keys("b", 16).shard(aor) for aor in aors]
