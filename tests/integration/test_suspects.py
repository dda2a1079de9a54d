"""Removals whose phone came back, as Redis keeps them."""

from companion.remediation.suspects import has_too_many
from companion.store.removals import append_removal, append_suspect, count_removals, count_suspects, load_removals
from tests.integration.conftest import MakeSetup

NOW = 1_795_452_109_605
HOUR_MS = 3_600_000


def test_removals_of_an_hour(make_setup: MakeSetup) -> None:
    """Removals are counted for an hour, and read from a time on."""
    store = make_setup().store
    for at in (NOW - HOUR_MS - 1, NOW - 60_000, NOW):
        append_removal(store, at, {"contact": str(at)})
    assert load_removals(store, NOW - 60_000) == [(at, {"contact": str(at)}) for at in (NOW - 60_000, NOW)]
    assert count_removals(store, NOW) == 2


def test_one_user_is_not_many(make_setup: MakeSetup) -> None:
    """The contacts of one user count once; those of several stop removals, unless they are few of very many."""
    store = make_setup().store
    for step in range(9):
        append_suspect(store, NOW + step, "c", "alice")
    assert (count_suspects(store, NOW + 9), has_too_many(store, 1, NOW + 9)) == (1, False)
    append_suspect(store, NOW, "c", "bob")
    assert has_too_many(store, 1, NOW + 9)
    for step in range(40):
        append_removal(store, NOW + step, {"contact": str(step)})
    assert not has_too_many(store, 1, NOW + 99)
