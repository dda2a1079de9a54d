"""What the items of a call add up to, and how each second is scored."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.media import e_model, scoring, totals
from companion.media.report import Item, MediaSample
from companion.media.totals import Totals
from tests.unit.media.reports import OPUS, codec, happening, items, sample

# Scoring


def score(second: MediaSample, codec_name: str = OPUS) -> e_model.Score | None:
    return scoring.score(second, codec_name)


def test_a_second() -> None:
    """A sample is scored as the E-model scores its round trip, buffer, loss and codec."""
    second = sample(incoming_packets=49, incoming_lost=1, outgoing_rtt_ms=80, incoming_buffer_ms=60, rtt_ms=500)
    expected = e_model.score(e_model.Interval(80, 2.0, e_model.OPUS, jitter_ms=4, jitter_buffer_ms=60))
    assert score(second) == expected


@pytest.mark.parametrize(
    "second",
    [
        sample(outgoing_rtt_ms=None),
        sample(incoming_lost=None),
        sample(incoming_packets=None),
        sample(incoming_jitter_ms=None, incoming_buffer_ms=None),
        sample(incoming_packets=0, incoming_lost=0),
        sample(incoming_packets=0, incoming_lost=0, flags=("muted",)),
        sample(incoming_packets=1, incoming_lost=-1),
    ],
    ids=["round trip", "loss", "packets", "jitter", "nothing came", "muted", "all came twice"],
)
def test_missing_stays_missing(second: MediaSample) -> None:
    """What is not known is not made up for: there is no score then, and never one of a round trip of 0."""
    assert score(second) is None


def test_other_sources() -> None:
    """The path's round trip does where the far end reports none, and twice the jitter where no buffer is known."""
    assert score(sample(outgoing_rtt_ms=None, rtt_ms=80)) == score(sample(outgoing_rtt_ms=80))
    assert score(sample(incoming_buffer_ms=None, incoming_jitter_ms=20)) == score(sample(incoming_buffer_ms=40))
    assert score(sample(), "G722/8000") is None
    assert score(sample(), "") is None


def test_negative_losses() -> None:
    """Packets that came late after all are no loss, nor do they make up for any in this second."""
    assert score(sample(incoming_lost=-3)) == score(sample(incoming_lost=0))


@pytest.mark.parametrize(
    ("second", "silent"),
    [
        (sample(incoming_packets=0), True),
        (sample(incoming_packets=0, flags=("muted",)), False),
        (sample(incoming_packets=0, flags=("held", "hidden")), False),
        (sample(incoming_packets=0, flags=("hidden",)), True),
        (sample(incoming_packets=None), False),
        (sample(), False),
    ],
)
def test_silence(second: MediaSample, *, silent: bool) -> None:
    """No packet where there should have been some is silence; on hold, muted or not known it is none."""
    assert scoring.is_silent(second) is silent


# Totals


def add(*new: Item) -> Totals:
    return totals.add(Totals(), new)


@given(items, st.data())
def test_in_parts_as_at_once(call_items: list[Item], data: st.DataObject) -> None:
    """In however many reports items come, in order, they add up to the same, in every figure."""
    call_items = totals.sort_items(call_items)
    parts = sorted(data.draw(st.lists(st.integers(0, len(call_items)), max_size=4)))
    sums = Totals()
    for start, end in zip([0, *parts], [*parts, len(call_items)], strict=True):
        sums = totals.add(sums, call_items[start:end])
    assert sums == totals.add(Totals(), call_items)


@given(items, st.data())
def test_twice_is_once(call_items: list[Item], data: st.DataObject) -> None:
    """Items that are counted already change nothing, in whatever company they come again."""
    sums = totals.add(Totals(), call_items)
    again = data.draw(st.lists(st.sampled_from(call_items), max_size=10)) if call_items else []
    assert totals.add(sums, again) == sums


@given(items, st.randoms(use_true_random=False))
def test_in_any_order(call_items: list[Item], random: Random) -> None:
    """Within a report items add up by their numbers, in whatever order they stand."""
    ordered = totals.sort_items(call_items)
    shuffled = list(ordered)
    random.shuffle(shuffled)
    assert add(*shuffled) == add(*ordered)


@given(items)
def test_bounds(call_items: list[Item]) -> None:
    """No part is more than the whole, whatever is told."""
    sums = add(*call_items)
    for part in (sums.scored_seconds, sums.relay_seconds, sums.silent_seconds, sums.bad_seconds):
        assert 0 <= part <= sums.seconds + 1e-6
    assert sums.samples <= sums.items <= sums.next
    assert sums.mos is None or 1 <= sums.mos <= 4.5 + 1e-9


def test_sums() -> None:
    """Counts, seconds, means and extremes of a short call are those one would write down by hand."""
    sums = add(
        happening(0, "path", local="host", remote="srflx", protocol="udp", color="red"),
        codec(1),
        sample(2, incoming_lost=1, incoming_packets=49),
        sample(3, ms=2000, outgoing_rtt_ms=90, incoming_jitter_ms=30),
        sample(5, incoming_packets=0, incoming_lost=0, flags=("muted",)),
        happening(6, "switch-over", result="resumed"),
        happening(7, "restart"),
    )
    good, bad = score(sample(2, incoming_lost=1, incoming_packets=49)), score(sample(3, outgoing_rtt_ms=90))
    assert good is not None
    assert bad is not None
    assert (sums.next, sums.items, sums.missing, sums.samples) == (8, 7, 1, 3)
    assert (sums.seconds, sums.scored_seconds) == (4.0, 3.0)
    assert sums.mos == pytest.approx((good.mos + 2 * bad.mos) / 3)
    assert sums.mos_min == min(good.mos, bad.mos)
    assert (sums.packets_in, sums.lost_in, sums.bytes_in, sums.packets_out) == (99, 1, 12_000, 150)
    assert sums.loss_percent == 1.0
    assert (sums.rtt_ms, sums.rtt_max, sums.jitter_max) == (50.0, 90, 30)
    assert sums.path == {"local": "host", "remote": "srflx", "protocol": "udp"}
    assert (sums.codec_in, sums.codec_out, sums.switch_overs, sums.restarts) == (OPUS, OPUS, 1, 1)
    assert (sums.relayed, sums.silent_seconds, sums.bad_seconds) == (False, 0, 0)


def test_relay_and_trouble() -> None:
    """Seconds over a relay at either end, without a packet, and with an R below 70 are each summed up."""
    path = happening(1, "path", local="srflx", remote="relay")
    lossy, none = sample(2, incoming_packets=45, incoming_lost=5), sample(3, incoming_packets=0)
    sums = add(codec(0), path, lossy, none, sample(4))
    assert (sums.relay_seconds, sums.silent_seconds, sums.bad_seconds) == (3.0, 1.0, 1.0)
    assert sums.relayed is True


def test_of_nothing() -> None:
    """Of a call of which nothing is known nothing is said: no mean is 0."""
    sums = Totals()
    assert (sums.mos, sums.rtt_ms, sums.loss_percent, sums.relayed) == (None,) * 4


def test_a_codec_counts_from_then_on() -> None:
    """Seconds before the codec is known are not scored; one that is not known here ends the scoring."""
    sums = add(sample(0), codec(1), sample(2), codec(3, "G722/8000"), sample(4))
    assert sums.scored_seconds == 1.0
