"""event_zeromq, built for the OpenSIPS of the tests, and what comes over its bus."""

import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import httpx2
import msgspec
import zmq

from companion.bus.curve import Curve
from companion.bus.envelope import HEARTBEAT, Message, decode
from companion.bus.sequences import Sequences
from companion.simulator.redis import find_free_port
from tests.acceptance.conftest import OLD, Build, Ports, Server

EVENT: Final = "E_COMPANION_TEST"
PATIENCE: Final = 120
"""Seconds for what takes two on a machine that has nothing else to do."""

PARAMS: Final[Mapping[str, int | str]] = {
    "domain": "location",
    "user": "alice",
    "uri": "sip:alice@ae97d0eda82f.invalid;transport=ws",
    "received": "sip:127.0.0.1:37468;transport=ws",
    "path": "",
    "qval": -1,
    "user_agent": "Browser Phone 0.3.29 (SIPJS - 0.20.0)",
    "socket": "ws:127.0.0.1:20101",
    "bflags": 14,
    "expires": 1795833314,
    "callid": "3898d190f9ebdacc0cb1e29c658cda000001",
    "cseq": 1,
    "attr": "<urn:uuid:6513270e-269e-0d37-f2a7-000000000001>",
    "latency": 41234,
    "shtag": "",
}
"""The parameters of a usual event, without the AOR: so many events of one would be stamped into the future."""

CONFIG: Final = """
log_level=3
stderror_enabled=yes
syslog_enabled=no
udp_workers=2
max_while_loops=100000000
socket=udp:127.0.0.1:{ports.udp}
socket=ws:127.0.0.1:{ports.ws}
mpath="{build.modules}/"
loadmodule "proto_udp.so"
loadmodule "proto_ws.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "httpd.so"
loadmodule "mi_http.so"
loadmodule "event_datagram.so"
loadmodule "event_virtual.so"
loadmodule "{module}"
{by_version}
modparam("httpd", "ip", "127.0.0.1")
modparam("httpd", "port", {ports.mi})
modparam("event_zeromq", "node", "sip1")
{parameters}

startup_route {{
    subscribe_event("{event}", "{socket}");
}}

event_route[E_COMPANION_FLOOD] {{
{assignments}
    $var(left) = $param(count);
    while ($var(left) > 0) {{
        raise_event("{event}", $avp(names), $avp(values));
        $var(left) = $var(left) - 1;
    }}
    xlog("L_NOTICE", "raised $param(count)\\n");
}}

route {{
{assignments}
    $var(before) = $Tsm;
    raise_event("{event}", $avp(names), $avp(values));
    $var(took) = $Tsm - $var(before);
    sl_send_reply(200, "$var(took)");
}}
"""
"""`$Tsm` is the part of the time below a second, in µs."""

REQUEST: Final = (
    "OPTIONS sip:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{number}\r\n"
    "From: <sip:test@127.0.0.1>;tag=1\r\nTo: <sip:test@127.0.0.1>\r\nCall-ID: {number}@{port}\r\n"
    "CSeq: {number} OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)
STATUS_LINE: Final = re.compile(rb"SIP/2\.0 200 (-?\d+)\r\n")


def _assign(params: Mapping[str, int | str]) -> str:
    """Return the lines that fill the names and values of raise_event, which reads both from the last one on."""
    pairs = reversed(list(params.items()))
    return "\n".join(f"    $avp(names) = {_quote(name)};\n    $avp(values) = {_quote(value)};" for name, value in pairs)


def _quote(value: int | str) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'


class Answers:
    """How long `raise` held up the workers (of that the part below a second), and the slowest answer in seconds."""

    def __init__(self) -> None:
        self.raises_us: list[int] = []
        self.slowest = 0.0

    def __iadd__(self, other: "Answers") -> Self:
        self.raises_us += other.raises_us
        self.slowest = max(self.slowest, other.slowest)
        return self

    def percentile_us(self, percent: int) -> int:
        return sorted(self.raises_us)[len(self.raises_us) * percent // 100]


class Node(Server):
    """An OpenSIPS that publishes `event` with the module, as often as it is told to."""

    def __init__(
        self,
        build: Build,
        folder: Path,
        module: Path,
        *,
        socket: str = "",
        event: str = EVENT,
        **parameters: Any,
    ) -> None:
        ports = Ports.free()
        self._event = event
        self.bus = f"tcp://127.0.0.1:{find_free_port()}"
        lines = (f'modparam("event_zeromq", "{name}", {_quote(value)})' for name, value in parameters.items())
        config = CONFIG.format(
            ports=ports,
            build=build,
            module=module,
            by_version=OLD if build.version < (3, 5) else "",
            parameters="\n".join(lines),
            event=event,
            assignments=_assign(PARAMS),
            socket=socket.replace("BUS", self.bus) or f"zeromq:{self.bus}",
        )
        super().__init__(build, folder, config, ports, domain=False)

    def __enter__(self) -> Self:
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait(self) -> None:
        """Wait until its events are subscribed, too: startup_route may run after it listens."""
        super().wait()
        wait_until(lambda: {self._event, "E_COMPANION_FLOOD"} <= self._subscribed())

    def _subscribed(self) -> set[str]:
        return {event["name"] for event in self.call("subscribers_list")["result"]["Events"]}

    def call(self, method: str, **params: Any) -> Any:
        """Call MI and return the whole answer."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return httpx2.post(self.mi_url, json=body, timeout=20).json()

    def flood(self, count: int) -> None:
        """Let one worker raise so many events, which goes on after this returns."""
        params = f'{{"count": {count}}}'
        assert self.call("raise_event", event="E_COMPANION_FLOOD", params=params)["result"] == "OK"

    def statistics(self) -> dict[str, int]:
        """Return the module's statistics by their short names."""
        answer = self.call("get_statistics", statistics=["event_zeromq:"])["result"]
        return {name.partition(":")[2]: int(value) for name, value in answer.items()}

    def request(self, count: int) -> Answers:
        """Send SIP requests one by one; a worker raises an event for each. Raises TimeoutError without an answer."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.settimeout(PATIENCE)
            phone.connect(("127.0.0.1", self.udp_port))
            port = phone.getsockname()[1]
            answers = Answers()
            for number in range(count):
                started = time.monotonic()
                phone.send(REQUEST.format(port=port, number=number + 1).encode())
                status = STATUS_LINE.match(phone.recv(65536))
                assert status
                answers.slowest = max(answers.slowest, time.monotonic() - started)
                answers.raises_us.append(int(status[1]) % 1_000_000)
        return answers

    def await_floods(self, count: int) -> None:
        """Wait until so many floods were raised."""
        wait_until(lambda: self.log.count("raised ") >= count)

    @property
    def publisher(self) -> int:
        """Return the process that publishes: the only grandchild of OpenSIPS."""
        children = find_children()
        (publisher,) = (pid for child in children.get(self.pid, []) for pid in children.get(child, []))
        return publisher


def find_children() -> Mapping[int, list[int]]:
    """Return the children of each process; zombies are none."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = file.read_text().partition(" ")
        except OSError:
            continue
        state, parent = rest.rpartition(")")[2].split()[:2]
        if state != "Z":
            children.setdefault(int(parent), []).append(int(pid))
    return children


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


class Listener:
    """A subscriber that counts as the consumer does: every event is received or missed. A slow one has no room."""

    def __init__(self, endpoint: str, curve: Curve | None = None, *, slow: bool = False) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 1 if slow else 0)
        self._socket.setsockopt(zmq.RCVBUF, 4096 if slow else -1)
        if curve:
            self._socket.curve_secretkey = curve.secret.encode()
            self._socket.curve_publickey = zmq.curve_public(curve.secret.encode())
            self._socket.curve_serverkey = curve.server.encode()
        self._socket.subscribe(b"")
        self._socket.connect(endpoint)
        self._sequences = Sequences()
        self._last_ts = 0
        self.received = 0
        self.missed = 0
        self.repeated = 0
        self.heartbeats = 0
        self.runs: list[int] = []
        self.ended: list[int] = []

    def hear(self) -> Self:
        """Take what is there."""
        while self._socket.poll(0):
            topic, body = self._socket.recv_multipart()
            self._take(decode(topic, body))
        return self

    def _take(self, message: Message) -> None:
        if message.run not in self.runs:
            self.runs.append(message.run)
        check = self._sequences.check(message)
        if message.name == HEARTBEAT:
            params = msgspec.msgpack.decode(message.events[0][1])
            self.heartbeats += 1
            self.missed += sum(self._sequences.check_tail(message.node, params["seqs"]).values())
            self.ended += [message.run] if params.get("end") else []
            return
        self.missed += check.missed
        self.repeated += check.repeated
        self.received += len(message.events) - check.repeated
        for ts, _ in message.events:
            assert ts >= self._last_ts or check.repeated
            self._last_ts = max(ts, self._last_ts)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@contextmanager
def listening(endpoint: str, curve: Curve | None = None, *, slow: bool = False) -> Iterator[Listener]:
    listener = Listener(endpoint, curve, slow=slow)
    try:
        yield listener
    finally:
        listener.close()
