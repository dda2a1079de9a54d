"""Whom to ask for a device, and through which node."""

from typing import Any

import pytest

from companion.config import Config
from companion.errors import CanNotPingError
from companion.opensips.events import Registration
from companion.opensips.probe import Question
from companion.pinging.target import PingTarget, choose_target
from companion.usrloc.contact import Binding, Contact, Device, contact_id
from companion.usrloc.evidence import NodeEvidence

NOW = 1_800_000_000_000
WS = "ws:127.0.0.1:8080"
CLUSTER = Config.model_validate(
    {
        "opensips": [
            {"node": "one", "cluster": "eu", "probe_url": "udp:127.0.0.1:1"},
            {"node": "two", "cluster": "eu", "probe_url": "udp:127.0.0.1:2"},
            {"node": "three", "cluster": "eu"},
            {"node": "other", "probe_url": "udp:127.0.0.1:4"},
        ]
    }
)


def contact(name: str = "ann", *, socket: str = WS, path: str = "", until: int = NOW + 1, **fields: Any) -> Contact:
    binding = Binding("eu", "location", "ann", f"sip:{name}@x.invalid")
    received = f"sip:192.0.2.1:{1000 + len(name)};transport=ws"
    registration = Registration(received, path, "", socket, 10, until, "call", 1, "")
    return Contact(binding, contact_id(binding), "ann/1", "one", registration, **fields)


def choose(*contacts: Contact, config: Config = CLUSTER) -> PingTarget:
    return choose_target(Device("ann/1", "ann", "", 1, list(contacts)), config, NOW)


def nodes(target: PingTarget) -> list[str]:
    return [table.node for table in target.tables]


def test_question() -> None:
    """A contact is asked at its URI, over where it came from and the socket that events name."""
    target = choose(contact(holder="one"))
    assert target.question == Question("sip:ann@x.invalid", "sip:192.0.2.1:1003;transport=ws", WS)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"holder": "two"}, ["two"]),
        ({"holder": "two", "evidence": {"one": NodeEvidence(answered_at=NOW)}}, ["two"]),
        ({"evidence": {"one": NodeEvidence(answered_at=5), "two": NodeEvidence(answered_at=9)}}, ["two"]),
        ({"evidence": {"one": NodeEvidence(lost=3)}}, ["one", "two"]),
        ({}, ["one", "two"]),
    ],
    ids=["holder", "holder first", "last answer", "losses prove nothing", "nobody knows"],
)
def test_nodes(fields: dict[str, Any], expected: list[str]) -> None:
    """The holder is asked, else the node of the last answer, else all of the cluster that have a probe_url."""
    assert nodes(choose(contact(**fields))) == expected


def test_best_contact() -> None:
    """The contact that lived last is asked, not one that lost pings, has ended, has expired or is behind a proxy."""
    worse = [
        contact("losing", consecutive_lost=1, last_latency_at=NOW),
        contact("ended", ended_at=1, last_latency_at=NOW),
        contact("expired", until=NOW, last_latency_at=NOW),
        contact("proxied", path="<sip:192.0.2.9;lr>", last_latency_at=NOW),
        contact("older", last_latency_at=NOW - 2),
    ]
    assert choose(*worse, contact("best", last_latency_at=NOW - 1)).contact.binding.uri == "sip:best@x.invalid"


@pytest.mark.parametrize(
    ("contacts", "words"),
    [
        ([], "ann/1 is not registered: try again when"),
        ([contact(ended_at=1)], "is not registered"),
        ([contact(path="<sip:192.0.2.9;lr>")], r"behind a proxy \(Path\).*latency"),
        ([contact(socket="")], "listening socket.*after its next ping"),
        ([contact(holder="three")], "through three: load mi_datagram.*probe_url"),
    ],
)
def test_impossible(contacts: list[Contact], words: str) -> None:
    """Where nobody can be asked, that is said with what to do."""
    with pytest.raises(CanNotPingError, match=words):
        choose(*contacts)


def test_no_probe_url_at_all() -> None:
    """Without any probe_url nobody can be asked."""
    with pytest.raises(CanNotPingError, match="probe_url"):
        choose(contact(), config=Config())
