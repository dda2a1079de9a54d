"""Explain what failed in a trace, in one line. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from companion.text import printable
from companion.trace.transactions import TracedMessage, Transaction

Phones = frozenset[str]
"""The addresses of the device."""

PATIENCE_US: Final = 2_000_000
"""A request without reply counts as failed when the trace goes on for so long behind it, or when it was repeated."""
CHALLENGES: Final = (401, 407)
_MEANINGS: Final = {
    403: "OpenSIPS or the other end forbids it",
    404: "nobody is registered under that address",
    408: "nobody answered in time",
    476: "the address of the contact can not be resolved",
    477: "OpenSIPS could not send it: the connection of the phone is gone",
    480: "the other end is not reachable now",
    486: "the other end is busy",
    487: "the caller gave up",
    488: "the other end does not support this media",
    555: "the push service of the phone is not one that OpenSIPS serves (pn_providers)",
    603: "the other end declined",
}
_OWN_MEANINGS: Final = {
    480: "the device says that it is not available now",
    486: "the device is busy",
    488: "the device does not support this media",
    603: "the device declined",
}


class Explanation(NamedTuple):
    """Hold one line for people, and the number of the message that failed."""

    text: str
    number: int


class _OwnEnds(NamedTuple):
    """Hold the addresses of the device in its REGISTERs, and in each call."""

    registering: set[str]
    of_calls: dict[str, set[str]]


class _Trace(NamedTuple):
    """Hold what the rules need. `registered` has the number of the last REGISTER of each Call-ID that succeeded."""

    phones: Phones
    last_us: int
    registered: dict[str, int]
    ends: _OwnEnds


Rule = Callable[[Transaction, _Trace], Explanation | None]


def explain(
    messages: Sequence[TracedMessage], transactions: Sequence[Transaction], phones: Phones
) -> Explanation | None:
    """Return the explanation of the latest failure, None where nothing failed.

    Of one call the rule that comes first in RULES counts: the same failure shows on both legs. The text holds a reason
    phrase of the network, so no character of it may act on a terminal.
    """
    last_us = messages[-1].packet.at_us if messages else 0
    trace = _Trace(phones, last_us, _find_registered(transactions), _find_own_ends(transactions, phones))
    failures = [
        (transaction, rank, explanation)
        for transaction in transactions
        for rank, rule in enumerate(RULES)
        if (explanation := rule(transaction, trace))
    ]
    if not failures:
        return None
    call_id = max(failures, key=lambda failure: failure[0].request.packet.at_us)[0].call_id
    own = [failure for failure in failures if failure[0].call_id == call_id]
    explanation = min(own, key=lambda failure: (failure[1], -failure[2].number))[2]
    return explanation._replace(text=printable(explanation.text))


def _explain_registration(transaction: Transaction, trace: _Trace) -> Explanation | None:
    final = transaction.final
    if transaction.method != "REGISTER" or not final or final.message.code < 300:
        return None
    if trace.registered.get(transaction.call_id, -1) > transaction.request.number:
        return None
    code, number = final.message.code, final.number
    if code in CHALLENGES:
        return _explain_challenge(transaction, final)
    if code == 403 and transaction.request.message.has_credentials:
        return Explanation("Registration refused (403): the password is wrong, or the user may not register.", number)
    return Explanation(f"Registration refused ({final.message.label}): {_meaning(code)}.", number)


def _explain_challenge(transaction: Transaction, final: TracedMessage) -> Explanation | None:
    if not transaction.request.message.has_credentials:
        return None
    if final.message.is_stale_challenge:
        text = "Challenged again: the nonce was too old (stale). The phone has to answer the new one."
        return Explanation(text, final.number)
    text = f"Registration refused: the password is wrong. The answer to a challenge got another {final.message.code}."
    return Explanation(text, final.number)


def _find_registered(transactions: Sequence[Transaction]) -> dict[str, int]:
    """Return the number of the last REGISTER of each Call-ID that succeeded."""
    return {
        one.call_id: one.request.number for one in transactions if one.method == "REGISTER" and one.code // 100 == 2
    }


def _find_own_ends(transactions: Sequence[Transaction], phones: Phones) -> _OwnEnds:
    own = _OwnEnds(set(), {})
    for one in transactions:
        ends = {one.request.packet.source, one.request.packet.target} & phones
        own.of_calls.setdefault(one.call_id, set()).update(ends)
        if one.method == "REGISTER":
            own.registering.update(ends)
    return own


def _explain_silence(transaction: Transaction, trace: _Trace) -> Explanation | None:
    """Explain a request to the device that it never answered."""
    request = transaction.request
    to_device = request.packet.target in trace.phones
    if not to_device or transaction.replies or transaction.method in ("ACK", "CANCEL"):
        return None
    if not transaction.repeats and trace.last_us - request.packet.at_us < PATIENCE_US:
        return None
    if transaction.method == "BYE":
        text = "The BYE got no answer: it was sent to a dead connection, and the phone may show the call as going on."
    elif transaction.method == "INVITE" and request.message.in_dialog:
        moved = _has_moved(transaction, trace)
        text = "No answer to the re-INVITE: " + (
            "the device has switched over to another address since."
            if moved
            else "the device is not reachable any more."
        )
    else:
        text = f"No answer to {transaction.method} from this device: its connection is dead, or the phone hangs."
    return Explanation(text, request.number)


def _has_moved(transaction: Transaction, trace: _Trace) -> bool:
    """Return whether the device used another address in this call or registered from one."""
    return len(trace.ends.registering | trace.ends.of_calls[transaction.call_id]) > 1


def _explain_missing_ack(transaction: Transaction, trace: _Trace) -> Explanation | None:
    final = transaction.final
    if transaction.method != "INVITE" or not final or not 200 <= final.message.code < 300:
        return None
    copies = [reply for reply in transaction.replies if reply.packet.sip == final.packet.sip]
    if transaction.is_acknowledged or len(copies) < 2:
        return None
    who = "this device" if transaction.request.packet.source in trace.phones else "the other end"
    if transaction.request.packet.target in trace.phones:
        who = "OpenSIPS"
    return Explanation(f"The ACK never came from {who}: the call was answered, and ends after 32 s.", final.number)


def _explain_undeliverable(transaction: Transaction, trace: _Trace) -> Explanation | None:
    final = transaction.final
    if transaction.method not in ("BYE", "INVITE") or not final or final.message.code not in (408, 476, 477):
        return None
    if transaction.request.packet.source in trace.phones or not transaction.request.message.in_dialog:
        return None
    what = "BYE" if transaction.method == "BYE" else "re-INVITE"
    return Explanation(f"The {what} was sent to a dead connection ({final.message.label}).", final.number)


def _explain_refusal(transaction: Transaction, trace: _Trace) -> Explanation | None:
    final = transaction.final
    if transaction.method in ("REGISTER", "ACK", "OPTIONS") or not final:
        return None
    code = final.message.code
    if code < 400 or code in CHALLENGES:
        return None
    by_device = final.packet.source in trace.phones
    meaning = _OWN_MEANINGS.get(code) if by_device else None
    subject = "Call" if transaction.method == "INVITE" else transaction.method
    verb = "cancelled" if code == 487 else "failed"
    return Explanation(f"{subject} {verb} ({final.message.label}): {meaning or _meaning(code)}.", final.number)


def _meaning(code: int) -> str:
    return _MEANINGS.get(code, "see the reply")


RULES: Final[tuple[Rule, ...]] = (
    _explain_registration,
    _explain_silence,
    _explain_missing_ack,
    _explain_undeliverable,
    _explain_refusal,
)
