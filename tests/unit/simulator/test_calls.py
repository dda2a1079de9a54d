"""Calls that simulated phones make: each kind is what it is for, and is judged so."""

import msgspec
import pytest

from companion.media import report
from companion.media.minutes import build_moments
from companion.media.report import Happening, Item, MediaSample
from companion.media.verdict import build_case, judge
from companion.simulator.calls import Kind, SimulatedCall, make_device_id, select_callers
from companion.simulator.fleet import build_fleet
from companion.simulator.phone import SimulatedPhone

START = 1_795_512_600_000
WEEK_MS = 7 * 86_400_000


def call(kind: Kind, seconds: int = 120, seed: str = "1") -> SimulatedCall:
    return SimulatedCall("kim/web", "sip:bob@example.com", kind, START, seconds, seed)


@pytest.mark.parametrize(
    ("kind", "what"),
    [(Kind.GOOD, "good"), (Kind.RELAY, "media"), (Kind.SWITCH, "network"), (Kind.BACKGROUND, "device")],
)
@pytest.mark.parametrize("seconds", [40, 90, 150])
def test_kinds(kind: Kind, what: str, seconds: int) -> None:
    """Each kind of call shows one verdict, however long it is."""
    for seed in range(5):
        items = call(kind, seconds, f"{seed}").items
        happenings = [item for item in items if isinstance(item, Happening)]
        made = build_moments([item for item in items if isinstance(item, MediaSample)], happenings)
        assert what == judge(build_case(START, made, happenings)).what


@pytest.mark.parametrize("kind", Kind)
def test_reports_are_valid(kind: Kind) -> None:
    """What pages tell is what the API takes, and piece by piece it is all there is, once."""
    made, numbers = call(kind), []
    for now in range(START, START + 130_000, 5000):
        read = report.decode(msgspec.json.encode(made.report(now)), WEEK_MS)
        items: list[Item] = [*read.samples, *read.happenings]
        numbers += [item.n for item in items]
        made.next = max(numbers) + 1
    assert sorted(numbers) == [item.n for item in made.items]
    assert (read.call.end, read.call.ended_at) == ("hangup", made.ends_at)


def test_the_same_seed() -> None:
    """The same seed is the same call; another one is another."""
    assert call(Kind.RELAY).items == call(Kind.RELAY).items
    assert call(Kind.RELAY).call_id != call(Kind.RELAY, seed="2").call_id


def test_callers() -> None:
    """Browsers call, those first that do not come and go."""
    fleet = build_fleet(24)
    phones = select_callers(fleet)
    assert {phone.transport for phone in phones} == {"ws"}
    assert [phone.aor for phone in phones[:4]] == ["kim", "niaj", "quentin", "ursula"]
    assert select_callers([SimulatedPhone("ann", transport="udp")]) == []
    assert make_device_id(fleet[3]).startswith("dave/urn:uuid:38c0c8fd-")
