"""Calls made up for tests: seconds of media that are as good or as bad as one says."""

from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

from companion.media.minutes import Minute, build_moments
from companion.media.report import Happening, Incoming, MediaSample, Outgoing
from companion.media.signalling import Signalling
from companion.media.verdict import Case, Verdict, build_case, judge
from companion.usrloc.contact import Ping

START: Final = 1_795_512_600_000
OPUS: Final = Happening(n=0, at=START, what="codec", fields={"in": "opus/48000/2", "out": "opus/48000/2"})
INTERVAL_MS: Final = 30_000


def second(n: int, *, at: int = 0, ms: int = 1000, flags: tuple[Any, ...] = (), **figures: Any) -> MediaSample:
    """A good second, the `n`th and item 10 n, with other figures where given; None is not known."""
    members: dict[str, Any] = {
        "packets": 50,
        "bytes": 3000,
        "lost": 0,
        "jitter_ms": 4.0,
        "buffer_ms": 40.0,
        "rtt_ms": 40.0,
    }
    members.update(figures)
    rtt_ms, sent = members.pop("rtt_ms"), members.pop("sent", 50)
    return MediaSample(
        n=n * 10,
        at=at or START + n * 1000,
        ms=ms,
        flags=flags,
        incoming=Incoming(**members),
        outgoing=Outgoing(packets=sent, rtt_ms=rtt_ms),
    )


def seconds(first: int, count: int, **figures: Any) -> list[MediaSample]:
    """So many seconds alike from the `first` on, which is 1 at the start of a call."""
    return [second(n, **figures) for n in range(first, first + count)]


def happening(second: float, what: str, n: int | None = None, **fields: Any) -> Happening:
    return Happening(
        n=round(second * 10) + 1 if n is None else n, at=START + round(second * 1000), what=what, fields=fields
    )


def call(samples: Sequence[MediaSample], *happenings: Happening, codec: Happening | None = OPUS) -> list[Minute]:
    """The minutes of a call of these samples."""
    return [*case(samples, *happenings, codec=codec).minutes]


def case(
    samples: Sequence[MediaSample],
    *happenings: Happening,
    codec: Happening | None = OPUS,
    pings: Sequence[Ping] = (),
    **more: Any,
) -> Case:
    moments = build_moments(samples, [codec, *happenings] if codec else happenings)
    return build_case(START, moments, happenings, signalling=Signalling(pings, INTERVAL_MS), **more)


def verdict(samples: Sequence[MediaSample], *happenings: Happening, **more: Any) -> Verdict:
    return judge(case(samples, *happenings, **more))


def pings(*latencies: int | None, first: float = -INTERVAL_MS / 1000) -> list[Ping]:
    """One each interval, the first so many seconds after the call's start."""
    return [(START + round(first * 1000) + n * INTERVAL_MS, latency) for n, latency in enumerate(latencies)]


values: Final = st.none() | st.floats(0, 1e9)
any_samples: Final = st.lists(
    st.builds(
        second,
        st.integers(0, 2000),
        at=st.integers(START - 200_000, START + 7_200_000),
        ms=st.integers(1, 3_600_000),
        flags=st.lists(st.sampled_from(["muted", "held", "hidden", "gap", "restart", "offline"]), unique=True).map(
            tuple
        ),
        packets=st.none() | st.integers(0, 1 << 53),
        lost=st.none() | st.integers(-(1 << 31), 1 << 31),
        jitter_ms=values,
        buffer_ms=values,
        rtt_ms=values,
        concealed=st.none() | st.floats(0, 1),
        sent=st.none() | st.integers(0, 100),
    ),
    max_size=30,
)
"""What a browser may send, or somebody who has got a token: in any order, with anything missing."""
