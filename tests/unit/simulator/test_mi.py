"""MI's answers against those of a running OpenSIPS 3.6.8."""

import json
from pathlib import Path
from typing import Any

import pytest

from companion.simulator.mi import SimulatedMi
from companion.simulator.node import Node, Settings
from companion.simulator.phone import SimulatedPhone, SimulatedPush
from companion.simulator.subscriptions import Subscriptions

CAPTURES = Path(__file__).parents[2] / "captures" / "opensips-3.6.8"
NO_SUCH_AOR = {"code": 404, "message": "AOR not found"}
WRONG_COUNT = {"code": -32602, "message": "Invalid params", "data": "Too few or too many parameters"}


class Desk:
    """An MI over a node with two of alice's devices and a sleeping carol."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.events: list[str] = []
        self.node = Node(Settings(), lambda name, _: self.events.append(name), lambda now: 1795452109 + now)
        self.subscriptions = Subscriptions()
        self.subscriptions.add("E_COMPANION_PUSH", "route:E_COMPANION_PUSH")
        self.mi = SimulatedMi(self.node, self.subscriptions, lambda name, text: self.sent.append((name, text)))
        self.alice = SimulatedPhone("alice", "6513270e")
        self.carol = SimulatedPhone("carol", push=SimulatedPush("fcm", "token", "proj-1"), transport="udp")
        for phone in (self.alice, SimulatedPhone("alice", "a170b338"), self.carol):
            self.node.add(phone)
        self.node.advance(31)

    def reply(self, method: str, params: Any = None) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "method": method, "id": 1} | ({} if params is None else {"params": params})
        answer = self.mi.answer(json.dumps(request).encode())
        assert answer is not None
        reply: dict[str, Any] = json.loads(answer)
        assert (reply["jsonrpc"], reply["id"]) == ("2.0", 1)
        return reply

    def result(self, method: str, params: Any = None) -> Any:
        return self.reply(method, params)["result"]

    def error(self, method: str, params: Any = None) -> Any:
        return self.reply(method, params)["error"]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def capture(name: str) -> Any:
    return json.loads((CAPTURES / f"{name}.json").read_text())["result"]


def shape(value: Any) -> Any:
    """Keys in their order and types: what a client relies on."""
    if isinstance(value, dict):
        return [(key, shape(child)) for key, child in value.items()]
    return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__


def test_contacts_are_shown_as_captured(desk: Desk) -> None:
    """ul_show_contact and ul_dump have OpenSIPS' keys, order and types."""
    mine = desk.result("ul_show_contact", {"table_name": "location", "aor": "alice"})

    assert shape(mine) == shape(capture("ul_show_contact"))
    assert shape(desk.result("ul_dump")) == shape(capture("ul_dump"))
    assert mine["Contacts"][0]["SIP_instance"] == "<urn:uuid:6513270e>"
    assert mine["Contacts"][0]["Expires"] == 569
    assert mine["Contacts"][0]["Ping-Latency"] == desk.node.usrloc.find("alice", desk.alice.uri).contact.latency  # type: ignore[union-attr]


def test_what_a_contact_lacks_is_left_out(desk: Desk) -> None:
    """A contact without instance has no Attr and no SIP_instance; push shows in Flags."""
    contact = desk.result("ul_show_contact", ["location", "carol"])["Contacts"][0]

    assert not {"Attr", "SIP_instance", "Path"} & set(contact)
    assert contact["Flags"] == 4
    assert contact["Cflags"] == "SIPPING_CALC_LATENCY SIP_PING_FLAG"


def test_a_brief_dump_has_only_names(desk: Desk) -> None:
    """ul_dump with brief lists AORs alone."""
    domain = desk.result("ul_dump", {"brief": 1})["Domains"][0]

    assert domain == {"name": "location", "hash_size": 512, "AORs": [{"AOR": "alice"}, {"AOR": "carol"}]}


def test_removing_a_contact(desk: Desk) -> None:
    """ul_rm_contact deletes and says so; the AOR goes with its last contact; a second call finds nothing."""
    params = {"table_name": "location", "aor": "carol", "contact": desk.carol.uri}
    desk.events.clear()

    assert desk.error("ul_rm_contact", params | {"contact": "sip:no@x"}) == {
        "code": 404,
        "message": "Contact not found",
    }
    assert desk.result("ul_rm_contact", params) == "OK"
    assert desk.events == ["E_UL_CONTACT_DELETE", "E_UL_AOR_DELETE"]
    assert desk.error("ul_rm_contact", params) == NO_SUCH_AOR
    assert [call.method for call in desk.mi.calls] == ["ul_rm_contact"] * 3
    assert desk.mi.calls[1].params == params


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("ul_show_contact", {"table_name": "location", "aor": "nobody"}, NO_SUCH_AOR),
        ("ul_show_contact", {"table_name": "location", "aor": 5}, NO_SUCH_AOR),
        ("ul_show_contact", ["nope", "alice"], {"code": 404, "message": "Table not found"}),
        ("ul_show_contact", {"aor": "alice"}, WRONG_COUNT),
        ("ul_show_contact", {"table_name": "location", "aor": "alice", "x": "y"}, WRONG_COUNT),
        ("ul_rm_contact", ["location", "alice"], WRONG_COUNT),
        ("get_statistics", None, WRONG_COUNT),
        ("no_such", None, {"code": -32601, "message": "Method not found"}),
        ("usrloc:dump", None, {"code": -32601, "message": "Method not found"}),
        ("raise_event", {"event": "E_NO"}, {"code": 404, "message": "Event not registered"}),
        ("raise_event", ["E_UL_LATENCY_UPDATE"], {"code": 480, "message": "Temporarily Unavailable"}),
        ("raise_event", ["E_COMPANION_PUSH", "garbage"], {"code": 400, "message": "Bad Params"}),
        ("raise_event", ["E_COMPANION_PUSH", {"aor": "x"}], {"code": 400, "message": "No Params"}),
        ("event_subscribe", ["E_NO", "udp:127.0.0.1:1"], {"code": 400, "message": "Bad parameter value"}),
        ("event_subscribe", ["E_CORE_LOG", "bla:127.0.0.1:1"], {"code": 400, "message": "Bad parameter value"}),
        ("subscribers_list", ["E_NO"], {"code": 404, "message": "Event not published"}),
    ],
)
def test_errors_are_opensips_own(desk: Desk, method: str, params: Any, error: dict[str, Any]) -> None:
    """What is wrong with a call is said in OpenSIPS' codes and words."""
    assert desk.error(method, params) == error


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (b"garbage", b'{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}'),
        (b"[]", b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":null}'),
        (
            b'{"method":"uptime","id":1}',
            b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid Request"},"id":1}',
        ),
        (b'{"jsonrpc":"2.0","method":"uptime"}', None),
    ],
)
def test_what_is_no_request(desk: Desk, body: bytes, reply: bytes | None) -> None:
    """Broken requests get the captured bytes; a notification gets no reply at all."""
    assert desk.mi.answer(body) == reply


def test_events_list_is_the_captured_one(desk: Desk) -> None:
    """events_list answers as captured, ids and all."""
    assert desk.result("events_list") == capture("events_list")


def test_subscribing_lasts_its_time(desk: Desk) -> None:
    """event_subscribe lists the socket with its expiry; one of 0 seconds gets nothing; the default is an hour."""
    socket = "udp:127.0.0.1:5066"
    assert desk.result("event_subscribe", ["E_UL_CONTACT_INSERT", socket]) == "OK"
    assert desk.result("event_subscribe", ["E_UL_CONTACT_UPDATE", socket, 0]) == "OK"

    answer = desk.result("subscribers_list", {"event": "E_UL_CONTACT_INSERT"})["Event"]
    assert answer["name"] == "E_UL_CONTACT_INSERT"
    assert answer["Subscribers"][0]["expire"] == 3600
    assert desk.subscriptions.list_sockets("E_UL_CONTACT_INSERT") == [socket]
    assert desk.subscriptions.list_sockets("E_UL_CONTACT_UPDATE") == []
    assert desk.result("subscribers_list", ["E_CORE_LOG"]) == {"Event": {}}
    assert [event["name"] for event in desk.result("subscribers_list")["Events"]] == [
        "E_COMPANION_PUSH",
        "E_UL_CONTACT_INSERT",
    ]


def test_raising_a_push_wakes_the_phone(desk: Desk) -> None:
    """raise_event E_COMPANION_PUSH with named parameters pushes to that contact, and goes to subscribers as given."""
    desk.carol.fall_asleep()
    params = json.dumps({"aor": "carol", "uri": desk.carol.uri})

    assert desk.result("raise_event", {"event": "E_COMPANION_PUSH", "params": params}) == "OK"
    desk.node.advance(desk.node.agenda.now + 5)
    assert desk.carol.state == "on"
    assert json.loads(desk.sent[0][1])["params"] == {"aor": "carol", "uri": desk.carol.uri}


def test_a_refresh_event_needs_a_subscriber_and_wakes_too(desk: Desk) -> None:
    """E_UL_CONTACT_REFRESH is 480 until somebody subscribes, then it reuses the operator's push route."""
    desk.carol.fall_asleep()
    call = ["E_UL_CONTACT_REFRESH", json.dumps({"aor": "carol"})]

    assert desk.error("raise_event", call)["code"] == 480
    desk.subscriptions.add("E_UL_CONTACT_REFRESH", "route:E_UL_CONTACT_REFRESH")
    assert desk.result("raise_event", call) == "OK"
    desk.node.advance(desk.node.agenda.now + 5)
    assert desk.carol.state == "on"


def test_version_uptime_processes_and_statistics(desk: Desk) -> None:
    """The small commands answer in OpenSIPS' form."""
    assert desk.result("version") == {"Server": "OpenSIPS (3.6.8 (x86_64/linux))"}
    assert desk.result("uptime")["Up time"] == "0 [sec]"
    assert desk.result("ps")["Processes"][0] == {"ID": 0, "PID": 100, "Type": "attendant"}
    assert desk.result("get_statistics", {"statistics": ["usrloc:location-contacts"]}) == {
        "usrloc:location-contacts": 3
    }


def test_opensips_4_knows_new_names_and_wants_the_domain(desk: Desk) -> None:
    """On 4.0 usrloc:rm_contact and evi:raise_event work like the old names; an AOR without domain is refused."""
    desk.mi.version = "4.0.1"
    desk.mi.use_domain = True

    assert desk.result("evi:raise_event", ["E_COMPANION_PUSH"]) == "OK"
    assert desk.error("usrloc:rm_contact", ["location", "alice", "sip:x"]) == {
        "code": 400,
        "message": "Domain missing in AOR",
    }
    assert desk.error("usrloc:rm_contact", ["location", "alice@x", "sip:x"]) == NO_SUCH_AOR
