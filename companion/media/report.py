"""What a browser reports of one call: its wire format, and how it is read. No I/O.

A *media sample* is what getStats told of about a second, a *happening* what happened in the call at one time; both are
*items*, numbered `n` = 0, 1, 2, … by one counter of the call. docs/media.md describes all of it.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from companion.errors import CompanionError

VERSION: Final = 1
MAX_SAMPLES: Final = 1200
MAX_HAPPENINGS: Final = 400
MAX_FIELDS: Final = 12
AHEAD_MS: Final = 60_000
"""An item may be so much later than the report says that it was sent: clocks are read one after the other."""

Time = Annotated[int, Meta(ge=1, le=1 << 53)]
Number = Annotated[int, Meta(ge=0, le=1 << 53)]
Measure = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Word = Annotated[str, Meta(max_length=24)]
Text = Annotated[str, Meta(max_length=256)]
Flag = Literal["muted", "held", "hidden", "gap", "restart", "offline"]
Direction = Literal["in", "out", ""]
End = Literal["", "hangup", "failed", "lost", "closed"]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, gc=False):
    """What is not known is None, and not on the wire."""


class Incoming(_Strict, frozen=True):
    """Audio that came in; `lost` may be negative (RFC 3550, A.3), `concealed` is a share of what was played."""

    packets: Number | None = None
    bytes: Number | None = None
    lost: Annotated[int, Meta(ge=-(1 << 31), le=1 << 31)] | None = None
    jitter_ms: Measure | None = None
    buffer_ms: Measure | None = None
    concealed: Share | None = None
    level: Share | None = None


class Outgoing(_Strict, frozen=True):
    """Audio that went out; `lost` (a share), `rtt_ms` and `jitter_ms` are what the far end reported (RTCP)."""

    packets: Number | None = None
    bytes: Number | None = None
    target_bps: Measure | None = None
    lost: Share | None = None
    rtt_ms: Measure | None = None
    jitter_ms: Measure | None = None
    level: Share | None = None


class Video(_Strict, frozen=True):
    in_bytes: Number | None = None
    out_bytes: Number | None = None
    in_fps: Measure | None = None
    out_fps: Measure | None = None
    in_height: Number | None = None
    out_height: Number | None = None


class MediaSample(_Strict, frozen=True, kw_only=True):
    """The interval of `ms` milliseconds that ended at `at` (epoch ms)."""

    n: Number
    at: Time
    ms: Annotated[int, Meta(ge=1, le=3_600_000)]
    rtt_ms: Measure | None = None
    incoming: Incoming = msgspec.field(default=Incoming(), name="in")
    outgoing: Outgoing = msgspec.field(default=Outgoing(), name="out")
    video: Video | None = None
    flags: tuple[Flag, ...] = ()


class Happening(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    n: Number
    at: Time
    what: Annotated[str, Meta(pattern="^[a-z][a-z-]{0,23}$")]
    fields: Annotated[dict[Word, Text | float | bool | None], Meta(max_length=MAX_FIELDS)] = {}


class Call(_Strict, frozen=True, kw_only=True):
    """The call as the browser knows it at the time of the report; times are epoch ms."""

    direction: Direction = ""
    peer: Text = ""
    started_at: Time
    ended_at: Time | None = None
    end: End = ""
    why: Text = ""


class Report(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """`now` is when it was sent, by the sender's clock; `dropped` how many items its queue had no room for so far."""

    v: Literal[1]
    now: Time
    call: Call
    dropped: Number = 0
    samples: Annotated[tuple[MediaSample, ...], Meta(max_length=MAX_SAMPLES)] = ()
    happenings: Annotated[tuple[Happening, ...], Meta(max_length=MAX_HAPPENINGS)] = ()
    token: str = msgspec.field(default="")


class InvalidReportError(CompanionError):
    """A report that can not be meant so; the text says where and why, and repeats nothing of it."""


_decoder: Final = msgspec.json.Decoder(Report)


def decode(body: bytes, retention_ms: int) -> Report:
    """Read and check a report, its times as the sender's clock has them. Raises InvalidReportError."""
    try:
        report = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReportError(str(error)[:200]) from None
    _check_times(report, retention_ms)
    return report


def _check_times(report: Report, retention_ms: int) -> None:
    items: tuple[MediaSample | Happening, ...] = (*report.samples, *report.happenings)
    for item in items:
        if item.at > report.now + AHEAD_MS:
            raise InvalidReportError("an item is later than `now`: both are read off the sender's clock")
        if item.at < report.now - retention_ms:
            raise InvalidReportError("an item is older than anything that is kept")


def shift(report: Report, received_at: int) -> Report:
    """The report with all its times (epoch ms) by our clock, which showed `received_at` when it came in.

    What it was under way counts as the sender's clock being slow: less than a second where it matters.
    """
    late = received_at - report.now
    ended_at = report.call.ended_at
    call: dict[str, Any] = {"started_at": max(1, report.call.started_at + late)}
    if ended_at is not None:
        call["ended_at"] = max(1, ended_at + late)
    return msgspec.structs.replace(
        report,
        now=received_at,
        call=msgspec.structs.replace(report.call, **call),
        samples=tuple(msgspec.structs.replace(item, at=max(1, item.at + late)) for item in report.samples),
        happenings=tuple(msgspec.structs.replace(item, at=max(1, item.at + late)) for item in report.happenings),
    )
