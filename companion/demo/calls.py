"""Plan the calls of the past week, and store them as the reports of their pages would."""

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from companion.media import report
from companion.simulator.calls import LENGTHS, Kind, SimulatedCall, make_device_id, select_callers
from companion.simulator.conditions import DAY, Trouble
from companion.simulator.phone import Behaviour, SimulatedPhone
from companion.store.call_reports import CallReport, write_report
from companion.store.store import Store

HOURS: Final = (8, 10, 13, 16, 19, 20, 21)
"""When on a day (UTC) there are calls."""
RECENT: Final = 8
RECENT_SECONDS: Final = 900
"""So many calls of all kinds came before the last one, so many seconds apart."""
RECORDED_BEFORE: Final = 2_400
"""How long before the start of the demo the last call began, in seconds; it is the one that is recorded."""
ROAM_BACK_SECONDS: Final = 3_600


class PastCall(NamedTuple):
    """Hold a call as one page reported it, its phone and the other one, and when the phone moved (epoch seconds)."""

    phone: SimulatedPhone
    other: SimulatedPhone
    media: SimulatedCall
    moves: tuple[float, ...] = ()


def plan_calls(fleet: Sequence[SimulatedPhone], start: float, now: float, bad_evening: Trouble) -> list[PastCall]:
    """Return the calls from `start` to `now` in the order of their times, which are epoch seconds.

    Those of a bad evening suffer from it. Phones call that are there all the time, if there are any.
    """
    browsers = select_callers(fleet)
    callers = [phone for phone in browsers if phone.behaviour is Behaviour.STEADY] or browsers
    if not callers:
        return []
    chance = random.Random("calls")
    times = [day + hour * 3600 + chance.uniform(0, 3000) for day in _list_days(start, now) for hour in HOURS]
    last = now - RECORDED_BEFORE
    earlier = last - RECENT * RECENT_SECONDS
    usual = [at for at in times if start + DAY / 2 < at < earlier - RECENT_SECONDS]
    recent = [earlier + number * RECENT_SECONDS for number in range(RECENT)]
    return [
        *(_plan_call(callers, number, at, chance, bad_evening) for number, at in enumerate(usual)),
        *(_make_call(callers, number, at, list(Kind)[number % len(Kind)], chance) for number, at in enumerate(recent)),
        _make_call(callers, 0, last, Kind.GOOD, chance),
    ]


def store_call(store: Store, call: PastCall) -> None:
    """Store a call whole, as its page's last report would."""
    media = call.media
    shortened = report.shorten(media.report(media.ends_at))
    write_report(store, CallReport(media.device, media.call_id, media.ends_at, shortened))


def _list_days(start: float, now: float) -> list[float]:
    first = start - start % DAY
    return [first + number * DAY for number in range(int((now - first) // DAY) + 1)]


def _plan_call(
    callers: Sequence[SimulatedPhone], number: int, at: float, chance: random.Random, bad_evening: Trouble
) -> PastCall:
    kind = chance.choices(list(Kind), (8, 1, 1, 1))[0]
    suffering = [index for index, phone in enumerate(callers) if bad_evening.holds(at, phone.address[0])]
    if suffering:
        return _make_call(callers, suffering[number % len(suffering)], at, Kind.RELAY, chance)
    return _make_call(callers, number, at, kind, chance)


def _make_call(
    callers: Sequence[SimulatedPhone], caller: int, at: float, kind: Kind, chance: random.Random
) -> PastCall:
    phone, other = callers[caller % len(callers)], callers[(caller - 1) % len(callers)]
    seconds = chance.randint(*LENGTHS)
    peer = f"sip:{other.aor.replace(' ', '%20')}@example.com"
    media = SimulatedCall(make_device_id(phone), peer, kind, round(at * 1000), seconds, f"{chance.random()}")
    moved_at = at + seconds // 3
    moves = (moved_at, moved_at + ROAM_BACK_SECONDS) if kind is Kind.SWITCH else ()
    return PastCall(phone, other, media, moves)
