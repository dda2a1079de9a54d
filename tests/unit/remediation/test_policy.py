"""Which contact is a candidate, what is decided about it, and what OpenSIPS must still say for it to be removed.

The rows are those of the decision table in docs/remediation.md.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.config import RemediationSection
from companion.opensips.events import LOST_PING_US, Registration
from companion.opensips.mi_contact import MiContact
from companion.remediation import policy
from companion.remediation.policy import Candidate, Push, Wake
from companion.usrloc.contact import Binding, Contact, contact_id
from companion.usrloc.evidence import NodeEvidence

DOCUMENT = Path(__file__).parents[3] / "docs" / "remediation.md"
NOW = 1_795_452_109_605
LOST_AFTER = 3
SECOND = 1000
LEGACY_PUSH = "sip:leg@192.0.2.1;app-id=org.example.voip.prod;pn-type=apple;pn-tok=LEGTOK;pn-silent=1"
WITH_PUSH = "sip:alice@192.0.2.1;pn-provider=fcm;pn-prid=token;pn-param=proj"


def contact(uri: str = "sip:alice@192.0.2.1", expires_at: int = 0, attr: str = "", **fields: Any) -> Contact:
    binding = Binding("c", "location", "alice", uri)
    registration = Registration("sip:192.0.2.1:5060;transport=ws", "", "Phone 1", "", 14, expires_at, "call", 7, attr)
    settings: dict[str, Any] = {"last_latency_at": NOW - 500 * SECOND, "last_latency_ms": 31, "holder": "n"} | fields
    own = NodeEvidence(settings["last_latency_at"], settings.get("consecutive_lost", 0))
    evidence = {"evidence": {"n": own}} | settings
    return Contact(binding, contact_id(binding), "alice/alice", "n", registration, **evidence)


def configured(*rules: dict[str, str], **keys: Any) -> RemediationSection:
    return RemediationSection.model_validate({"rules": rules, **keys})


class Case(NamedTuple):
    """What is known of a contact, the settings, the pushes so far; `wakes` is MI's Flags & 4."""

    contact: Contact
    settings: RemediationSection = configured()
    push: Push = Push()
    wakes: bool = False
    replacement: Contact | None = None

    def outcome(self) -> str:
        """Return none, or action and reason, as the table has it."""
        candidate = policy.find_candidate(self.contact, self.settings, LOST_AFTER, NOW)
        if candidate is None:
            return "none"
        wake = Wake(self.push, self.wakes, self.replacement)
        decision = policy.decide(candidate, self.settings, wake, NOW)
        return f"{decision.action} ({candidate.reason})"


LOST: dict[str, Any] = {
    "consecutive_lost": 3,
    "lost_since": NOW - 300 * SECOND,
    "last_lost_at": NOW - 60 * SECOND,
}
SUPERSEDED: dict[str, Any] = {"superseded_at": NOW - 100 * SECOND}
OTHERS = (
    {"domain": "elsewhere", "action": "keep"},
    {"aor": "bob*", "action": "keep"},
    {"user_agent": "Old *", "action": "keep"},
    {"node": "n2", "action": "keep"},
)


def died(seconds_ago: float, **fields: Any) -> Contact:
    return contact(disconnected_at=NOW - round(seconds_ago * SECOND), **fields)


def pushed(attempts: int, seconds_ago: float, today: int = 1) -> Push:
    last_at = NOW - round(seconds_ago * SECOND)
    return Push(since=last_at - SECOND, attempts=attempts, last_at=last_at, today=today)


CASES: dict[str, Case] = {
    "1": Case(contact(last_latency_at=NOW)),
    "2": Case(contact(**LOST | {"consecutive_lost": 2})),
    "3": Case(contact(**LOST, last_latency_at=0)),
    "4": Case(contact(last_latency_at=NOW - 86_400 * SECOND)),
    "5": Case(contact(**LOST, last_latency_at=NOW - 1)),
    "6": Case(contact(**LOST, expires_at=NOW)),
    "7": Case(contact(**LOST, ended_at=NOW - 1)),
    "8": Case(contact(**LOST | {"lost_since": NOW + SECOND})),
    "9": Case(died(14.9)),
    "10": Case(contact(**LOST, **SUPERSEDED | {"superseded_at": NOW - 9_900})),
    "11": Case(contact(**LOST)),
    "12": Case(died(15)),
    "13": Case(contact(**LOST, **SUPERSEDED)),
    "14": Case(died(10, **SUPERSEDED)),
    "15": Case(died(10, uri=WITH_PUSH, **SUPERSEDED), replacement=contact(WITH_PUSH)),
    "16": Case(contact(WITH_PUSH, **LOST)),
    "17": Case(died(15, uri=WITH_PUSH)),
    "18": Case(contact(**LOST, attr="fcm=token"), configured(push_attr="^fcm=")),
    "19": Case(contact(**LOST), wakes=True),
    "20": Case(contact(**LOST), configured({"aor": "ali*", "action": "push"})),
    "21": Case(contact(WITH_PUSH, **LOST), configured({"user_agent": "Phone ?", "action": "remove"})),
    "22": Case(contact(**LOST), configured({"domain": "location", "action": "keep"})),
    "23": Case(contact(**LOST, **SUPERSEDED), configured({"node": "n", "action": "keep"})),
    "24": Case(contact(**LOST, **SUPERSEDED), configured({"action": "push"})),
    "25": Case(contact(**LOST), configured({"aor": "alice", "action": "auto"}, {"action": "keep"})),
    "26": Case(contact(**LOST), configured(*OTHERS)),
    "27": Case(contact(WITH_PUSH, **LOST), push=pushed(1, 29.9)),
    "28": Case(contact(WITH_PUSH, **LOST), push=pushed(1, 30)),
    "29": Case(contact(WITH_PUSH, **LOST), push=pushed(2, 59.9)),
    "30": Case(contact(WITH_PUSH, **LOST), push=pushed(2, 60)),
    "31": Case(contact(WITH_PUSH, **LOST), push=pushed(4, 239.9)),
    "32": Case(contact(WITH_PUSH, **LOST), push=pushed(4, 240)),
    "33": Case(contact(WITH_PUSH, **LOST), configured(push_fallback="remove"), pushed(4, 240)),
    "34": Case(contact(WITH_PUSH, **LOST), push=pushed(0, 9999, today=24)),
    "35": Case(died(10, uri=WITH_PUSH, **SUPERSEDED), replacement=contact(WITH_PUSH.replace("=token", "=other"))),
    "36": Case(contact(LEGACY_PUSH, **LOST)),
    "37": Case(contact("sip:alice@192.0.2.1;PN-PROVIDER=apns;PN-PRID=token", **LOST)),
    "38": Case(contact("sip:alice@192.0.2.1;pn-provider=apns", **LOST)),
    "39": Case(contact(**LOST, evidence={"n": NodeEvidence(1, 3)}, holder="other")),
    "40": Case(contact(**LOST, evidence={"n": NodeEvidence(0, 3)}, holder="")),
    "41": Case(contact(doubts=3, doubted_at=NOW - 300 * SECOND)),
    "42": Case(contact(doubts=3, doubted_at=NOW - 300 * SECOND, holder="")),
    "43": Case(contact(doubts=2, doubted_at=NOW - 300 * SECOND)),
    "44": Case(contact(WITH_PUSH, doubts=3, doubted_at=NOW - 300 * SECOND)),
    "45": Case(contact("sip:al\ufffdice@192.0.2.1", **LOST)),
    "46": Case(contact(**LOST, **SUPERSEDED, attr="fcm=token"), configured(push_attr="^fcm="), replacement=contact()),
    "47": Case(contact(**LOST, **SUPERSEDED), wakes=True, replacement=contact()),
    "48": Case(contact(**LOST, evidence={"n": NodeEvidence(0, 3)})),
    "49": Case(contact(doubts=3, doubted_at=NOW - 300 * SECOND, evidence={"n2": NodeEvidence(1, 3)})),
}


def rows(heading: str) -> dict[str, str]:
    """Number and last column of a table in the document."""
    section = DOCUMENT.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    numbered = re.findall(r"^\| (\d+) \|.*\| `([^`|]+)` \|$", section, re.MULTILINE)
    return dict(numbered)


@pytest.mark.parametrize("number", CASES)
def test_decision(number: str) -> None:
    """Each row of the decision table holds."""
    assert rows("What is decided")[number] == CASES[number].outcome()


def test_the_table_is_whole() -> None:
    """The document has no row that is not tested."""
    assert set(rows("What is decided")) == set(CASES)
    assert set(rows("What MI shows")) == set(LOOKS)


@pytest.mark.parametrize(
    ("holder", "expected"),
    [("n", 0), ("n2", 3), ("", 0)],
)
def test_losses_of_two_nodes_that_got_answers(holder: str, expected: int) -> None:
    """A NAT lets another node in for a while: with a known holder only its losses count, else those of both."""
    evidence = {"n": NodeEvidence(NOW - 500 * SECOND, 0), "n2": NodeEvidence(NOW - 400 * SECOND, 3)}
    assert policy.count_lost(contact(evidence=evidence, holder=holder)) == expected


@given(
    lost=st.integers(0, 9),
    since=st.integers(0, 10**6),
    silent=st.integers(0, 10**6),
    superseded=st.sampled_from([0, NOW - 60 * SECOND]),
)
def test_only_failure_counts(lost: int, since: int, silent: int, superseded: int) -> None:
    """However long the silence: without a dead connection or N lost pings behind an answer nobody is a candidate."""
    life = NOW - silent * SECOND
    fields: dict[str, Any] = {
        "consecutive_lost": lost,
        "lost_since": NOW - since * SECOND if lost else 0,
        "superseded_at": superseded,
    }
    candidate = policy.find_candidate(contact(**fields, last_latency_at=life), configured(), LOST_AFTER, NOW)

    assert candidate is None or (lost >= LOST_AFTER and life <= candidate.since)


# The look


def record(**changes: Any) -> MiContact:
    stored = contact()
    usual: dict[str, Any] = {
        "domain": "location",
        "aor": "alice",
        "uri": stored.binding.uri,
        "callid": "call",
        "cseq": 7,
        "user_agent": "Phone 1",
        "received": stored.registration.received,
        "path": "",
        "socket": "",
        "attr": "",
        "instance": "",
        "seconds_left": 60,
        "state": "active",
        "latency_us": 31_400,
        "push": False,
        "cflags": (),
    }
    return MiContact(**usual | changes)


LOST_PINGS = Candidate(contact(**LOST), "lost-pings", NOW)
DISCONNECTED = Candidate(died(15), "disconnected", NOW)
GHOST = Candidate(contact(**LOST, **SUPERSEDED), "ghost", NOW)
ELSEWHERE = "sip:192.0.2.2:5060;transport=ws"
LOOKS: dict[str, tuple[Candidate, Sequence[MiContact]]] = {
    "1": (LOST_PINGS, []),
    "2": (LOST_PINGS, [record(state="expired", latency_us=LOST_PING_US)]),
    "3": (DISCONNECTED, [record(), record(callid="other")]),
    "4": (LOST_PINGS, [record(callid="other", latency_us=LOST_PING_US)]),
    "5": (LOST_PINGS, [record(cseq=8, latency_us=LOST_PING_US)]),
    "6": (LOST_PINGS, [record(latency_us=LOST_PING_US)]),
    "7": (LOST_PINGS, [record(latency_us=31_400)]),
    "8": (LOST_PINGS, [record(latency_us=None)]),
    "9": (DISCONNECTED, [record(latency_us=31_400)]),
    "10": (DISCONNECTED, [record(latency_us=LOST_PING_US)]),
    "11": (DISCONNECTED, [record(latency_us=44_000)]),
    "12": (DISCONNECTED, [record(received=ELSEWHERE)]),
    "13": (DISCONNECTED, [record(received=ELSEWHERE, latency_us=LOST_PING_US)]),
    "14": (DISCONNECTED, [record(latency_us=None)]),
    "15": (GHOST, [record(latency_us=LOST_PING_US)]),
    "16": (GHOST, [record(received=ELSEWHERE, latency_us=LOST_PING_US)]),
    "17": (LOST_PINGS, [record(cseq=6, received=ELSEWHERE, latency_us=LOST_PING_US)]),
}


@pytest.mark.parametrize("number", LOOKS)
def test_look(number: str) -> None:
    """Each row of the table of what OpenSIPS may say before a removal holds."""
    assert rows("What MI shows")[number] == policy.compare(LOOKS[number][0], "n", LOOKS[number][1])


@pytest.mark.parametrize("name", ["domain", "aor", "uri"])
def test_a_name_that_is_missing(name: str) -> None:
    """A contact that MI can not name, because its table, AOR or URI is empty, is no candidate."""
    nameless = contact(**LOST)
    nameless.binding = nameless.binding._replace(**{name: ""})
    assert policy.find_candidate(nameless, configured(), LOST_AFTER, NOW) is None


def test_a_deleted_one_beside_it() -> None:
    """A contact of the same URI that OpenSIPS is about to drop does not count."""
    assert policy.compare(LOST_PINGS, "n", [record(state="deleted"), record(latency_us=LOST_PING_US)]) == "as-known"
