"""Draw a trace up as a ladder: who took part, and each message as a step from one to another. No I/O."""

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from heapq import heapify, heappop, heappush
from typing import Final, Literal, NamedTuple

from companion.trace.explanation import Explanation, explain
from companion.trace.legs import arrange_packets
from companion.trace.packet import Packet
from companion.trace.transactions import TracedMessage, find_repeats, find_transactions, read_messages

Role = Literal["phone", "opensips", "other"]
MAX_OTHERS: Final = 3
"""Columns for other ends; further ones share the last."""


class Participant(NamedTuple):
    """Hold one column of a ladder. `addresses` are in the order of their first messages."""

    role: Role
    name: str
    addresses: tuple[str, ...]


class Step(NamedTuple):
    """Hold one message of a ladder. `start` and `end` are numbers of participants.

    `is_shared` marks a message that may be of another device of the AOR.
    """

    number: int
    at_us: int
    start: int
    end: int
    label: str
    kind: str
    call_id: str
    cseq: int
    is_repeat: bool
    is_failed: bool
    is_shared: bool
    packet: Packet


class Ladder(NamedTuple):
    """Hold a trace ready to be read, oldest step first."""

    participants: tuple[Participant, ...]
    steps: tuple[Step, ...]
    explanation: Explanation | None


def build_ladder(packets: Iterable[Packet], phones: Iterable[str] = (), sockets: Iterable[str] = ()) -> Ladder:
    """Build the ladder of a device.

    `phones` are the addresses that the device is known by, `sockets` those of OpenSIPS.
    """
    messages = read_messages(arrange_packets(packets))
    own = frozenset((*phones, *_registering(messages)))
    servers = _find_servers(messages, own, frozenset(sockets))
    participants, columns = _seat(messages, own, servers)
    transactions = find_transactions(messages)
    explanation = explain(messages, transactions, own)
    failed = {explanation.number} if explanation else set()
    failed |= {final.number for one in transactions if (final := one.final) and _is_failure(final)}
    own_calls = {traced.message.call_id for traced in messages if traced.packet.match == "device"}
    repeats = find_repeats(messages)
    steps = tuple(
        Step(
            number=traced.number,
            at_us=traced.packet.at_us,
            start=columns[traced.packet.source],
            end=columns[traced.packet.target],
            label=traced.message.label,
            kind=traced.message.kind,
            call_id=traced.message.call_id,
            cseq=traced.message.cseq[0],
            is_repeat=traced.number in repeats,
            is_failed=traced.number in failed,
            is_shared=traced.message.call_id not in own_calls,
            packet=traced.packet,
        )
        for traced in messages
    )
    return Ladder(participants, steps, explanation)


class StepChoice(NamedTuple):
    """Choose steps by the method of their transaction and by Call-ID, "" for all."""

    method: str = ""
    call_id: str = ""


ALL_STEPS: Final = StepChoice()


def select_steps(steps: Iterable[Step], choice: StepChoice) -> list[Step]:
    """Return the steps that fit. A CANCEL and an ACK belong to their INVITE."""
    kinds = {choice.method, "ACK", "CANCEL"} if choice.method == "INVITE" else {choice.method}
    return [
        step for step in steps if (not choice.method or step.kind in kinds) and choice.call_id in ("", step.call_id)
    ]


def _is_failure(final: TracedMessage) -> bool:
    """Return whether a final reply is one: a challenge is none, and neither is the end of a cancelled call."""
    return final.message.code >= 400 and final.message.code not in (401, 407, 487)


def _registering(messages: Iterable[TracedMessage]) -> Iterable[str]:
    """Return where REGISTERs of the device came from: also old addresses, which its contacts have no more."""
    for traced in messages:
        if traced.packet.match == "device" and traced.message.method == "REGISTER":
            yield traced.packet.source


def _find_servers(messages: Sequence[TracedMessage], phones: frozenset[str], sockets: frozenset[str]) -> dict[str, str]:
    """Return the addresses of OpenSIPS, each with its node: one end of every message is OpenSIPS.

    What faces a phone is OpenSIPS. Of what is left, the address in most of the messages is.
    """
    pairs = [(traced.packet.source, traced.packet.target) for traced in messages]
    servers = (sockets & {end for pair in pairs for end in pair}) | {
        far for near, target in pairs for far, end in ((target, near), (near, target)) if end in phones
    }
    servers -= phones
    rest = [pair for pair in pairs if not servers & set(pair)]
    return _name_nodes(messages, servers | _find_common_ends(rest, phones))


def _find_common_ends(pairs: Sequence[tuple[str, str]], phones: AbstractSet[str]) -> set[str]:
    """Return one end of each pair, none of them a phone: again and again the one in most of the pairs that are left.

    Of equal ones it is the first: the target of the first request.
    """
    pairs_of: dict[str, list[int]] = {}
    for n, (source, target) in enumerate(pairs):
        for end in (target, source):
            if end not in phones:
                pairs_of.setdefault(end, []).append(n)
    counts = {end: len(numbers) for end, numbers in pairs_of.items()}
    queue = [(-count, order, end) for order, (end, count) in enumerate(counts.items())]
    heapify(queue)
    common: set[str] = set()
    left = set(range(len(pairs)))
    while queue:
        count, order, end = heappop(queue)
        if counts[end] and counts[end] != -count:  # some of its pairs were taken meanwhile
            heappush(queue, (-counts[end], order, end))
        elif counts[end]:
            common.add(end)
            for n in left.intersection(pairs_of[end]):
                left.remove(n)
                for other in pairs[n]:
                    if other in counts:
                        counts[other] -= 1
    return common


def _name_nodes(messages: Sequence[TracedMessage], servers: AbstractSet[str]) -> dict[str, str]:
    """Return the node of each address; what nodes send each other counts only where nothing else is known."""
    nodes: dict[str, Counter[str]] = {}
    for traced in messages:
        ends = {traced.packet.source, traced.packet.target} & servers
        for end in ends:
            nodes.setdefault(end, Counter())[traced.packet.node] += 1 if len(ends) > 1 else len(messages)
    return {address: counts.most_common(1)[0][0] for address, counts in nodes.items()}


def _seat(
    messages: Sequence[TracedMessage], phones: frozenset[str], servers: dict[str, str]
) -> tuple[tuple[Participant, ...], dict[str, int]]:
    """Return the columns from left to right: the phone, OpenSIPS by node, the other ends; and that of each address."""
    ends = list(dict.fromkeys(end for one in messages for end in (one.packet.source, one.packet.target)))
    own = tuple(end for end in ends if end in phones and end not in servers)
    ends_of: dict[str, list[str]] = {}
    for end in ends:
        if end in servers:
            ends_of.setdefault(servers[end], []).append(end)
    others = [end for end in ends if end not in phones and end not in servers]
    columns: list[Participant] = [Participant("phone", "Phone", own)]
    columns += [
        Participant("opensips", node or "OpenSIPS", tuple(own_ends)) for node, own_ends in (ends_of or {"": []}).items()
    ]
    separate, together = others[: MAX_OTHERS - 1], others[MAX_OTHERS - 1 :]
    columns += [Participant("other", "Other end", (end,)) for end in separate]
    if together:
        columns.append(Participant("other", "Other ends" if len(together) > 1 else "Other end", tuple(together)))
    return tuple(columns), {end: n for n, column in enumerate(columns) for end in column.addresses}
