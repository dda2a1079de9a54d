"""Jobs run by elapsed time, whatever the machine's clock says."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from companion.services.elapsed_trigger import ElapsedTrigger

NOW = datetime(2026, 11, 27, tzinfo=UTC)
steps = st.timedeltas(min_value=timedelta(days=-7000), max_value=timedelta(days=7000))


def test_first_run() -> None:
    """A job runs at once."""
    assert ElapsedTrigger(15).get_next_fire_time(None, NOW) == NOW


@given(steps)
def test_one_run_after_a_step(step: timedelta) -> None:
    """After a step of any size the next run is one interval from now: no missed run is made up for."""
    assert ElapsedTrigger(15).get_next_fire_time(NOW, NOW + step) == NOW + step + timedelta(seconds=15)


@given(steps)
def test_too_late(step: timedelta) -> None:
    """A job that would wait for longer than its interval, as after a step back, is too late; any other is not."""
    trigger = ElapsedTrigger(15, jitter=2)
    due_at = trigger.get_next_fire_time(NOW, NOW)
    assert not trigger.is_too_late(due_at, NOW)
    assert trigger.is_too_late(due_at, NOW + step) == (due_at - (NOW + step) > timedelta(seconds=17))


@given(st.floats(0, 100), st.floats(0, 100))
def test_jitter(seconds: float, jitter: float) -> None:
    """Jitter moves a run both ways, and never into the past."""
    wait = ElapsedTrigger(seconds, jitter).get_next_fire_time(NOW, NOW) - NOW
    assert timedelta(0) <= wait <= timedelta(seconds=seconds + jitter + 0.001)
