"""Start, stop and list dynamic traces of OpenSIPS' module tracer, which mirror SIP messages over HEP."""

from typing import Any, Final

from companion.config import BridgeSection, OpensipsSection
from companion.config.address import parse_address
from companion.errors import ConfigError, MiCallError
from companion.opensips.mi import Mi
from companion.opensips.subscriptions import is_any_address

IN_USE: Final = "already used"
"""What MI says of a trace that is there already."""
MISSING_CODES: Final = (-32601, -32001)
"""No such method, and a bare name that several modules of 4.0 have."""


def hep_destination(table: OpensipsSection, bridge: BridgeSection) -> str:
    """Return where an OpenSIPS sends the SIP messages of recorded devices, such as udp:127.0.0.1:9060.

    Raises ConfigError where there is no such address.
    """
    address = table.hep_to or bridge.hep
    if not address:
        raise ConfigError("[bridge] hep is not set, so no SIP messages can be received")
    parse_address(address)
    if is_any_address(address):
        raise ConfigError(
            f"SIP messages can not be sent to {address}: set [[opensips]] hep_to to an address it reaches"
        )
    return address


async def load_traces(mi: Mi) -> Any:
    """Return MI's list of traces. 4.0 has it under its full name alone.

    Raises MiError; MiCallError -32601 where tracer is not loaded.
    """
    try:
        return await mi.call("trace")
    except MiCallError as error:
        if error.code not in MISSING_CODES:
            raise
    return await mi.call("tracer:trace")


async def start_trace(mi: Mi, trace_id: str, destination: str, trace_filter: str) -> None:
    """Mirror the transactions that fit a filter to an address; nothing happens where this trace is there already.

    Raises MiError.
    """
    scheme, host_port = destination.split(":", 1)
    uri = f"hep:{host_port};transport={scheme};version=3"
    try:
        await mi.call("trace_start", id=trace_id, uri=uri, filter=[trace_filter], scope="t", type="sip")
    except MiCallError as error:
        if IN_USE not in error.message:
            raise


async def stop_trace(mi: Mi, trace_id: str) -> None:
    """End a trace; nothing happens where it has ended.

    Raises MiError.
    """
    try:
        await mi.call("trace_stop", id=trace_id)
    except MiCallError as error:
        if error.code in MISSING_CODES:
            raise
