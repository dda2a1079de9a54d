"""What the simulated networks do to pings."""

from companion.simulator.conditions import DAY, Conditions, Trouble

NIGHT, NOON = 10 * DAY + 3 * 3600.0, 10 * DAY + 14.5 * 3600
BAD = Trouble(NIGHT, NIGHT + 3600, "192.0.2.", slowdown=4.0)


def test_daily_rhythm() -> None:
    """A round trip takes longer by day than at night."""
    conditions = Conditions()
    assert (conditions.delay(1.0, "192.0.2.1", NIGHT), conditions.delay(1.0, "192.0.2.1", NOON)) == (1.0, 1.7)


def test_trouble_of_a_network() -> None:
    """A trouble slows its network down in its time, and no other."""
    conditions = Conditions([BAD])
    assert (conditions.delay(1.0, "192.0.2.1", NIGHT), conditions.delay(1.0, "203.0.113.1", NIGHT)) == (4.0, 1.0)
    assert conditions.delay(1.0, "192.0.2.1", NIGHT + 3600) == 1.0


def test_cut() -> None:
    """A loss of all pings cuts a node off; a smaller one does not, and loses about its share."""
    cut, bad = Conditions([BAD._replace(network="", loss=1.0)]), Conditions([BAD._replace(loss=0.2)], seed="1")
    assert cut.is_cut(NIGHT)
    assert not bad.is_cut(NIGHT)
    assert cut.delay(1.0, "192.0.2.1", NIGHT) is None
    lost = sum(bad.delay(1.0, "192.0.2.1", NIGHT) is None for _ in range(1000))
    assert 150 < lost < 250
