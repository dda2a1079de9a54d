"""Remember which candidates were tried without a decision, so that they do not take the turn of others. No I/O."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from companion.remediation.policy import Candidate


class _Try(NamedTuple):
    """Hold a try of one run of failure: when it was made, from when on the next may be made (epoch ms), and the reason.

    The reason is empty where the try is already in the audit.
    """

    since: int
    at: int
    due_at: int
    why: str


class Retries:
    """Remember the last try of each candidate that is still undecided."""

    def __init__(self) -> None:
        self._tries: dict[str, _Try] = {}

    def note(self, candidate: Candidate, now: int, wait_ms: int, why: str = "") -> None:
        """Note that a candidate was tried, and why it is not to be tried again for some time."""
        self._tries[candidate.contact.id] = _Try(candidate.since, now, now + wait_ms, why)

    def forget(self, candidate: Candidate) -> None:
        """Forget the last try of a candidate that was acted on."""
        self._tries.pop(candidate.contact.id, None)

    def count_reasons(self) -> Counter[str]:
        """Return how many candidates wait, by reason."""
        return Counter(last.why for last in self._tries.values() if last.why)

    def is_due(self, candidate: Candidate, now: int) -> bool:
        """Return whether a candidate may be tried: for the first time in its run of failure, or after its wait."""
        last = self._tries.get(candidate.contact.id)
        return last is None or last.since != candidate.since or not last.at <= now < last.due_at

    def tried_at(self, candidate: Candidate) -> int:
        """Return when a candidate was last tried (epoch ms), 0 = never."""
        last = self._tries.get(candidate.contact.id)
        return last.at if last and last.since == candidate.since else 0

    def keep(self, candidates: Iterable[Candidate]) -> None:
        """Forget all others than these candidates."""
        ids = {candidate.contact.id for candidate in candidates}
        self._tries = {contact: last for contact, last in self._tries.items() if contact in ids}
