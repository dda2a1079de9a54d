"""Answer MI commands as OpenSIPS 3.6 does (4.x: with its new names, too)."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from companion.simulator.json_rpc import (
    InvalidParamsError,
    MiReplyError,
    is_request,
    name_params,
    read_integer,
    read_string,
    render_reply,
)
from companion.simulator.node import Node
from companion.simulator.sink import is_event_socket
from companion.simulator.subscriptions import EVENTS, Subscriptions
from companion.simulator.usrloc import DOMAIN, HASH_SIZE
from companion.simulator.wire import dump_json

PUSH_EVENTS = {"E_COMPANION_PUSH", "E_UL_CONTACT_REFRESH"}
DEFAULT_EXPIRE = 3600


class MiCall(NamedTuple):
    """Hold a call as it came, for tests."""

    method: str
    params: dict[str, Any]


class Command(NamedTuple):
    """Hold a handler and its recipes: the parameter lists that it takes."""

    handler: Callable[[Mapping[str, Any]], Any]
    recipes: tuple[tuple[str, ...], ...] = ((),)


class SimulatedMi:
    """Answer JSON-RPC bodies about one node. `send_event` gets what raise_event raises."""

    def __init__(self, node: Node, subscriptions: Subscriptions, send_event: Callable[[str, bytes], None]) -> None:
        self.version = "3.6.8"
        self.use_domain = False
        self.calls: list[MiCall] = []
        self.traces: dict[str, str] = {}
        """The filter of each dynamic trace, by its id."""
        self.started_at = time.time()
        self._node = node
        self._subscriptions = subscriptions
        self._send_event = send_event
        self._commands = self._make_commands()

    def answer(self, body: bytes) -> bytes | None:
        """Return the reply to one request; None for a notification (no id), which OpenSIPS never answers."""
        try:
            request = json.loads(body)
        except ValueError:
            return render_reply(None, MiReplyError(-32700, "Parse error"))
        if not isinstance(request, dict) or not is_request(request):
            return render_reply(
                request.get("id") if isinstance(request, dict) else None, MiReplyError(-32600, "Invalid Request")
            )
        outcome = self._run(request["method"], request.get("params", {}))
        return render_reply(request["id"], outcome) if "id" in request else None

    def _run(self, method: str, params: dict[str, Any] | list[Any]) -> Any:
        try:
            command = self._find_command(method)
            arguments = name_params(command.recipes, params)
            self.calls.append(MiCall(method, arguments))
            return command.handler(arguments)
        except MiReplyError as error:
            return error

    def _find_command(self, method: str) -> Command:
        module, colon, name = method.partition(":")
        if colon and not self.version.startswith("3."):
            method = f"ul_{name}" if module == "usrloc" else name
        if method not in self._commands:
            raise MiReplyError(-32601, "Method not found")
        return self._commands[method]

    def _make_commands(self) -> dict[str, Command]:
        subscribe = ("event", "socket")
        return {
            "ul_dump": Command(self._ul_dump, ((), ("brief",))),
            "ul_show_contact": Command(self._ul_show_contact, (("table_name", "aor"),)),
            "ul_rm_contact": Command(self._ul_rm_contact, (("table_name", "aor", "contact"),)),
            "raise_event": Command(self._raise_event, (("event",), ("event", "params"))),
            "event_subscribe": Command(self._event_subscribe, (subscribe, (*subscribe, "expire"))),
            "events_list": Command(self._events_list),
            "subscribers_list": Command(self._subscribers_list, ((), ("event",))),
            "trace": Command(self._trace),
            "trace_start": Command(
                self._trace_start, (("id", "uri", "filter"), ("id", "uri", "filter", "scope", "type"))
            ),
            "trace_stop": Command(self._trace_stop, (("id",),)),
            "version": Command(lambda _: {"Server": f"OpenSIPS ({self.version} (x86_64/linux))"}),
            "uptime": Command(self._uptime),
            "ps": Command(lambda _: {"Processes": _list_processes(self._node)}),
            "get_statistics": Command(self._get_statistics, (("statistics",),)),
        }

    def _ul_dump(self, params: Mapping[str, Any]) -> dict[str, Any]:
        brief = read_integer(params.get("brief", 0))
        aors = [{"AOR": aor} if brief else self._describe_aor(aor) for aor in self._node.usrloc.aors]
        return {"Domains": [{"name": DOMAIN, "hash_size": HASH_SIZE, "AORs": aors}]}

    def _ul_show_contact(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._describe_aor(self._find_aor(params))

    def _ul_rm_contact(self, params: Mapping[str, Any]) -> str:
        binding = self._node.usrloc.find(self._find_aor(params), read_string(params["contact"]))
        if binding is None:
            raise MiReplyError(404, "Contact not found")
        self._node.usrloc.delete(binding, release=True)
        return "OK"

    def _trace(self, _: Mapping[str, Any]) -> dict[str, Any]:
        rows = [
            {"name": name, "type": "HEP", "state": "dynamic", "filters": [dict([one.split("=", 1)])]}
            for name, one in sorted(self.traces.items())
        ]
        return {"global": "on", "trace destinations": rows}

    def _trace_start(self, params: Mapping[str, Any]) -> str:
        name = read_string(params["id"])
        if name in self.traces:
            raise MiReplyError(500, "dynamic trace id already used")
        self.traces[name] = str(params["filter"][0])
        return "OK"

    def _trace_stop(self, params: Mapping[str, Any]) -> str:
        name = read_string(params["id"])
        if name not in self.traces:
            raise MiReplyError(400, "Bad parameter value")
        if name == min(self.traces):  # OpenSIPS ends only the first of its list, and says OK in any case
            del self.traces[name]
        return "OK"

    def _find_aor(self, params: Mapping[str, Any]) -> str:
        if read_string(params["table_name"]) != DOMAIN:
            raise MiReplyError(404, "Table not found")
        user, at, _ = (text := read_string(params["aor"])).partition("@")
        if self.use_domain and not at:
            raise MiReplyError(400, "Domain missing in AOR")
        aor = text if self.use_domain else user
        if self._node.usrloc.find_contacts(aor) is None:
            raise MiReplyError(404, "AOR not found")
        return aor

    def _describe_aor(self, aor: str) -> dict[str, Any]:
        now = self._node.epoch_now
        contacts = self._node.usrloc.find_contacts(aor) or []
        return {"AOR": aor, "Contacts": [binding.describe(now) for binding in contacts]}

    def _raise_event(self, params: Mapping[str, Any]) -> str:
        event = read_string(params["event"])
        if event not in EVENTS:
            raise MiReplyError(404, "Event not registered")
        if not self._subscriptions.list_sockets(event):
            raise MiReplyError(480, "Temporarily Unavailable")
        event_params = _read_event_params(params.get("params"))
        if event in PUSH_EVENTS and event_params:
            self._node.push(str(event_params.get("aor", "")), str(event_params.get("uri", "")))
        self._send_event(event, dump_json({"jsonrpc": "2.0", "method": event, "params": event_params}))
        return "OK"

    def _event_subscribe(self, params: Mapping[str, Any]) -> str:
        event, socket = read_string(params["event"]), read_string(params["socket"])
        expire = read_integer(params.get("expire", DEFAULT_EXPIRE))
        if not event or not socket:
            raise InvalidParamsError
        if expire < 0:
            raise InvalidParamsError("Negative expire value")
        if event not in EVENTS or not is_event_socket(socket):
            raise MiReplyError(400, "Bad parameter value")
        self._subscriptions.add(event, socket, expire)
        return "OK"

    def _events_list(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"Events": [{"name": name, "id": number} for number, name in enumerate(EVENTS)]}

    def _subscribers_list(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if "event" not in params:
            description = (self._subscriptions.describe(event) for event in EVENTS)
            return {"Events": [event for event in description if event]}
        if (event := read_string(params["event"])) not in EVENTS:
            raise MiReplyError(404, "Event not published")
        return {"Event": self._subscriptions.describe(event)}

    def _uptime(self, _: Mapping[str, Any]) -> dict[str, str]:
        now = time.time()
        return {
            "Now": time.ctime(now),
            "Up since": time.ctime(self.started_at),
            "Up time": f"{int(now - self.started_at)} [sec]",
        }

    def _get_statistics(self, params: Mapping[str, Any]) -> dict[str, int]:
        names = params["statistics"]
        if not isinstance(names, list):
            raise InvalidParamsError
        users = len(self._node.usrloc.aors)
        values = {
            "registered_users": users,
            f"{DOMAIN}-users": users,
            f"{DOMAIN}-contacts": sum(1 for _ in self._node.usrloc),
            f"{DOMAIN}-expires": 0,
        }
        every = "usrloc:" in names
        return {
            f"usrloc:{name}": value
            for name, value in values.items()
            if every or name in names or f"usrloc:{name}" in names
        }


def _read_event_params(params: Any) -> dict[str, Any]:
    """Read named parameters from a JSON object in a string. A list gives nameless ones, which no push needs."""
    if params is None or isinstance(params, list):
        return {}
    if not isinstance(params, str):
        raise MiReplyError(400, "No Params")
    try:
        event_params = json.loads(params)
    except ValueError:
        event_params = None
    if not isinstance(event_params, dict):
        raise MiReplyError(400, "Bad Params")
    return event_params


def _list_processes(node: Node) -> list[dict[str, Any]]:
    host, port = node.settings.udp_socket
    kinds = ("attendant", "HTTPD", "time_keeper", "timer", f"SIP receiver udp:{host}:{port}", "Timer handler")
    return [{"ID": number, "PID": 100 + number, "Type": kind} for number, kind in enumerate(kinds)]
