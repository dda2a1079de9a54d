"""Read the reports that a browser sends about one call: their wire format. No I/O.

A *media sample* holds about one second of getStats, a *happening* is an event of the call. Both are *items*, numbered
`n` = 0, 1, 2, … by one counter of the call. docs/media.md describes the format.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from companion.errors import InvalidReportError
from companion.sip import network_prefix
from companion.text import SAFE_TEXT, UNDECODABLE

VERSION: Final = 1
MAX_SAMPLES: Final = 1200
MAX_HAPPENINGS: Final = 400
MAX_FIELDS: Final = 12
MAX_ITEMS: Final = 1_000_000
"""A call has at most so many items: eleven days of seconds."""
AHEAD_MS: Final = 60_000
"""An item may be later than `now` of its report by so much: the clock is read twice."""
_NO_LINE_END: Final = r"(?!\n)"
"""Python's `$` matches before a final line end, too."""

ADDRESSES: Final = frozenset(("local_address", "remote_address"))

Time = Annotated[int, Meta(ge=1, le=1 << 53)]
Number = Annotated[int, Meta(ge=0, le=1 << 53)]
Measure = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
ItemNumber = Annotated[int, Meta(ge=0, lt=MAX_ITEMS)]
Word = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,23}$" + _NO_LINE_END)]
Text = Annotated[str, Meta(max_length=256, pattern=SAFE_TEXT + _NO_LINE_END)]
Flag = Literal["muted", "held", "hidden", "gap", "restart", "offline"]
Direction = Literal["in", "out", ""]
End = Literal["", "hangup", "failed", "lost", "closed"]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, gc=False):
    """Refuse unknown members, and leave out members that are None: not known."""


class Incoming(_Strict, frozen=True):
    """Hold incoming audio; `lost` may be negative (RFC 3550, A.3), `concealed` is a share of what was played."""

    packets: Number | None = None
    bytes: Number | None = None
    lost: Annotated[int, Meta(ge=-(1 << 31), le=1 << 31)] | None = None
    jitter_ms: Measure | None = None
    buffer_ms: Measure | None = None
    concealed: Share | None = None
    level: Share | None = None


class Outgoing(_Strict, frozen=True):
    """Hold outgoing audio; the far end reported (RTCP) `lost` (a share), `rtt_ms` and `jitter_ms`."""

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
    """Hold the figures of `ms` milliseconds that ended at `at` (epoch ms)."""

    n: ItemNumber
    at: Time
    ms: Annotated[int, Meta(ge=1, le=3_600_000)]
    rtt_ms: Measure | None = None
    incoming: Incoming = msgspec.field(default=Incoming(), name="in")
    outgoing: Outgoing = msgspec.field(default=Outgoing(), name="out")
    video: Video | None = None
    flags: tuple[Flag, ...] = ()


class Happening(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    n: ItemNumber
    at: Time
    what: Annotated[str, Meta(pattern=r"^[a-z][a-z-]{0,23}$" + _NO_LINE_END)]
    fields: Annotated[dict[Word, Text | float | bool | None], Meta(max_length=MAX_FIELDS)] = {}


Item = MediaSample | Happening


class Call(_Strict, frozen=True, kw_only=True):
    """Hold the call as the browser describes it in this report; times are epoch ms."""

    direction: Direction = ""
    peer: Text = ""
    started_at: Time
    ended_at: Time | None = None
    end: End = ""
    why: Text = ""


class Report(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Hold one POST. It was sent at `now` by the sender's clock; `dropped` counts the items that its queue lost."""

    v: Literal[1]
    now: Time
    call: Call
    dropped: Number = 0
    samples: Annotated[tuple[MediaSample, ...], Meta(max_length=MAX_SAMPLES)] = ()
    happenings: Annotated[tuple[Happening, ...], Meta(max_length=MAX_HAPPENINGS)] = ()
    token: str = msgspec.field(default="")


_decoder: Final = msgspec.json.Decoder(Report)


def decode(body: bytes, retention_ms: int) -> Report:
    """Read and check a report; its times stay by the sender's clock.

    Raises:
        InvalidReportError: reason `json`, `shape` or `time`. Its detail repeats at most a member's name of the report.

    """
    try:
        report = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidReportError("shape", str(error)[:200]) from None
    except UNDECODABLE as error:
        raise InvalidReportError("json", str(error)[:200]) from None
    _check_times(report, retention_ms)
    return report


class _Sender(msgspec.Struct, frozen=True):
    token: str = ""


_sender_decoder: Final = msgspec.json.Decoder(_Sender)


def read_token(body: bytes) -> str:
    """Return the token in a body; "" when there is none."""
    try:
        return _sender_decoder.decode(body).token
    except UNDECODABLE:
        return ""


def _check_times(report: Report, retention_ms: int) -> None:
    latest, earliest = report.now + AHEAD_MS, report.now - retention_ms
    items: tuple[Item, ...] = (*report.samples, *report.happenings)
    if max(report.call.started_at, report.call.ended_at or 0) > latest:
        raise InvalidReportError("time", "the call begins or ends later than `now`")
    if any(item.at > latest for item in items):
        raise InvalidReportError("time", "an item is later than `now`: both are read off the sender's clock")
    if any(item.at < earliest for item in items):
        raise InvalidReportError("time", "an item is older than anything that is kept")


def shift(report: Report, received_at: int) -> Report:
    """Return the report with all times (epoch ms) by our clock, which showed `received_at` when it came in.

    The time it was under way counts as an error of the sender's clock: mostly less than a second.
    """
    late, call = received_at - report.now, report.call
    started_at = max(1, call.started_at + late)
    ended_at = None if call.ended_at is None else max(started_at, call.ended_at + late)
    return replace(
        report,
        now=received_at,
        call=replace(call, started_at=started_at, ended_at=ended_at),
        samples=tuple(replace(item, at=max(1, item.at + late)) for item in report.samples),
        happenings=tuple(replace(item, at=max(1, item.at + late)) for item in report.happenings),
    )


def shorten(report: Report) -> Report:
    """Return the report with networks in place of addresses: /24 of IPv4, /48 of IPv6, as in `192.0.2.0/24`."""
    if not any(item.fields.keys() & ADDRESSES for item in report.happenings):
        return report
    return replace(report, happenings=tuple(_shorten_addresses(item) for item in report.happenings))


def _shorten_addresses(happening: Happening) -> Happening:
    fields = happening.fields
    networks = {name: shorten_address(str(fields[name])) for name in ADDRESSES & fields.keys()}
    return replace(happening, fields={**fields, **networks})


def shorten_address(address: str) -> str:
    """Return the network of an address; a name of mDNS stays as it is; "" for anything else."""
    return address if address.endswith(".local") else network_prefix(address)
