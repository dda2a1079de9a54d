"""A trace becomes a ladder: who took part, in order, with repetitions and failures marked."""

import cProfile

from companion.trace.ladder import StepChoice, build_ladder, select_steps
from tests.unit.trace.messages import EDGE, FAR, PHONE, captured_packets, packet, sip

INVITE = sip("INVITE sip:bob@example.com")


def test_the_capture() -> None:
    """A real registration, call and re-INVITE: phone, OpenSIPS and caller are each in their place."""
    ladder = build_ladder(captured_packets())
    roles = [(one.role, one.addresses) for one in ladder.participants]
    expected = [("phone", ("127.0.0.1:56266",)), ("opensips", ("127.0.0.1:43783",)), ("other", ("127.0.0.1:56274",))]
    assert expected == roles
    assert [(step.start, step.end) for step in ladder.steps[:5]] == [(0, 1), (1, 0), (2, 1), (1, 2), (1, 0)]
    assert ladder.explanation is None
    assert not any(step.is_failed or step.is_repeat or step.is_shared for step in ladder.steps)


def test_order_and_repetitions() -> None:
    """Steps are in the order of their times; a copy is left out, a retransmission is marked."""
    packets = [packet(500, PHONE, EDGE, INVITE), packet(1, PHONE, EDGE, INVITE), packet(0, PHONE, EDGE, INVITE)]
    steps = build_ladder(packets, phones=[PHONE]).steps
    assert [(step.at_us, step.is_repeat) for step in steps] == [(0, False), (500_000, True)]


def test_failures() -> None:
    """Final errors are marked, but no challenge and no end of a cancelled call."""
    replies = [
        packet(n, EDGE, PHONE, sip(code, cseq="1 INVITE", call_id=code))
        for n, code in enumerate(("407 X", "487 X", "486 X"))
    ]
    requests = [
        packet(n, PHONE, EDGE, sip("INVITE sip:b@c", call_id=code))
        for n, code in enumerate(("407 X", "487 X", "486 X"))
    ]
    steps = build_ladder([*requests, *replies], phones=[PHONE]).steps
    assert [step.label for step in steps if step.is_failed] == ["486 X"]


def test_without_an_address_of_the_phone() -> None:
    """Where nobody registered, OpenSIPS is the address that all messages share."""
    packets = [packet(0, FAR, EDGE, INVITE), packet(1, EDGE, "203.0.113.10:5060", INVITE)]
    ladder = build_ladder(packets)
    assert [(one.role, one.addresses) for one in ladder.participants[:2]] == [("phone", ()), ("opensips", (EDGE,))]
    assert [(step.start, step.end) for step in ladder.steps] == [(2, 1), (1, 3)]


def test_two_nodes() -> None:
    """Each node of a cluster has a column, named after it."""
    second = "198.51.100.2:8080"
    packets = [
        packet(0, PHONE, EDGE, INVITE, node="one"),
        packet(1, EDGE, second, INVITE, node="one"),
        packet(2, second, FAR, INVITE, node="two"),
    ]
    ladder = build_ladder(packets, phones=[PHONE], sockets=[second])
    assert [one.name for one in ladder.participants] == ["Phone", "one", "two", "Other end"]
    assert [(step.start, step.end) for step in ladder.steps] == [(0, 1), (1, 2), (2, 3)]


def test_a_call_through_two_nodes() -> None:
    """What nodes send each other is between their columns, by whichever address; the phone's own node is next to it."""
    near, far, out, into = "198.51.100.2:8080", EDGE, "198.51.100.1:5060", "198.51.100.2:5062"
    invite, ok = sip("INVITE sip:dave@h", cseq="1 INVITE"), sip("200 OK", cseq="1 INVITE")
    there = [(FAR, far, "one"), (out, into, "one"), (out, into, "two"), (near, PHONE, "two")]
    back = [(PHONE, near, "two"), (into, out, "two"), (into, out, "one"), (far, FAR, "one")]
    packets = [packet(n, source, target, invite, node=node) for n, (source, target, node) in enumerate(there)]
    packets += [packet(9 + n, source, target, ok, node=node) for n, (source, target, node) in enumerate(back)]
    ladder = build_ladder(packets, phones=[PHONE])
    columns = [(one.name, set(one.addresses)) for one in ladder.participants]
    assert columns == [("Phone", {PHONE}), ("two", {into, near}), ("one", {far, out}), ("Other end", {FAR})]
    assert [(step.start, step.end) for step in ladder.steps] == [(3, 2), (2, 1), (1, 0), (0, 1), (1, 2), (2, 3)]


def test_many_other_ends() -> None:
    """A ladder stays narrow: further other ends share the last column."""
    packets = [packet(n, EDGE, f"203.0.113.{n}:5060", INVITE) for n in range(9)]
    packets.append(packet(10, PHONE, EDGE, INVITE))
    assert len(build_ladder(packets, phones=[PHONE]).participants) == 5


def test_messages_of_the_aor() -> None:
    """A message that may be of another phone of the AOR says so, unless its call turned out to be the device's."""
    packets = [
        packet(0, FAR, EDGE, sip("INVITE sip:dave@h", call_id="own"), match="aor"),
        packet(1, EDGE, PHONE, sip("INVITE sip:dave@h", call_id="own")),
        packet(2, FAR, EDGE, sip("INVITE sip:dave@h", call_id="other"), match="aor"),
    ]
    assert [step.is_shared for step in build_ladder(packets, phones=[PHONE]).steps] == [False, False, True]


def test_filter() -> None:
    """Steps can be chosen by method, with the ACK of an INVITE, and by Call-ID."""
    steps = build_ladder(captured_packets()).steps
    assert {"INVITE", "ACK"} == {step.kind for step in select_steps(steps, StepChoice("INVITE"))}
    assert len(select_steps(steps, StepChoice(call_id=steps[0].call_id))) == 2
    assert list(steps) == select_steps(steps, StepChoice())


def test_nothing() -> None:
    """An empty trace, and one of rubbish alone, is a ladder without steps."""
    assert () == build_ladder([]).steps == build_ladder([packet(0, PHONE, EDGE, b"rubbish")]).steps


def test_many_addresses() -> None:
    """A forged trace, each message of it between two others, is drawn in a time that grows with it, not faster."""

    def count_calls(number: int) -> int:
        packets = [packet(n, f"192.0.2.1:{n}", f"203.0.113.9:{n}", INVITE, node=f"n{n}") for n in range(number)]
        profile = cProfile.Profile()
        profile.runcall(build_ladder, packets)
        return sum(entry.callcount for entry in profile.getstats())

    assert count_calls(400) < 5 * count_calls(100)


def test_one_end_of_each_message_is_opensips() -> None:
    """Where two addresses never meet, each is an OpenSIPS; of two that are in equally many messages the target is."""
    packets = [
        *(packet(n, FAR, EDGE, INVITE) for n in range(3)),
        packet(4, EDGE, "203.0.113.10:5060", INVITE),
        packet(5, "203.0.113.11:5060", "198.51.100.2:8080", INVITE, node="two"),
    ]
    participants = build_ladder(packets).participants
    assert [one.addresses for one in participants if one.role == "opensips"] == [(EDGE,), ("198.51.100.2:8080",)]
