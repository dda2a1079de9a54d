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
    mirrored = list(packets)
    messages = read_messages(arrange_packets(mirrored))
    own = frozenset((*phones, *_registering(messages)))
    servers = _find_servers(messages, own, frozenset(sockets) | _find_relays(mirrored))
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


def _find_relays(packets: Iterable[Packet]) -> set[str]:
    """Return the addresses at which nodes send each other messages: both nodes mirror the same one."""
    nodes: dict[tuple[str, str, bytes], str] = {}
    relays: set[str] = set()
    for packet in packets:
        if nodes.setdefault((packet.source, packet.target, packet.sip), packet.node) != packet.node:
            relays |= {packet.source, packet.target}
    return relays


def _find_servers(messages: Sequence[TracedMessage], phones: frozenset[str], sockets: frozenset[str]) -> dict[str, str]:
    """Return the addresses of OpenSIPS, each with its node: one end of every message is OpenSIPS.

    What faces a phone is OpenSIPS. Of what is left, the address in most of the messages is.
    """
    pairs = [(traced.packet.source, traced.packet.target) for traced in messages]
    servers = sockets & {end for pair in pairs for end in pair}
    servers |= {end for traced in messages for end in _facing(traced, phones)}
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
    """Return the node of each address.

    What one node sends to another is mirrored by both. So its source is of the node where the message came in, its
    target of the one where it went out; what nothing tells is of the node that mirrored it first.
    """
    counts: dict[str, Counter[str]] = {}
    came_in, went_out = _find_edges(messages, servers)
    sure = len(messages)
    for traced in messages:
        packet, key = traced.packet, _name_message(traced)
        ends = {packet.source, packet.target} & servers
        for end in ends:
            edge_node = "" if len(ends) == 1 else (came_in if end == packet.source else went_out).get(key, "")
            weight = sure * sure if len(ends) == 1 else sure if edge_node else 1
            counts.setdefault(end, Counter())[edge_node or packet.node] += weight
    return {address: own.most_common(1)[0][0] for address, own in counts.items()}


_Name = tuple[str, int, str, str]


def _name_message(traced: TracedMessage) -> _Name:
    """Return what a message has in common on all legs."""
    message = traced.message
    return message.call_id, *message.cseq, message.label


def _find_edges(
    messages: Iterable[TracedMessage], servers: AbstractSet[str]
) -> tuple[dict[_Name, str], dict[_Name, str]]:
    """Return the nodes where each message came in from elsewhere, and where it went out."""
    came_in: dict[_Name, str] = {}
    went_out: dict[_Name, str] = {}
    for traced in messages:
        packet = traced.packet
        if (packet.source in servers) != (packet.target in servers):
            (came_in if packet.target in servers else went_out)[_name_message(traced)] = packet.node
    return came_in, went_out


def _facing(traced: TracedMessage, phones: AbstractSet[str]) -> Iterable[str]:
    """Return the other end where one end of a message is the phone."""
    source, target = traced.packet.source, traced.packet.target
    return [far for near, far in ((source, target), (target, source)) if near in phones]


def _seat(
    messages: Sequence[TracedMessage], phones: frozenset[str], servers: dict[str, str]
) -> tuple[tuple[Participant, ...], dict[str, int]]:
    """Return the columns from left to right: the phone, OpenSIPS by node, the other ends; and that of each address.

    A node that has the connection of the phone is next to it.
    """
    ends = list(dict.fromkeys(end for one in messages for end in (one.packet.source, one.packet.target)))
    own = tuple(end for end in ends if end in phones and end not in servers)
    ends_of: dict[str, list[str]] = {}
    for end in ends:
        if end in servers:
            ends_of.setdefault(servers[end], []).append(end)
    near = {servers[end] for one in messages for end in _facing(one, phones) if end in servers}
    nodes = sorted(ends_of, key=lambda node: node not in near) or [""]
    others = [end for end in ends if end not in phones and end not in servers]
    columns: list[Participant] = [Participant("phone", "Phone", own)]
    columns += [Participant("opensips", node or "OpenSIPS", tuple(ends_of.get(node, ()))) for node in nodes]
    separate, together = others[: MAX_OTHERS - 1], others[MAX_OTHERS - 1 :]
    columns += [Participant("other", "Other end", (end,)) for end in separate]
    if together:
        columns.append(Participant("other", "Other ends" if len(together) > 1 else "Other end", tuple(together)))
    return tuple(columns), {end: n for n, column in enumerate(columns) for end in column.addresses}
