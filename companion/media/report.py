"""What a browser reports of one call: its wire format, and how it is read. No I/O.

A *media sample* is what getStats told of about a second, a *happening* what happened in the call at one time; both are
*items*, numbered `n` = 0, 1, 2, … by one counter of the call. docs/media.md describes all of it.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from companion.errors import InvalidReportError
from companion.sip import network_prefix
from companion.text import SAFE_TEXT

VERSION: Final = 1
MAX_SAMPLES: Final = 1200
MAX_HAPPENINGS: Final = 400
MAX_FIELDS: Final = 12
MAX_ITEMS: Final = 1_000_000
"""Of one call: eleven days of seconds."""
AHEAD_MS: Final = 60_000
"""An item may be so much later than the report says that it was sent: clocks are read one after the other."""
_NO_LINE_END: Final = r"(?!\n)"
"""In Python, unlike elsewhere, `$` lets one pass."""

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


_decoder: Final = msgspec.json.Decoder(Report)


def decode(body: bytes, retention_ms: int) -> Report:
    """Read and check a report, its times as the sender's clock has them.

    Raises InvalidReportError (reason `json`, `shape` or `time`), whose detail says where and why, and repeats of the
    report at most the name of a member.
    """
    try:
        report = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidReportError("shape", str(error)[:200]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidReportError("json", str(error)[:200]) from None
    _check_times(report, retention_ms)
    return report


class _Sender(msgspec.Struct, frozen=True):
    token: str = ""


_sender_decoder: Final = msgspec.json.Decoder(_Sender)


def token(body: bytes) -> str:
    """The token in a report of whatever else; "" when there is none."""
    try:
        return _sender_decoder.decode(body).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
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
    """The report with all its times (epoch ms) by our clock, which showed `received_at` when it came in.

    What it was under way counts as the sender's clock being slow: less than a second where it matters.
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
    """The report with the network in place of each address: /24 of IPv4, /48 of IPv6, as in `192.0.2.0/24`."""
    if not any(item.fields.keys() & ADDRESSES for item in report.happenings):
        return report
    return replace(report, happenings=tuple(_shorten(item) for item in report.happenings))


def _shorten(happening: Happening) -> Happening:
    fields = {name: network(str(value)) if name in ADDRESSES else value for name, value in happening.fields.items()}
    return replace(happening, fields=fields)


def network(address: str) -> str:
    """Return the network of an address, and a name of mDNS, which tells nothing, as it is; "" for anything else."""
    return address if address.endswith(".local") else network_prefix(address)
