"""The summary of a run of pings."""

from companion.cli.ping import describe_reply, describe_run
from companion.pinging.pinger import PingReply
from companion.pinging.run import PingRun


def make_run(*durations: float, lost: int = 0, failed: int = 0) -> PingRun:
    run = PingRun()
    for duration_ms in durations:
        run.add("answered", duration_ms)
    for _ in range(lost):
        run.add("unanswered", 5000)
    for _ in range(failed):
        run.add("failed", 1)
    return run


def test_summary() -> None:
    """Loss is the share among pings that prove something; a failed ping proves nothing."""
    summary = make_run(10, 20, 60.04, lost=1, failed=4).to_json()
    assert summary == {
        "sent": 8,
        "answered": 3,
        "lost": 1,
        "failed": 4,
        "loss_ratio": 0.25,
        "min_ms": 10,
        "average_ms": 30,
        "max_ms": 60,
    }


def test_nothing_answered() -> None:
    """Where nothing was answered there is no round trip, neither in the summary nor on the timeline."""
    run = make_run(failed=2)
    assert (run.loss_ratio, run.round_trip_ms) == (None, None)
    assert run.to_entry("one") == {"node": "one", "count": 2, "answered": 0, "lost": 0}
    assert describe_run(run) == "2 sent, 0 answered, 0 lost, 2 failed"


def test_entry() -> None:
    """The timeline keeps whole milliseconds."""
    entry = make_run(10.4, 11.2, lost=1).to_entry("one")
    assert entry == {"node": "one", "count": 3, "answered": 2, "lost": 1} | {
        "min_ms": 10,
        "average_ms": 11,
        "max_ms": 11,
    }


def test_lines() -> None:
    """Each ping has a line as ping(8) writes it, without control characters of the phone."""
    uri = "sip:ann@x"
    assert describe_reply(1, uri, PingReply("answered", "200 \x1b[31mOK", 34.4, "one")) == (
        "answer from sip:ann@x via one: seq=1 time=34 ms (200 \ufffd[31mOK)"
    )
    assert describe_reply(2, uri, PingReply("unanswered", "408 Request Timeout", 4987, "one")) == (
        "no answer via one: seq=2 (408 Request Timeout after 5.0 s)"
    )
    assert describe_reply(3, uri, PingReply("failed", "not registered", 0, "")) == "failed: seq=3 (not registered)"
    assert describe_run(make_run(10, 20, lost=1)) == (
        "3 sent, 2 answered, 1 lost (33.3 % loss)\nround trip min/avg/max = 10.0/15.0/20.0 ms"
    )
