"""The tries of candidates that stay undecided."""

from collections import Counter

import pytest

from companion.remediation.policy import Candidate
from companion.remediation.retries import Retries
from tests.unit.remediation.test_policy import contact

NOW = 1_795_452_109_605
WAIT_MS = 60_000


def candidate(number: int = 1, since: int = NOW) -> Candidate:
    return Candidate(contact(f"sip:{number}@192.0.2.1"), "disconnected", since)


@pytest.mark.parametrize(
    ("after_ms", "expected"), [(0, False), (WAIT_MS - 1, False), (WAIT_MS, True), (-1, True), (-3_600_000, True)]
)
def test_wait(after_ms: int, expected: bool) -> None:  # noqa: FBT001
    """A candidate that was tried waits for its time; a clock that was set back does not prolong that."""
    retries = Retries()
    assert retries.is_due(candidate(), NOW)
    retries.note(candidate(), NOW, WAIT_MS)
    assert retries.is_due(candidate(), NOW + after_ms) is expected


def test_another_run_of_failure() -> None:
    """What fails anew is tried at once."""
    retries = Retries()
    retries.note(candidate(), NOW, WAIT_MS)
    assert retries.is_due(candidate(since=NOW + 1), NOW + 1)
    assert retries.tried_at(candidate(since=NOW + 1)) == 0


def test_memory_is_bounded() -> None:
    """Only the tries of present candidates are remembered."""
    retries = Retries()
    retries.note(candidate(1), NOW, WAIT_MS)
    retries.note(candidate(2), NOW, WAIT_MS)
    retries.keep([candidate(2)])
    assert (retries.tried_at(candidate(1)), retries.tried_at(candidate(2))) == (0, NOW)


def test_everyone_has_a_turn() -> None:
    """Candidates that wait again and again do not keep others from being tried, however many they are."""
    retries, crowd, tried = Retries(), [candidate(number) for number in range(50)], Counter[str]()
    for sweep in range(20):
        now = NOW + sweep * 15_000
        due = [one for one in sorted(crowd, key=retries.tried_at) if retries.is_due(one, now)]
        for one in due[:10]:
            retries.note(one, now, WAIT_MS)
            tried[one.contact.id] += 1
    assert set(tried.values()) == {4}
