"""The simulated wire against the bytes of a running OpenSIPS."""

import json
from pathlib import Path
from typing import Any

from companion.simulator import wire
from companion.simulator.fleet import WEIRD_USER_AGENT
from companion.simulator.wire import SimulatedContact

CAPTURE = Path(__file__).parents[2] / "captures" / "opensips-3.6.8" / "event_datagram.jsonl"
# as OpenSIPS 3.6.8 sent them
DAVE = (
    r'{"jsonrpc":"2.0","method":"E_UL_CONTACT_INSERT","params":{"domain":"location","aor":"dave",'
    r'"uri":"sip:dave@ae97d0eda82f.invalid;transport=ws","received":"sip:127.0.0.1:38588;transport=ws",'
    r'"path":null,"qval":-1,"user_agent":"Weird \"UA\" \\ é \t<b>x</b>","socket":"ws:127.0.0.1:20101",'
    r'"bflags":14,"expires":1795452709,"callid":"923a736994e3bf911a61dbe22e44158b","cseq":1,'
    r'"attr":"<urn:uuid:9531985d-5d9d-c9f8-1818-e811892f902b>","latency":0,"shtag":""}}'
).encode()
ZED = (
    b'{"jsonrpc":"2.0","method":"E_UL_CONTACT_DELETE","params":{"domain":"location","aor":"zed",'
    b'"uri":"sip:zed@1.2.3.4:5","received":null,"path":null,"qval":-1,"user_agent":"Linphone/5",'
    b'"socket":"udp:127.0.0.1:25960","bflags":0,"expires":1795455794,"callid":"azedsip","cseq":1,'
    b'"attr":"<urn:uuid:aa>","latency":0,"shtag":""}}'
)
DISCONNECT = (
    b'{"jsonrpc":"2.0","method":"E_CORE_TCP_DISCONNECT","params":{"src_ip":"127.0.0.1","src_port":38610,'
    b'"dst_ip":"127.0.0.1","dst_port":20101,"proto":"ws"}}'
)
AOR_DELETE = b'{"jsonrpc":"2.0","method":"E_UL_AOR_DELETE","params":{"domain":"location","aor":"grace"}}'


def params_of(text: bytes) -> dict[str, Any]:
    params: dict[str, Any] = json.loads(text)["params"]
    return params


def test_contact_events_are_opensips_own_bytes() -> None:
    """Given the same values, a contact event is byte for byte what OpenSIPS sends, escapes and null included."""
    assert wire.encode_contact_event("E_UL_CONTACT_INSERT", SimulatedContact(**params_of(DAVE))) == DAVE
    assert wire.encode_contact_event("E_UL_CONTACT_DELETE", SimulatedContact(**params_of(ZED))) == ZED


def test_a_user_agent_of_the_fleet_is_as_hostile_as_the_captured_one() -> None:
    """One simulated phone has the captured User-Agent with quotes, backslash, tab, HTML and UTF-8."""
    assert params_of(DAVE)["user_agent"] == WEIRD_USER_AGENT


def test_aor_and_disconnect_events_are_opensips_own_bytes() -> None:
    """AOR and disconnect events have OpenSIPS' keys in OpenSIPS' order."""
    assert wire.encode_aor_event("E_UL_AOR_DELETE", "grace") == AOR_DELETE
    assert wire.encode_disconnect_event(("127.0.0.1", 38610), ("127.0.0.1", 20101), "ws") == DISCONNECT


def test_every_captured_contact_event_comes_out_the_same() -> None:
    """Each contact event of the capture, read and said again, is unchanged."""
    texts = [json.loads(line)["payload"] for line in CAPTURE.read_text().splitlines()]
    contacts = [text for text in texts if '"uri":' in text]

    assert len(contacts) > 200
    assert contacts == [said_again(json.loads(text)) for text in contacts]


def said_again(event: dict[str, Any]) -> str:
    return wire.encode_contact_event(event["method"], SimulatedContact(**event["params"])).decode()


def test_a_refresh_event_has_its_own_parameters() -> None:
    """E_UL_CONTACT_REFRESH has no path, qval, cseq and latency, but reason and req_callid at the end."""
    params = params_of(wire.encode_refresh_event(SimulatedContact(**params_of(DAVE)), "ini-INVITE", "abc"))

    assert list(params) == [
        *("domain", "aor", "uri", "received", "user_agent", "socket", "bflags", "expires"),
        *("callid", "attr", "shtag", "reason", "req_callid"),
    ]
    assert (params["reason"], params["req_callid"]) == ("ini-INVITE", "abc")
