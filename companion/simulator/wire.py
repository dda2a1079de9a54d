"""Encode the JSON-RPC notifications of OpenSIPS 3.6, to the byte."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Address = tuple[str, int]


@dataclass
class SimulatedContact:
    """Hold one binding; the names are those of the event parameters.

    `expires` is in epoch seconds, `latency` in microseconds: 0 = never pinged, LOST_PING_US = the last ping was lost.
    """

    aor: str
    uri: str
    callid: str
    expires: int
    domain: str = "location"
    received: str | None = None
    path: str | None = None
    qval: int = -1
    user_agent: str = ""
    socket: str = "udp:127.0.0.1:5060"
    bflags: int = 0
    cseq: int = 1
    attr: str = ""
    latency: int = 0
    shtag: str = ""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
CONTACT_PARAMS = (
    *("domain", "aor", "uri", "received", "path", "qval", "user_agent", "socket", "bflags"),
    *("expires", "callid", "cseq", "attr", "latency", "shtag"),
)
REFRESH_PARAMS = tuple(name for name in CONTACT_PARAMS if name not in {"path", "qval", "cseq", "latency"})


def encode_contact_event(name: str, contact: SimulatedContact) -> bytes:
    """Encode E_UL_CONTACT_INSERT, _UPDATE, _DELETE or E_UL_LATENCY_UPDATE: all have the same parameters."""
    return encode_notification(name, {param: getattr(contact, param) for param in CONTACT_PARAMS})


def encode_refresh_event(contact: SimulatedContact, reason: str, req_callid: str | None = None) -> bytes:
    """Encode E_UL_CONTACT_REFRESH: OpenSIPS asks for a push, `reason` "reg-refresh" or "ini-INVITE" and the like."""
    params = {param: getattr(contact, param) for param in REFRESH_PARAMS}
    return encode_notification("E_UL_CONTACT_REFRESH", {**params, "reason": reason, "req_callid": req_callid})


def encode_aor_event(name: str, aor: str, domain: str = "location") -> bytes:
    """Encode E_UL_AOR_INSERT or E_UL_AOR_DELETE."""
    return encode_notification(name, {"domain": domain, "aor": aor})


def encode_disconnect_event(source: Address, destination: Address, proto: str) -> bytes:
    """Encode E_CORE_TCP_DISCONNECT of the connection that a phone held from `source`."""
    return encode_notification(
        "E_CORE_TCP_DISCONNECT",
        {
            "src_ip": source[0],
            "src_port": source[1],
            "dst_ip": destination[0],
            "dst_port": destination[1],
            "proto": proto,
        },
    )


def encode_notification(method: str, params: Mapping[str, Any]) -> bytes:
    return dump_json({"jsonrpc": "2.0", "method": method, "params": params})


def dump_json(value: Any) -> bytes:
    """Print JSON like OpenSIPS' cJSON: no spaces, UTF-8 as it is, only quotes, backslash and controls escaped."""
    return _encode(value).encode()
