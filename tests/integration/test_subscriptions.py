"""Subscriptions made through MI are compared with what OpenSIPS has: one that is gone is made anew at once."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from companion import metrics
from companion.config import Config
from companion.opensips.mi import Mi
from companion.opensips.subscriptions import (
    EXPIRE_SECONDS,
    USED_EVENTS,
    EventSubscription,
    Renewer,
    list_subscriptions,
)
from companion.simulator.opensips import SimulatedOpenSIPS

HOUR = 3600
UDP, TCP = "udp:127.0.0.1:5066", "tcp:127.0.0.1:5067"


@pytest.fixture
async def opensips() -> AsyncIterator[SimulatedOpenSIPS]:
    async with SimulatedOpenSIPS("opensips", [], events_to="") as opensips:
        yield opensips


def make_renewer(opensips: SimulatedOpenSIPS) -> Renewer:
    table = {"node": "opensips", "mi_url": opensips.mi_url, "subscribe": True}
    return Renewer(Config.model_validate({"bridge": {"datagram": UDP, "stream": TCP}, "opensips": [table]}))


async def read(opensips: SimulatedOpenSIPS) -> dict[str, list[EventSubscription]]:
    """What OpenSIPS sends to our bridge, by event."""
    async with Mi(opensips.mi_url) as mi:
        every = await list_subscriptions(mi)
    return {event: [one for one in every if one.event == event and one.socket in (UDP, TCP)] for event in USED_EVENTS}


async def is_fresh(opensips: SimulatedOpenSIPS) -> bool:
    left = [[one.seconds_left for one in own] for own in (await read(opensips)).values()]
    return all(len(own) == 1 and EXPIRE_SECONDS - 60 < (own[0] or 0) <= EXPIRE_SECONDS for own in left)


def counted(result: str) -> float:
    return metrics.total(metrics.SUBSCRIBED, node="opensips", result=result)


@pytest.mark.parametrize("seconds", [-10 * HOUR, -HOUR, HOUR, 10 * HOUR])
async def test_clock_of_opensips_is_set(opensips: SimulatedOpenSIPS, seconds: int) -> None:
    """After a step of OpenSIPS' clock either way, all events are subscribed for the usual time again."""
    renewer = make_renewer(opensips)
    await renewer.run()
    assert await is_fresh(opensips)
    opensips.subscriptions.step_clock(seconds)
    assert not await is_fresh(opensips)
    await renewer.run()
    assert await is_fresh(opensips)


async def test_one_that_vanished(opensips: SimulatedOpenSIPS) -> None:
    """One missing subscription of several is made anew, and only that one."""
    renewer = make_renewer(opensips)
    await renewer.run()
    made, renewed = counted("made"), counted("renewed")
    opensips.subscriptions.remove(USED_EVENTS[2])
    await renewer.run()
    assert await is_fresh(opensips)
    assert (counted("made"), counted("renewed")) == (made + 1, renewed)


async def test_renewed_by_half(opensips: SimulatedOpenSIPS) -> None:
    """Subscriptions are renewed in the second half of their life, not before."""
    renewer = make_renewer(opensips)
    await renewer.run()
    renewed = counted("renewed")
    opensips.subscriptions.step_clock(EXPIRE_SECONDS // 2 - 30)
    await renewer.run()
    assert counted("renewed") == renewed
    opensips.subscriptions.step_clock(60)
    await renewer.run()
    assert counted("renewed") == renewed + len(USED_EVENTS)


async def test_duplicate(opensips: SimulatedOpenSIPS) -> None:
    """An event that comes over two ways is told, once per episode, and counted each time."""
    renewer = make_renewer(opensips)
    await renewer.run()
    opensips.subscriptions.add(USED_EVENTS[3], TCP)
    before = counted("duplicate")
    with capture_logs() as logs:
        await renewer.run()
        await renewer.run()
    assert counted("duplicate") == before + 2
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert warning["sockets"] == {USED_EVENTS[3]: [TCP, UDP]}
