"""How far the store lies behind."""

from companion.consumer.lag import Lag


def test_lag() -> None:
    """The lag is the age of the oldest event that is not stored, and 0 when all are."""
    lag = Lag()
    assert lag.measure(100, 0, 0.0) == 0
    assert lag.measure(200, 100, 1.0) == 0
    assert lag.measure(300, 200, 3.0) == 2
    assert lag.measure(400, 150, 5.0) == 2
    assert lag.measure(400, 0, 6.0) == 0


def test_a_steady_flow_is_no_lag() -> None:
    """Where some events always wait, but never the same ones, there is no lag."""
    lag = Lag()
    assert max(lag.measure(1000 * second, 500, float(second)) for second in range(1, 100)) <= 1


def test_an_outage_of_days_takes_no_memory() -> None:
    """The lag of a day is known without a mark for each measurement."""
    lag = Lag()
    seconds = [lag.measure(n, n, 2.0 * n) for n in range(1, 43_200)]
    assert seconds[-1] == 2.0 * 43_198
    assert len(lag._marks) < 1500
