"""Media samples and happenings as tests need them: sensible ones, and any there may be."""

from typing import Any, Final

from hypothesis import strategies as st

from companion.media.report import Call, Happening, Incoming, Item, MediaSample, Outgoing, Report, Video

NOW: Final = 1_795_452_109_605
OPUS: Final = "opus/48000/2"


def sample(
    n: int = 0, *, ms: int = 1000, flags: tuple[Any, ...] = (), rtt_ms: float | None = None, **more: Any
) -> MediaSample:
    """A good second; what is given of `incoming_…` and `outgoing_…` goes before."""
    incoming: dict[str, Any] = {"packets": 50, "bytes": 4000, "lost": 0, "jitter_ms": 4, "buffer_ms": 40}
    outgoing: dict[str, Any] = {"packets": 50, "bytes": 4000, "lost": 0, "rtt_ms": 30}
    incoming |= {name.removeprefix("incoming_"): more[name] for name in more if name.startswith("incoming_")}
    outgoing |= {name.removeprefix("outgoing_"): more[name] for name in more if name.startswith("outgoing_")}
    return MediaSample(
        n=n,
        at=NOW + 1000 * n,
        ms=ms,
        rtt_ms=rtt_ms,
        incoming=Incoming(**incoming),
        outgoing=Outgoing(**outgoing),
        flags=flags,
    )


def happening(n: int, what: str, **fields: Any) -> Happening:
    return Happening(n=n, at=NOW + 1000 * n, what=what, fields=fields)


def codec(n: int = 0, name: str = OPUS) -> Happening:
    return happening(n, "codec") if not name else Happening(n=n, at=NOW, what="codec", fields={"in": name, "out": name})


texts = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=20)
numbers = st.none() | st.integers(0, 1 << 40)
measures = st.none() | st.floats(0, 1e6)
shares = st.none() | st.floats(0, 1)
flags = st.sampled_from([(), (), ("muted",), ("held", "hidden"), ("gap", "restart", "offline")])
samples = st.builds(
    MediaSample,
    n=st.integers(0, 20),
    at=st.integers(NOW - 60_000, NOW),
    ms=st.integers(1, 60_000),
    rtt_ms=measures,
    incoming=st.builds(
        Incoming, numbers, numbers, st.none() | st.integers(-1000, 1000), measures, measures, shares, shares
    ),
    outgoing=st.builds(Outgoing, numbers, numbers, measures, shares, measures, measures, shares),
    video=st.none() | st.builds(Video, numbers, numbers, measures, measures, numbers, numbers),
    flags=flags,
)
fields = st.dictionaries(
    st.sampled_from(["state", "max_bps", "A1", "x" * 24]),
    texts | st.booleans() | st.none() | st.floats(-1e9, 1e9),
    max_size=2,
)
paths = st.fixed_dictionaries({}, optional={"local": st.sampled_from(["host", "relay"]), "remote": st.just("relay")})
codecs = st.fixed_dictionaries({}, optional={"in": st.sampled_from([OPUS, "PCMA/8000", "G722/8000"])})
happenings = st.builds(
    Happening,
    n=st.integers(0, 20),
    at=st.integers(NOW - 60_000, NOW),
    what=st.sampled_from(["ice", "limit", "switch-over", "x" * 24]),
    fields=fields,
) | st.one_of(
    st.builds(Happening, n=st.integers(0, 20), at=st.just(NOW), what=st.just("path"), fields=paths),
    st.builds(Happening, n=st.integers(0, 20), at=st.just(NOW), what=st.just("codec"), fields=codecs),
    st.builds(Happening, n=st.integers(0, 20), at=st.just(NOW), what=st.sampled_from(["restart", "switch-over"])),
)
items: st.SearchStrategy[list[Item]] = st.lists(samples | happenings, max_size=10)
calls = st.builds(
    Call,
    direction=st.sampled_from(["in", "out", ""]),
    peer=texts,
    started_at=st.integers(1, NOW),
    ended_at=st.none() | st.integers(1, NOW),
    end=st.sampled_from(["", "hangup", "failed", "lost", "closed"]),
    why=texts,
)
reports = st.builds(
    Report,
    v=st.just(1),
    now=st.just(NOW),
    call=calls,
    dropped=st.integers(0, 1000),
    samples=st.lists(samples, max_size=3).map(tuple),
    happenings=st.lists(happenings, max_size=3).map(tuple),
    token=st.just("") | texts,
)
