"""Write and read the cursors of lists: where a page ended."""

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, NamedTuple

import msgspec

from companion.errors import UsageError
from companion.store.calls import CallPosition
from companion.text import UNDECODABLE

_CALL_CURSOR: Final = re.compile(r"([0-9]{1,16})-([0-9a-f]{16})")
_FOREIGN: Final = "the cursor is not one of this list: begin with the first page, without a cursor"


class DevicePosition(NamedTuple):
    """Hold where a device stands in an order: those without a value last, then by value, then by id."""

    is_missing: bool
    value: str | int
    device: str


def encode_device_cursor(sort: str, position: DevicePosition) -> str:
    """Return the cursor of a position in a list of devices."""
    return urlsafe_b64encode(msgspec.json.encode((sort, *position))).rstrip(b"=").decode()


def decode_device_cursor(cursor: str, sort: str) -> DevicePosition:
    """Return the position that a cursor holds. Raises UsageError for a cursor of another sort, or of none."""
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        own_sort, is_missing, value, device = msgspec.json.decode(text, type=tuple[str, bool, str | int, str])
    except (ValueError, binascii.Error, *UNDECODABLE):
        own_sort = ""
    if own_sort != sort:
        raise UsageError(_FOREIGN)
    return DevicePosition(is_missing, value, device)


def encode_call_cursor(position: CallPosition) -> str:
    """Return the cursor of a position in the list of calls."""
    return f"{position.at}-{position.ref}"


def decode_call_cursor(cursor: str) -> CallPosition:
    """Return the position that a cursor holds. Raises UsageError for any other text."""
    match = _CALL_CURSOR.fullmatch(cursor)
    if not match:
        raise UsageError(_FOREIGN)
    return CallPosition(int(match[1]), match[2])
