"""The rule of removal: any doubt keeps the contact. The rows are those of the table in docs/remediation.md."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from companion.remediation.policy import Candidate, Reason
from companion.remediation.rule import Evidence, Look, NodeAnswer, Probe, judge
from tests.unit.remediation.test_policy import contact, rows

SINCE = 1000
SILENT = NodeAnswer("n1", "as-known", holds=True, probe="unanswered")
NO_WAY = NodeAnswer("n1", "as-known", holds=True, probe="no-way")
UNASKED = NO_WAY._replace(probe="not-asked")
REPLICA = NodeAnswer("n2", "as-known")
RESTARTED = NodeAnswer("n1", "already-gone")
UNWITNESSED = REPLICA._replace(holds=True, probe="unwitnessed")


class Case(NamedTuple):
    """Hold the answers of the nodes, and what else the rule knows."""

    answers: list[NodeAnswer]
    reason: Reason = "lost-pings"
    reaching: str = "n1"
    is_lost: bool = False
    alive_at: int = 0
    unanswered_before: int = 0
    lost_by_reaching: bool = True
    holder: str = ""
    path: str = ""

    def evidence(self) -> Evidence:
        registration = contact().registration._replace(path=self.path)
        failing = replace(contact(), holder=self.holder, registration=registration)
        candidate = Candidate(failing, self.reason, SINCE, self.lost_by_reaching)
        return Evidence(candidate, self.answers, self.reaching, self.is_lost, self.alive_at, self.unanswered_before)


def only_disconnected(*answers: NodeAnswer, is_lost: bool = False) -> Case:
    return Case([*answers], "disconnected", is_lost=is_lost, lost_by_reaching=False)


def doubted(*answers: NodeAnswer, before: int = 0, is_lost: bool = False) -> Case:
    return only_disconnected(*answers, is_lost=is_lost)._replace(reason="doubted", unanswered_before=before)


CASES: dict[str, Case] = {
    "1": Case([SILENT, REPLICA]),
    "2": Case([SILENT._replace(probe="answered"), REPLICA]),
    "3": Case([SILENT, REPLICA._replace(holds=True, probe="answered")]),
    "4": Case([SILENT, REPLICA], alive_at=SINCE + 1),
    "5": Case([SILENT, REPLICA._replace(look="came-back")]),
    "6": Case([SILENT._replace(look="not-alone")]),
    "7": Case([SILENT._replace(look="already-gone"), REPLICA._replace(look="already-gone")]),
    "8": Case([SILENT, REPLICA._replace(look="unreachable")]),
    "9": Case([REPLICA]),
    "10": Case([REPLICA], is_lost=True),
    "11": Case([SILENT._replace(probe="failed"), REPLICA]),
    "12": Case([NO_WAY, REPLICA._replace(probe="no-way")]),
    "13": Case([SILENT._replace(probe="unverified"), REPLICA]),
    "14": only_disconnected(SILENT),
    "15": only_disconnected(NO_WAY),
    "16": only_disconnected(SILENT._replace(probe="unverified")),
    "17": Case([NO_WAY], "disconnected"),
    "18": doubted(SILENT, before=1),
    "19": doubted(SILENT, before=2),
    "20": doubted(NO_WAY, before=2),
    "21": doubted(REPLICA, is_lost=True),
    "22": only_disconnected(REPLICA, is_lost=True),
    "23": Case([SILENT, REPLICA._replace(holds=True, probe="unverified")], reaching=""),
    "24": only_disconnected(SILENT, REPLICA._replace(holds=True, probe="no-way")),
    "25": Case([], reaching=""),
    "26": Case([SILENT._replace(probe="unwitnessed"), REPLICA]),
    "27": only_disconnected(SILENT._replace(probe="unwitnessed")),
    "28": doubted(SILENT, UNWITNESSED, before=2)._replace(holder="n1"),
    "29": doubted(SILENT, UNWITNESSED, before=2)._replace(reaching=""),
    "30": Case([RESTARTED, REPLICA]),
    "31": Case([RESTARTED._replace(probe="no-way"), REPLICA._replace(probe="no-way")]),
    "32": Case([UNASKED, REPLICA]),
    "33": Case([UNASKED._replace(holds=False), REPLICA]),
    "34": only_disconnected(SILENT, SILENT._replace(node="n2"))._replace(reaching=""),
    "35": Case([SILENT, REPLICA._replace(look="already-gone")]),
    "36": Case([NO_WAY], path="<sip:edge.example;lr>"),
    "37": Case([NO_WAY], "ghost", path="<sip:edge.example;lr>"),
}


@pytest.mark.parametrize("number", CASES)
def test_row(number: str) -> None:
    """Each row of the table of evidence holds."""
    assert rows("The rule of removal")[number] == judge(CASES[number].evidence()).outcome


def test_the_table_is_whole() -> None:
    """The document has no row that is not tested."""
    assert set(rows("The rule of removal")) == set(CASES)


answers = st.builds(
    NodeAnswer,
    st.sampled_from(["n1", "n2", "n3"]),
    st.sampled_from(Look.__args__),  # type: ignore[attr-defined]
    st.booleans(),
    st.sampled_from(Probe.__args__),  # type: ignore[attr-defined]
)
candidates = st.builds(
    Candidate,
    st.just(contact()),
    st.sampled_from(Reason.__args__),  # type: ignore[attr-defined]
    st.just(SINCE),
    st.booleans(),
)
evidences = st.builds(
    Evidence,
    candidates,
    st.lists(answers, max_size=4),
    st.sampled_from(["", "n1", "n2"]),
    st.booleans(),
    st.integers(0, 2 * SINCE),
    st.integers(0, 3),
)


@given(evidences)
def test_any_evidence(evidence: Evidence) -> None:
    """A removal never stands beside a sign of life, a doubt about the record, or a node that does not answer."""
    if judge(evidence).outcome == "remove":
        assert all(answer.probe not in ("answered", "failed", "unverified") for answer in evidence.answers)
        assert all(answer.probe != "unwitnessed" or answer.node != evidence.reaching for answer in evidence.answers)
        assert {answer.look for answer in evidence.answers} <= {"as-known", "already-gone"}
        reaching = [answer for answer in evidence.answers if answer.node == evidence.reaching]
        assert reaching
        assert reaching[0].look == "as-known"
        assert reaching[0].probe in ("unanswered", "no-way")
        assert not evidence.is_lost
        assert evidence.alive_at <= SINCE


@given(evidences, st.integers(1, 9))
def test_doubts_need_as_many_questions_as_pings(evidence: Evidence, lost_after: int) -> None:
    """A contact that is only doubted is asked `lost_after` times in vain."""
    evidence = evidence._replace(lost_after=lost_after)
    if evidence.candidate.reason == "doubted" and evidence.unanswered_before + 1 < lost_after:
        assert judge(evidence).outcome != "remove"
