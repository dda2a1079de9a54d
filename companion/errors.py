"""Define every error that the companion raises on purpose.

CompanionError
├── ConfigError          the configuration can not be used          (exit code 2)
├── UsageError           the request can not be answered            (exit code 2)
│   ├── NoSuchDeviceError    no device has this name
│   ├── SeveralDevicesError  several devices have it
│   ├── NoSuchCallError      no call has this Call-ID, or not on this device
│   ├── SeveralCallsError    several devices reported the call
│   ├── CanNotPingError      nobody can ask this device now
│   └── CanNotRecordError    the SIP messages of this device can not be recorded now
├── UnavailableError     a server we need can not be reached        (exit code 1)
│   ├── StoreFormatError     the data in Redis has another format       (exit code 2)
│   ├── ShardingError        the data in Redis is divided into other shards  (exit code 2)
│   ├── FleetNotReadError    a large fleet is still being read
│   └── NotReplicatedError   a failover of Redis may undo what was decided
├── ReportBudgetError    the reports of calls make us keep too much
├── MiError              a call of OpenSIPS' Management Interface failed (exit code 1)
│   ├── MiUnreachableError   no valid answer came: the request may still have been carried out
│   ├── MiRefusedError       it wants other credentials: nothing was carried out
│   └── MiCallError          it answered with a JSON-RPC error
└── InvalidInputError    input from the network is invalid
    ├── InvalidEventError
    ├── InvalidEnvelopeError
    ├── InvalidUriError
    ├── InvalidPacketError   a mirrored SIP message, or the HEP around it
    ├── InvalidReportError   a browser's report of a call
    └── InvalidTokenError    the token of such a report
"""

from collections.abc import Sequence
from typing import Final

from companion.credentials import mask


class CompanionError(Exception):
    """Group all errors with a text for people; the command line ends with `exit_code`."""

    exit_code = 1


class ConfigError(CompanionError):
    exit_code = 2


class UsageError(CompanionError):
    exit_code = 2


class NoSuchDeviceError(UsageError):
    """Report that no device is called `name`; `detail` is the text without its hint for the command line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.detail = f"no device is called {mask(name)!r}"
        super().__init__(f"{self.detail}; `companion devices` lists them all")


class SeveralDevicesError(UsageError):
    """Report that `name` fits several `devices`, given by id; `detail` is the text without them."""

    def __init__(self, name: str, devices: Sequence[str]) -> None:
        self.name = name
        self.devices = tuple(devices)
        self.detail = f"{mask(name)!r} is {len(devices)} devices"
        super().__init__("\n  ".join((f"{self.detail}; say which:", *devices)))


class NoSuchCallError(UsageError):
    """Report that no call (of this `device`) has this Call-ID; `detail` is the text without its hint."""

    def __init__(self, call_id: str, device: str = "") -> None:
        self.detail = f"no call of {device!r} has the Call-ID {call_id!r}" if device else f"no call is {call_id!r}"
        super().__init__(f"{self.detail}; `companion calls` lists them")


class SeveralCallsError(UsageError):
    """Report that several `devices` reported the call, each its own side; `detail` is the text without them."""

    def __init__(self, call_id: str, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self.detail = f"{call_id!r} was reported by {len(devices)} devices, each with its own side of it"
        super().__init__("\n  ".join((f"{self.detail}; say with --device which:", *devices)))


class CanNotPingError(UsageError):
    """Report that a device can not be pinged; `detail` is the text without its `remedy`."""

    def __init__(self, detail: str, remedy: str) -> None:
        self.detail = detail
        self.remedy = remedy
        super().__init__(f"{detail}: {remedy}")


class CanNotRecordError(UsageError):
    """Report that a device can not be recorded; `detail` is the text without its `remedy`."""

    def __init__(self, detail: str, remedy: str) -> None:
        self.detail = detail
        self.remedy = remedy
        super().__init__(f"{detail}: {remedy}")


class UnavailableError(CompanionError):
    """Report that a server can not be used; `detail` is the text without its `remedy`."""

    def __init__(self, detail: str, remedy: str = "") -> None:
        self.detail = detail
        self.remedy = remedy
        super().__init__(f"{detail}: {remedy}" if remedy else detail)


class StoreFormatError(UnavailableError):
    """Report that the data in Redis has the format `stored`, and that this version needs another one."""

    exit_code = 2

    def __init__(self, stored: str, needed: int, *, is_older: bool) -> None:
        if is_older:
            remedy = "stop all companions, then run `companion store migrate`"
        else:
            remedy = "use the version of the companion that wrote it, or choose another [redis] prefix"
        super().__init__(f"the data in Redis has format {stored}, and this version needs format {needed}", remedy)


class ShardingError(UnavailableError):
    """Report that the data in Redis is divided into other shards than the configuration says, or not wholly."""

    exit_code = 2


class FleetNotReadError(UnavailableError):
    """Report that the devices are still being read, for the first time since a start."""

    def __init__(self, devices: int, of: int) -> None:
        super().__init__(f"the fleet is being read: {devices:,} of {of:,} devices", "try again in a moment")


class NotReplicatedError(UnavailableError):
    """Report that what an operator decided is in force, but that no replica of Redis has it yet."""

    def __init__(self) -> None:
        super().__init__("this is in force, but a failover of Redis may undo it: no replica has it yet", "say it again")


class ReportBudgetError(CompanionError):
    """Report that reports of calls exceed a budget, one of `calls`, `bytes`, `all_bytes` and `all_calls`."""

    def __init__(self, budget: str, seconds: int) -> None:
        self.budget = budget
        self.seconds = seconds
        super().__init__(f"the budget of {budget} is used up for {seconds} s")


class MiError(CompanionError):
    pass


class MiUnreachableError(MiError):
    pass


class MiRefusedError(MiError):
    pass


_GONE: Final = ("AOR not found", "Contact not found")
"""How usrloc of 3.4, 3.6 and 4.0 begins answers 404 about what is not there. There are others: "Table not found"."""


class MiCallError(MiError):
    """Hold the `code` and `message` of a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = mask(message)
        super().__init__(f"MI answered {code}: {self.message}")

    @property
    def gone(self) -> bool:
        """Return whether the contact or AOR is not there (any more). An unknown table says nothing of a contact."""
        return self.code == 404 and self.message.startswith(_GONE)


class InvalidInputError(CompanionError):
    """Report hostile or broken input; `reason` is one of a few fixed words, fit for a metric's label."""

    def __init__(self, reason: str, detail: str = "") -> None:
        detail = mask(detail)
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class InvalidEventError(InvalidInputError):
    """Report an event that can not be taken; `aor` is the AOR that it names, "" if none."""

    def __init__(self, reason: str, detail: str = "", *, aor: str = "") -> None:
        super().__init__(reason, detail)
        self.aor = aor


class InvalidEnvelopeError(InvalidInputError):
    pass


class InvalidUriError(InvalidInputError):
    pass


class InvalidPacketError(InvalidInputError):
    pass


class InvalidReportError(InvalidInputError):
    pass


class InvalidTokenError(InvalidInputError):
    """Report an invalid token; `reason` is `expired`, or `wrong` for all other faults."""
