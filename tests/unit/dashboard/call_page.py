"""What Reader.call tells of a call, made up."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from companion.text import Json

NOW: Final = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
START: Final = round(NOW.timestamp() * 1000)
EVIL: Final = "<img src=x onerror=alert(1)>\"'{{7*7}}`${1}`\u202e</script>"
DEVICE: Final = f"{EVIL}/urn:uuid:{EVIL}"


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def happening(seconds: float, what: str, **fields: Any) -> Json:
    return {"at": at(seconds), "what": what, "fields": fields}


def second(at_ms: int, *, ms: int = 1000, mos: float | None = 4.3, flags: tuple[str, ...] = ()) -> list[Any]:
    """A row of `samples`."""
    return [at_ms, ms, 46.0, 4.0, 0.0, 24_000.0, 23_500.0, mos, 0.0, list(flags)]


HAPPENINGS: Final = [
    happening(-60, "path", local="host", remote="srflx", protocol="udp", network="wifi"),
    happening(-60, "codec", **{"in": "opus/48000/2", "out": EVIL}),
    happening(-59, "ice", state=EVIL),
    happening(-40, "path", local="relay", remote=EVIL, relay=EVIL, local_address=EVIL),
    happening(-40, "restart"),
    happening(-39, "switch-over", reason=EVIL, noticed_ms=100, media_ms=1240, result="resumed"),
    happening(-30, "network", type=EVIL, effective=EVIL, rtt_ms=50),
    happening(-20, "limit", max_bps=16_000, height=360, by=EVIL),
    happening(-10, "limited", max_bps=16_000, before_bps=24_000, after_bps=16_000, before_loss=0.05, after_loss=0),
    happening(-9, "hidden"),
    happening(-8, "something-new", **{EVIL: EVIL, "number": 3, "yes": True}),
]
BAD: Final = [
    {"at": at(-60), "what": "media", "evidence": [EVIL, "MOS 2.1"]},
    {"at": at(0), "what": "media", "evidence": []},
    {"at": at(60), "what": "something new", "evidence": [EVIL]},
]


def call_row(**values: Any) -> Json:
    path = {"local": "relay", "remote": EVIL, "protocol": EVIL, "relay": EVIL, "network": EVIL, "local_address": EVIL}
    return {
        "call_id": EVIL,
        "device": DEVICE,
        "direction": "out",
        "peer": EVIL,
        "started_at": at(-60),
        "ended_at": at(-5),
        "seconds": 55,
        "end": "hangup",
        "why": EVIL,
        "live": False,
        "mos": 3.96,
        "mos_min": 1.31,
        "band": "medium",
        "loss_percent": 1.6,
        "rtt_ms": 90.8,
        "jitter_max_ms": 47.1,
        "path": path,
        "relay": True,
        "codec": EVIL,
        "bad_seconds": 95,
        "switch_overs": 1,
        "dropped": 2,
        "missing": 0,
        **values,
    }


def unknown_row(**values: Any) -> Json:
    """A call of which next to nothing is known."""
    nothing = dict.fromkeys(
        ("ended_at", "mos", "mos_min", "band", "loss_percent", "rtt_ms", "jitter_max_ms", "path", "relay", "codec")
    )
    texts = {"direction": "", "peer": "", "end": "", "why": "", "seconds": 0, "bad_seconds": 0, "switch_overs": 0}
    return call_row(**{**nothing, **texts, **values})


def calls_answer(rows: list[Json], refused: int = 0) -> Json:
    """The calls of a device, as the reader returns them."""
    return {"calls": rows, "cut": False, "refused_reports": refused, "refused_why": "calls" if refused else ""}


def minute(**values: Any) -> Json:
    return {
        "at": at(-60),
        "mos": 3.9,
        "band": "medium",
        "loss_percent": 1.5,
        "rtt_ms": 90,
        "jitter_ms": 7.5,
        "concealed": 0.02,
        "flags": {"muted": 3.5},
        "pings": {"answered": 3, "lost": 1, "max_ms": 60},
        **values,
    }


def call_page(seconds: int = 55, **values: Any) -> Json:
    ended = START - 5000
    return {
        **call_row(),
        "formula": "g107-simplified-1",
        "breakdown": {"delay": 3.6, "loss": 7.9, "codec": 0.0},
        "samples": [second(ended - 1000 * n, mos=4.3 - n % 2) for n in reversed(range(seconds))],
        "happenings": HAPPENINGS,
        "minutes": [minute(), minute(at=at(0), mos=None, band=None, concealed=None, flags={})],
        "verdict": {"what": "media", "evidence": ["bad minutes: 2 of 2", EVIL], "bad_minutes": BAD},
        "pings": [(START - 30_000, 48), (START - 25_000, None), (START - 20_000, 51)],
        "timeline": [{"at": at(-30), "event": "lost", "contact": "c"}],
        "legs": [DEVICE],
        **values,
    }
