"""A message is of the device that it went to or came from, and of no other."""

from collections.abc import Sequence
from unittest.mock import create_autospec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.opensips.hep import HepPacket
from companion.sip import parse_uri
from companion.trace import matching
from companion.trace.matching import Matcher, is_aor, make_subject
from companion.usrloc.contact import Device
from tests.unit.trace.messages import EDGE, FAR, mirrored, sip
from tests.unit.trace.phones import phone

WEB, DESK = "192.0.2.7:40000", "192.0.2.8:40001"
DAVE_WEB = phone("dave@example.com", "1", "sip:k3j2h1@x.invalid;transport=ws", WEB)
DAVE_DESK = phone("dave@example.com", "2", "sip:dave@192.0.2.8:40001", DESK)
BOB = "<sip:bob@example.com>"
DAVE = "<sip:dave@example.com>"


def match(packets: Sequence[HepPacket], device: Device, *others: Device) -> list[tuple[int, str]]:
    """Return the number of each packet that is the device's, and how sure that is."""
    subject = make_subject(device, [device, *others])
    matches = Matcher().match([("edge", packet) for packet in packets], [subject])
    return [(packets.index(one.packet), one.match) for one in matches]


def test_call_to_the_device() -> None:
    """All messages of both legs are the device's, also requests to its random contact user; another's call is not."""
    packets = [
        mirrored(0, FAR, EDGE, sip("INVITE sip:dave@example.com", from_=BOB, to=DAVE)),
        mirrored(1, EDGE, WEB, sip("INVITE sip:k3j2h1@x.invalid", from_=BOB, to=DAVE)),
        mirrored(2, WEB, EDGE, sip("200 OK", cseq="1 INVITE", from_=BOB, to=DAVE + ";tag=z")),
        mirrored(3, FAR, EDGE, sip("BYE sip:k3j2h1@x.invalid", from_=BOB, to=DAVE + ";tag=z")),
        mirrored(
            4, FAR, EDGE, sip("INVITE sip:carol@example.com", call_id="c2", from_=BOB, to="<sip:carol@example.com>")
        ),
    ]
    assert [(n, "device") for n in range(4)] == match(packets, DAVE_WEB)


def test_call_to_a_number() -> None:
    """A call to a number that the script maps to the device is its own from its first message on."""
    number = "<sip:+4912345@example.com>"
    packets = [
        mirrored(0, FAR, EDGE, sip("INVITE sip:+4912345@example.com", from_=BOB, to=number)),
        mirrored(1, EDGE, FAR, sip("100 Trying", cseq="1 INVITE", from_=BOB, to=number)),
        mirrored(2, EDGE, WEB, sip("INVITE sip:k3j2h1@x.invalid", from_=BOB, to=number)),
        mirrored(9, FAR, EDGE, sip("BYE sip:k3j2h1@x.invalid", from_=BOB, to=number + ";tag=z")),
    ]
    assert [(n, "device") for n in range(4)] == match(packets, DAVE_WEB)
    matcher, subject = Matcher(), make_subject(DAVE_WEB, [])
    assert matcher.match([("edge", packets[0])], [subject]) == []
    assert packets[:3] == [one.packet for one in matcher.match([("edge", one) for one in packets[1:3]], [subject])]


def test_two_phones_of_one_aor() -> None:
    """A call that rings both phones has the caller's leg and the own leg in each trace, not that of the other phone."""
    packets = [
        mirrored(0, FAR, EDGE, sip("INVITE sip:dave@example.com", from_=BOB, to=DAVE)),
        mirrored(1, EDGE, WEB, sip("INVITE sip:k3j2h1@x.invalid", from_=BOB, to=DAVE)),
        mirrored(1, EDGE, DESK, sip("INVITE sip:dave@192.0.2.8:40001", from_=BOB, to=DAVE)),
        mirrored(2, DESK, EDGE, sip("200 OK", cseq="1 INVITE", from_=BOB, to=DAVE)),
    ]
    assert match(packets, DAVE_WEB, DAVE_DESK) == [(0, "device"), (1, "device")]
    assert match(packets, DAVE_DESK, DAVE_WEB) == [(0, "device"), (2, "device"), (3, "device")]


def test_what_can_not_be_told_apart() -> None:
    """A call that reached no phone counts for the AOR where this has two phones, and for the only phone otherwise."""
    packets = [mirrored(0, FAR, EDGE, sip("INVITE sip:dave@example.com", from_=BOB, to=DAVE))]
    assert match(packets, DAVE_WEB, DAVE_DESK) == [(0, "aor")]
    assert match(packets, DAVE_WEB) == [(0, "device")]


def test_call_between_two_phones_of_one_aor() -> None:
    """When one phone calls the other, both legs are in both traces."""
    packets = [
        mirrored(0, WEB, EDGE, sip("INVITE sip:dave@example.com", to=DAVE)),
        mirrored(1, EDGE, DESK, sip("INVITE sip:dave@192.0.2.8:40001", to=DAVE)),
        mirrored(2, DESK, EDGE, sip("486 Busy Here", cseq="1 INVITE", to=DAVE)),
    ]
    everything = [(n, "device") for n in range(3)]
    assert everything == match(packets, DAVE_WEB, DAVE_DESK) == match(packets, DAVE_DESK, DAVE_WEB)


def test_registration_from_a_new_address() -> None:
    """A page reload registers from an address nobody knows: the SIP instance says whose it is, for its replies too."""

    def register(instance: str, call_id: str) -> list[HepPacket]:
        contact = f'Contact: <sip:new@y.invalid>;+sip.instance="<urn:uuid:{instance}>"'
        register = sip("REGISTER sip:example.com", to=DAVE, call_id=call_id, more=contact)
        reply = sip("200 OK", cseq="1 REGISTER", to=DAVE, call_id=call_id)
        return [mirrored(0, "192.0.2.7:50000", EDGE, register), mirrored(1, EDGE, "192.0.2.7:50000", reply)]

    packets = [*register("1", "r1"), *register("2", "r2")]
    assert match(packets, DAVE_WEB, DAVE_DESK) == [(0, "device"), (1, "device")]
    assert match(packets, DAVE_DESK, DAVE_WEB) == [(2, "device"), (3, "device")]


def test_domains() -> None:
    """The same user in another domain is somebody else where AORs have domains, in whatever letter case these are."""
    other = sip("REGISTER sip:other.example", from_="<sip:dave@other.example>", to="<sip:dave@other.example>")
    own = sip("REGISTER sip:EXAMPLE.com", from_="<sip:dave@EXAMPLE.com>", to="<sip:dave@EXAMPLE.com>", call_id="c2")
    packets = [mirrored(0, FAR, EDGE, other), mirrored(1, FAR, EDGE, own)]
    assert match(packets, DAVE_WEB) == [(1, "device")]
    assert match(packets, phone("dave", "1", "sip:k3j2h1@x.invalid", WEB)) == [(0, "device"), (1, "device")]


def test_proxy() -> None:
    """An address that many phones share, that of a proxy in front of them, makes no message the device's."""
    behind = phone("dave@example.com", "1", "sip:k3@x.invalid", "", path="<sip:192.0.2.9;lr>")
    message = sip("INVITE sip:carol@example.com", from_="<sip:erin@example.com>", to="<sip:carol@example.com>")
    assert match([mirrored(0, "192.0.2.9:5060", EDGE, message)], behind) == []


def test_old_address() -> None:
    """A BYE to the address that the device had before is in its trace."""
    moved = phone("dave@example.com", "1", "sip:k3@x.invalid", "192.0.2.7:1")
    moved.contacts.insert(0, phone("dave@example.com", "1", "sip:old@z.invalid", "192.0.2.7:2", ended_at=5).contacts[0])
    message = sip("BYE sip:old@z.invalid", from_=BOB, to="<sip:+49@example.com>;tag=1")
    assert match([mirrored(0, EDGE, "192.0.2.7:2", message)], moved) == [(0, "device")]


@pytest.mark.parametrize(
    ("uri", "user", "domain", "expected"),
    [
        ("sip:dave@h", "dave", "", True),
        ("sip:Dave@H", "dave", "h", True),
        ("sip:dave@h", "Dave", "h", False),
        ("sip:iv%61n%20x@h", "ivan x", "", True),
        ("sip:dave@h2", "dave", "h", False),
        ("sip:davey@h", "dave", "", False),
    ],
)
def test_aor(uri: str, user: str, domain: str, expected: bool) -> None:  # noqa: FBT001
    """Users are compared unescaped, and in lower case where usrloc holds them so."""
    assert expected is is_aor(parse_uri(uri), user, domain)


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_survives_anything(payloads: list[bytes]) -> None:
    """Messages that are no SIP are counted, whatever they hold."""
    matcher = Matcher()
    matcher.match([("edge", mirrored(0, FAR, EDGE, b"\x00" + payload)) for payload in payloads], [])
    assert matcher.invalid == len(payloads)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many calls and strangers' messages come, what is remembered has a bound."""
    monkeypatch.setattr(matching, "MAX_CALLS", 50)
    matcher = Matcher()
    for n in range(200):
        matcher.match([("edge", mirrored(n, FAR, EDGE, sip("BYE sip:a@b", call_id=f"c{n}")))], [])
    assert len(matcher._calls) == 50
    assert len(matcher._unmatched) <= matching.MAX_HELD


def test_held_messages_are_judged_when_something_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages of strangers are judged once, and again when the device has a new address: not each time others come."""
    judge = create_autospec(Matcher._judge, side_effect=Matcher._judge)
    monkeypatch.setattr(Matcher, "_judge", judge)
    matcher, subject = Matcher(), make_subject(DAVE_WEB, [])
    strangers = [
        mirrored(n, FAR, EDGE, sip("BYE sip:a@b", call_id=f"c{n}", from_=BOB, to="<sip:a@b>")) for n in range(20)
    ]
    for one in strangers:
        assert matcher.match([("edge", one)], [subject]) == []
    assert judge.call_count == 20
    moved = subject._replace(addresses=frozenset({FAR}))
    assert [one.packet for one in matcher.match([], [moved])] == strangers
