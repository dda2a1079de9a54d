"""Record in the audit who had a device recorded, for how long, and what came of it."""

from typing import Any, Final, Literal

from companion.store.audit import append_audit_entry
from companion.store.recordings import Recording
from companion.store.store import Store

Result = Literal["started", "stopped", "ended", "refused"]
Reason = Literal["requested", "over"]
ACTION: Final = "record"
_COMPANION: Final = "companion"
"""Who ends a recording on time."""


def record_start(  # noqa: PLR0913 - each is a field of the entry
    store: Store, device: str, by: str, minutes: int, failures: str = "", *, at: int | None = None
) -> None:
    """Append the start of a recording, by default now; `failures` say which nodes do not take part yet."""
    _append(store, device, "started", {"by": by, "minutes": minutes, "why": _ask(by, minutes), "answer": failures}, at)


def record_refusal(store: Store, device: str, by: str, minutes: int, reason: str) -> None:
    """Append that a device could not be recorded, and the reason."""
    _append(store, device, "refused", {"by": by, "minutes": minutes, "why": _ask(by, minutes), "answer": reason})


def record_stop(store: Store, device: str, by: str) -> None:
    """Append that somebody stopped a recording."""
    _append(store, device, "stopped", {"by": by, "why": f"by {by}"})


def record_end(store: Store, recording: Recording, at: int | None = None) -> None:
    """Append that a recording ended on time, by default now, and who had asked for it."""
    why = f"its time was over; asked for by {recording.by}"
    _append(store, recording.device, "ended", {"by": _COMPANION, "why": why}, at)


def _ask(by: str, minutes: int) -> str:
    return f"by {by}, for {minutes} minutes"


def _append(store: Store, device: str, result: Result, more: dict[str, Any], at: int | None = None) -> None:
    reason: Reason = "over" if result == "ended" else "requested"
    filled = {name: value for name, value in more.items() if value}
    aor = device.rpartition("/")[0]
    fields = {"device": device, "aor": aor, "reason": reason, "action": ACTION, "result": result, **filled}
    brief = {name: value for name, value in filled.items() if name in ("by", "minutes")}
    append_audit_entry(store, fields, f"recording-{result}", brief, at)
