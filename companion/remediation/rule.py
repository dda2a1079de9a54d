"""Judge whether a candidate may be removed, from what its nodes answered just now. No I/O.

A contact is removed only when every node that can reach it has it as we know it, asked the phone, and got no answer
while another phone on the same way answered. Any doubt keeps it: a dead contact ends with its registration as well.
docs/remediation.md has the table, and what holds where nobody can ask.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from companion.remediation.policy import Candidate

Look = Literal["as-known", "already-gone", "came-back", "not-alone", "unreachable"]
Probe = Literal["answered", "unanswered", "unverified", "unwitnessed", "failed", "not-asked", "no-way"]
Outcome = Literal["remove", "answered", "came-back", "already-gone", "not-alone", "wait"]


class NodeAnswer(NamedTuple):
    """Hold what one node answered about a candidate.

    `look` compares MI's record with ours. `holds` tells that the record names a listening socket: a replica's does not.
    `probe` is what the phone said through this node. Silence is `unverified` where another phone on the same listener
    was silent, too, and `unwitnessed` where there is no other. `failed` says that the way to ask is broken, `not-asked`
    that the phone was not asked this time, `no-way` that it can not be asked through this node at all.
    """

    node: str
    look: Look
    holds: bool = False
    probe: Probe = "not-asked"


class Evidence(NamedTuple):
    """Hold all that a judgement rests on.

    `answers` come from every node of the cluster that is not lost. `reaching` is the node that can reach the contact,
    "" when unknown, `is_lost` that it has been gone for longer than `node_lost_after`. `alive_at` is the last sign of
    life on any node (epoch ms), read just now. `unanswered_before` counts verified questions without answer, in a row
    and a ping interval apart. A contact that is only doubted must leave `lost_after` of them without answer.
    """

    candidate: Candidate
    answers: Sequence[NodeAnswer]
    reaching: str
    is_lost: bool
    alive_at: int
    unanswered_before: int = 0
    lost_after: int = 3

    @property
    def answer_of_reaching(self) -> NodeAnswer | None:
        """Return the answer of the node that can reach the contact, None without one."""
        return next((answer for answer in self.answers if answer.node == self.reaching), None)


class Judgement(NamedTuple):
    """Say what may be done, and why in words for the audit."""

    outcome: Outcome
    why: str


def judge(evidence: Evidence) -> Judgement:
    """Return whether the candidate may be removed. Any doubt keeps it."""
    return _life(evidence) or _record(evidence) or _unreachable(evidence) or _death(evidence)


def _life(evidence: Evidence) -> Judgement | None:
    for answer in evidence.answers:
        if answer.probe == "answered":
            return Judgement("answered", f"the phone answered through {answer.node}")
    if evidence.alive_at > evidence.candidate.since:
        return Judgement("came-back", "it showed life after it failed")
    return None


def _record(evidence: Evidence) -> Judgement | None:
    looks = {answer.look for answer in evidence.answers}
    if "came-back" in looks:
        return Judgement("came-back", "OpenSIPS has a newer registration or a newer answer")
    if "not-alone" in looks:
        return Judgement("not-alone", "two contacts have this URI")
    if "already-gone" in looks and looks <= {"already-gone", "unreachable"}:
        return Judgement("already-gone", "OpenSIPS does not have it any more")
    return None


def _unreachable(evidence: Evidence) -> Judgement | None:
    """Wait for nodes that can not say what they have, and for the reaching one while it does not have the contact."""
    silent = [answer.node for answer in evidence.answers if answer.look == "unreachable"]
    if silent:
        return Judgement("wait", f"MI of {', '.join(silent)} does not answer")
    if not evidence.reaching:  # no node ever got an answer: its silence proves nothing
        return Judgement("wait", "nobody knows which node can reach it")
    if evidence.is_lost:  # or only cut off from us: then it may still reach the phone
        return Judgement("wait", f"{evidence.reaching}, which can reach it, is gone: it stays until it expires")
    reaching = evidence.answer_of_reaching
    if reaching is None:
        return Judgement("wait", f"{evidence.reaching}, which can reach it, can not be asked")
    if reaching.look != "as-known":  # it was restarted, and the others have not sent it their contacts yet
        return Judgement("wait", f"{reaching.node}, which can reach it, does not have it")
    broken = [answer.node for answer in evidence.answers if _may_be_broken(answer, evidence.reaching)]
    return Judgement("wait", f"the way to ask through {', '.join(broken)} may be broken") if broken else None


def _may_be_broken(answer: NodeAnswer, reaching: str) -> bool:
    """Return whether silence through this node may be the fault of the way. Only a holder needs a witness."""
    return answer.probe in ("failed", "unverified") or (answer.probe == "unwitnessed" and answer.node == reaching)


def _death(evidence: Evidence) -> Judgement:
    """Weigh what speaks for death once nothing speaks for life."""
    candidate, reaching = evidence.candidate, evidence.answer_of_reaching
    if _is_silent(evidence):
        unanswered = evidence.unanswered_before + 1
        if candidate.reason == "doubted" and unanswered < evidence.lost_after:
            return Judgement("wait", f"{unanswered} of {evidence.lost_after} questions were not answered")
        return Judgement("remove", "it did not answer an OPTIONS")
    if reaching is None or reaching.probe != "no-way":
        return Judgement("wait", "not every node that may reach it asked it")
    return _death_unasked(candidate)


def _death_unasked(candidate: Candidate) -> Judgement:
    """Weigh what speaks for death where nobody can ask the phone."""
    if candidate.reason == "doubted":
        return Judgement("wait", "only a node that can not reach it lost its pings")
    if candidate.contact.registration.path:  # the proxy may be down, and its phones alive
        return Judgement("wait", "it is behind a proxy (Path) and can not be asked: it stays until it expires")
    if candidate.lost_by_reaching:
        return Judgement("remove", "it lost pings of a node that can reach it; it could not be asked")
    return Judgement("wait", "its connection ended, and nothing else was heard of it")


def _is_silent(evidence: Evidence) -> bool:
    """Return whether the phone was asked by every node that may hold it, and answered none.

    Where all nodes listen on the same wildcard socket, each of them may hold it. The way through another node than its
    known holder needs no witness: there may be no phone at all on that node.
    """
    probes = {answer.node: answer.probe for answer in evidence.answers if answer.holds}
    if probes.get(evidence.reaching) != "unanswered":
        return False
    is_certain = evidence.candidate.contact.holder == evidence.reaching
    return set(probes.values()) <= ({"unanswered", "unwitnessed"} if is_certain else {"unanswered"})
