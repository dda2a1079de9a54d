"""Which removed phones came back so soon that they were alive."""

from typing import Any

import pytest

from companion.remediation.suspects import _returned as returned
from companion.remediation.suspects import are_too_many
from tests.unit.remediation.test_policy import contact

NOW = 1_795_452_109_605
SECOND = 1000
REMOVAL = {"aor": "alice", "cluster": "c", "callid": "call", "cseq": 7, "address": "192.0.2.1:5060"}


@pytest.mark.parametrize(
    ("after", "changes", "expected"),
    [
        (1, {"cseq": 8}, True),
        (60, {"cseq": 8}, True),
        (61, {"cseq": 8}, False),
        (540, {"cseq": 8}, False),
        (30, {"callid": "new"}, True),
        (61, {"callid": "new"}, False),
        (30, {"callid": "new", "received": "sip:192.0.2.2:5060"}, False),
        (0, {"cseq": 8}, False),
        (-5, {"cseq": 8}, False),
    ],
)
def test_suspect(after: int, changes: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    """A phone is suspect that registers within a minute, with its Call-ID or from its address; later ones woke up."""
    back = contact(registered_at=NOW + after * SECOND)
    back.registration = back.registration._replace(**changes)
    assert bool(list(returned([back], NOW, REMOVAL))) is expected


@pytest.mark.parametrize(("suspects", "removals", "expected"), [(6, 6, True), (6, 100, True), (6, 120, False)])
def test_share(suspects: int, removals: int, expected: bool) -> None:  # noqa: FBT001
    """A few suspects among many removals are chance."""
    assert are_too_many(suspects, removals) is expected
