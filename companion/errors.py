"""Every error the companion raises on purpose.

CompanionError
├── ConfigError          the configuration can not be used          (exit code 2)
├── UsageError           what was asked for can not be answered     (exit code 2)
│   ├── NoSuchDeviceError    no device is called so
│   ├── SeveralDevicesError  more than one is
│   ├── NoSuchCallError      no call has this Call-ID, or not on this device
│   └── SeveralCallsError    more than one device told of it
├── UnavailableError     a server we need can not be reached        (exit code 1)
├── MiError              a call of OpenSIPS' Management Interface failed (exit code 1)
│   ├── MiUnreachableError   it did not answer, or not as MI does: what was asked for may still have been done
│   ├── MiRefusedError       it wants other credentials: nothing was done
│   └── MiCallError          it answered with a JSON-RPC error
└── InvalidInputError    something from the network is not what it should be
    ├── InvalidEventError
    ├── InvalidEnvelopeError
    ├── InvalidUriError
    ├── InvalidReportError   what a browser tells of a call
    └── InvalidTokenError    by which it tells
"""

from collections.abc import Sequence


class CompanionError(Exception):
    """Base of all errors whose text is meant for a person; `exit_code` is what the CLI ends with."""

    exit_code = 1


class ConfigError(CompanionError):
    exit_code = 2


class UsageError(CompanionError):
    exit_code = 2


class NoSuchDeviceError(UsageError):
    """No device is called `name`. `detail` says so without what to type next, which is not the same everywhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.detail = f"no device is called {name!r}"
        super().__init__(f"{self.detail}; `companion devices` lists them all")


class SeveralDevicesError(UsageError):
    """`name` may be any of these `devices`, whose ids they are; `detail` says so without naming them."""

    def __init__(self, name: str, devices: Sequence[str]) -> None:
        self.name = name
        self.devices = tuple(devices)
        self.detail = f"{name!r} is {len(devices)} devices"
        super().__init__("\n  ".join((f"{self.detail}; say which:", *devices)))


class NoSuchCallError(UsageError):
    """No call has this Call-ID, or none of this `device`. `detail` says so without what to type next."""

    def __init__(self, call_id: str, device: str = "") -> None:
        self.detail = f"no call of {device!r} has the Call-ID {call_id!r}" if device else f"no call is {call_id!r}"
        super().__init__(f"{self.detail}; `companion calls` lists them")


class SeveralCallsError(UsageError):
    """Each of these `devices` told of the call: each saw another side of it. `detail` does not name them."""

    def __init__(self, call_id: str, devices: Sequence[str]) -> None:
        self.devices = tuple(devices)
        self.detail = f"{call_id!r} was told of by {len(devices)} devices, each of which saw its own side of it"
        super().__init__("\n  ".join((f"{self.detail}; say with --device which:", *devices)))


class UnavailableError(CompanionError):
    pass


class MiError(CompanionError):
    pass


class MiUnreachableError(MiError):
    pass


class MiRefusedError(MiError):
    pass


class MiCallError(MiError):
    """The `code` and `message` of a JSON-RPC error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"MI answered {code}: {message}")
        self.code = code
        self.message = message

    @property
    def gone(self) -> bool:
        """Whether what was asked for is not there (any more)."""
        return self.code == 404


class InvalidInputError(CompanionError):
    """Hostile or broken input. `reason` is one of a few fixed words, fit for a metric's label."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class InvalidEventError(InvalidInputError):
    pass


class InvalidEnvelopeError(InvalidInputError):
    pass


class InvalidUriError(InvalidInputError):
    pass


class InvalidReportError(InvalidInputError):
    pass


class InvalidTokenError(InvalidInputError):
    """`reason` is `expired`, or `wrong` for all else."""
