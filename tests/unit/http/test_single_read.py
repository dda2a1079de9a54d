"""One read for all who ask, none of whom waits for long."""

import asyncio
import threading
import time

import pytest

from companion.http.monitoring.single_read import SingleRead


def test_one_read_for_many() -> None:
    """Who asks while a read runs gets its answer; who asks later, a new one."""
    reads, goes_on = [], threading.Event()

    def read() -> int:
        goes_on.wait(30)
        reads.append(1)
        return len(reads)

    single = SingleRead("test", read, 30)
    (first, _), (second, _) = single.start(), single.start()
    goes_on.set()
    assert (first.result(30), second.result(30), single.wait()) == (1, 1, 2)


def test_fresh_answers_are_shared() -> None:
    """Within the time that an answer is fresh, nobody reads again."""
    answers = iter(range(10))
    single = SingleRead("test", lambda: next(answers), 30, fresh_seconds=600)
    assert [single.wait() for _ in range(3)] == [0, 0, 0]


async def test_only_the_first_waits_for_a_read_that_hangs() -> None:
    """The patience counts from the start of the read, in threads and in the event loop, and an error is passed on."""
    goes_on = threading.Event()

    def read() -> None:
        goes_on.wait(30)
        raise ValueError("broken")

    single = SingleRead("test", read, 0.2)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await single.wait_async()
    started = time.monotonic()
    for _ in range(100):
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(single.wait)
    assert time.monotonic() - started < 0.2 * 100
    goes_on.set()
    with pytest.raises(ValueError, match="broken"):
        single.start()[0].result(30)
