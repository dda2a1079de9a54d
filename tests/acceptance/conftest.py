"""A real OpenSIPS: OPENSIPS_BIN and OPENSIPS_MODULES name it, else `opensips` on PATH is taken."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest

from companion.simulator.redis import find_free_port

HERE = Path(__file__).parent
DEADLINE = 30
BUILD_MODULE = Path(__file__).parents[2] / "opensips/event_zeromq/build.sh"
NO_SOURCE = "event_zeromq is not tested: OPENSIPS_SRC names no source of this OpenSIPS"
HOW_TO_GET_ONE = "no OpenSIPS here: set OPENSIPS_BIN and OPENSIPS_MODULES, or put opensips on PATH"
PASSWORD = "wonder"
# a contact that is pinged again within ping_threshold and a second or so can crash nathelper: keep well away
PING_INTERVAL = 4
MODULE_FOLDERS = ("lib/*/opensips/modules", "lib*/opensips/modules", "local/lib*/opensips/modules")

CONFIG = """
log_level=3
stderror_enabled=yes
syslog_enabled=no
udp_workers=1
tcp_workers=1
auto_aliases=no
socket=udp:127.0.0.1:{udp}
socket=ws:127.0.0.1:{ws}
mpath="{modules}/"
loadmodule "proto_udp.so"
loadmodule "proto_ws.so"
loadmodule "signaling.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "sipmsgops.so"
loadmodule "auth.so"
loadmodule "httpd.so"
loadmodule "mi_http.so"
loadmodule "event_datagram.so"
loadmodule "event_routing.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "nathelper.so"
{by_version}
modparam("httpd", "ip", "127.0.0.1")
modparam("httpd", "port", {mi})
modparam("auth", "username_spec", "$avp(user)")
modparam("auth", "password_spec", "$avp(password)")
modparam("auth", "calculate_ha1", 1)
modparam("usrloc", "working_mode_preset", "single-instance-no-db")
modparam("usrloc", "nat_bflag", "NAT")
modparam("usrloc", "timer_interval", 1)
modparam("registrar", "min_expires", 1)
modparam("registrar", "received_avp", "$avp(received)")
modparam("registrar", "attr_avp", "$avp(attr)")
modparam("registrar", "pn_enable", 1)
modparam("registrar", "pn_providers", "fcm")
modparam("nathelper", "received_avp", "$avp(received)")
modparam("nathelper", "natping_interval", {interval})
modparam("nathelper", "natping_tcp", 1)
modparam("nathelper", "ping_threshold", 1)
modparam("nathelper", "ping_nated_only", 0)
modparam("nathelper", "sipping_bflag", "SIP_PING")
modparam("nathelper", "sipping_latency_flag", "LATENCY")
modparam("nathelper", "sipping_from", "sip:ping@127.0.0.1")

startup_route {{
    subscribe_event("E_UL_CONTACT_INSERT", "udp:127.0.0.1:{events}");
    subscribe_event("E_UL_CONTACT_UPDATE", "udp:127.0.0.1:{events}");
    subscribe_event("E_UL_CONTACT_DELETE", "udp:127.0.0.1:{events}");
    subscribe_event("E_UL_LATENCY_UPDATE", "udp:127.0.0.1:{events}");
    subscribe_event("E_CORE_TCP_DISCONNECT", "udp:127.0.0.1:{events}");
}}

event_route[E_COMPANION_PUSH] {{
    xlog("L_NOTICE", "woken: $param(aor) at $param(uri)\\n");
}}

route {{
    if (!is_method("REGISTER")) {{
        sl_send_reply(405, "Method Not Allowed");
        exit;
    }}
    if ($tU =~ "^locked") {{
        $avp(user) = $tU;
        $avp(password) = "{password}";
        if (!pv_www_authorize("127.0.0.1")) {{
            if ($tU == "locked-sha")
                www_challenge("127.0.0.1", "auth", "SHA-256");
            else
                www_challenge("127.0.0.1", "auth", "MD5");
            exit;
        }}
    }}
    fix_nated_register();
    setbflag("NAT");
    setbflag("SIP_PING");
    setbflag("LATENCY");
    $avp(attr) = $(ct.fields(params){{param.value,+sip.instance}});
    if (!save("location"))
        sl_reply_error();
    exit;
}}
"""

# event_route blocks need a module of their own there
OLD = 'loadmodule "event_route.so"'
# without it a request of more than 1024 bytes is answered 400
NEW = 'modparam("httpd", "receive_buf_size", 65536)'


class Build(NamedTuple):
    """An OpenSIPS on this machine; `version` such as (3, 6, 8), `package_mb` for each process where not the default."""

    binary: str
    modules: str
    version: tuple[int, ...]
    package_mb: int = 0


class Ear:
    """The UDP socket that OpenSIPS' events go to."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._events: list[dict[str, Any]] = []

    def params_of(self, method: str, **params: Any) -> list[dict[str, Any]]:
        """The params of all events of that name which had these among them, so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._events.append(json.loads(self._socket.recv(65536)))
        candidates = (event["params"] for event in self._events if event["method"] == method)
        return [candidate for candidate in candidates if params.items() <= candidate.items()]

    def close(self) -> None:
        self._socket.close()


class Ports(NamedTuple):
    """Where an OpenSIPS listens on loopback."""

    udp: int
    ws: int
    wss: int
    mi: int
    probe: int

    @classmethod
    def free(cls) -> Self:
        return cls(*(find_free_port() for _ in cls._fields))


class Server:
    """An OpenSIPS with some configuration, and what it said. `domain` tells whether its AORs carry one.

    `prefix` goes before its command, `host` is where it listens.
    """

    host = "127.0.0.1"

    def __init__(
        self, build: Build, folder: Path, config: str, ports: Ports, *, domain: bool, prefix: Sequence[str] = ()
    ) -> None:
        self.version = build.version
        self._domain = domain
        self._ports = ports
        self._log = folder / "opensips.log"
        file = folder / "opensips.cfg"
        file.write_text(config)
        memory = ["-M", str(build.package_mb)] if build.package_mb else []
        self._command = [*prefix, build.binary, "-F", *memory, "-f", str(file)]
        self.start()

    @property
    def udp_port(self) -> int:
        return self._ports.udp

    @property
    def ws_port(self) -> int:
        return self._ports.ws

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self._ports.ws}"

    @property
    def ws_socket(self) -> str:
        """Return its listening socket for phones as its events name it."""
        return f"ws:127.0.0.1:{self._ports.ws}"

    @property
    def wss_url(self) -> str:
        return f"wss://127.0.0.1:{self._ports.wss}"

    @property
    def mi_url(self) -> str:
        return f"http://{self.host}:{self._ports.mi}/mi"

    @property
    def probe_url(self) -> str:
        return f"udp:{self.host}:{self._ports.probe}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def aor(self, user: str) -> str:
        """How usrloc names a user."""
        return f"{user}@127.0.0.1" if self._domain else user

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=self._log.parent, start_new_session=True
            )

    def wait(self) -> None:
        """Until it answers on MI and listens for phones."""
        deadline = time.monotonic() + DEADLINE
        while not (_accepts(self.host, self._ports.ws) and _accepts(self.host, self._ports.mi)):
            assert self._process.poll() is None, f"opensips did not start:\n{self.log}"
            assert time.monotonic() < deadline, f"opensips does not listen:\n{self.log}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash would: all its processes at once. Its ports are free afterwards."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + DEADLINE
        while _has_group(self._process.pid):
            assert time.monotonic() < deadline, "processes of opensips survived SIGKILL"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and whatever it left behind in its process group."""
        self._process.terminate()
        try:
            self._process.wait(10)
        finally:
            self.kill()


class OpenSIPS(Server):
    """One that runs with CONFIG and tells its events to `ear`."""

    def __init__(self, build: Build, folder: Path) -> None:
        self.ear = Ear()
        ports = Ports.free()
        super().__init__(build, folder, _fill_in(build, ports, self.ear.port), ports, domain=build.version >= (4,))

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            self.ear.close()


def _fill_in(build: Build, ports: Ports, events: int) -> str:
    return CONFIG.format(
        udp=ports.udp,
        ws=ports.ws,
        mi=ports.mi,
        events=events,
        modules=build.modules,
        by_version=OLD if build.version < (3, 5) else NEW,
        password=PASSWORD,
        interval=PING_INTERVAL,
    )


def _has_group(group: int) -> bool:
    """Return whether a process of this group still runs; a zombie does not."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = file.read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state not in "ZX":
                return True
    return False


def _accepts(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), 1):
        return True
    return False


def find_build() -> Build | None:
    """Return the OpenSIPS of this machine, None where there is none."""
    binary = os.environ.get("OPENSIPS_BIN") or shutil.which("opensips")
    if not binary:
        return None
    banner = subprocess.run([binary, "-V"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"opensips (\d+)\.(\d+)\.(\d+)", banner)
    setting = os.environ.get("OPENSIPS_MODULES")
    folders = (
        [Path(setting)] if setting else [folder for where in MODULE_FOLDERS for folder in Path("/usr").glob(where)]
    )
    modules = next((folder for folder in folders if (folder / "usrloc.so").exists()), None)
    assert numbers, f"{binary} is no OpenSIPS: {banner}"
    assert modules, f"the modules of {binary} are not where OPENSIPS_MODULES says, nor below /usr"
    return Build(binary, str(modules), tuple(map(int, numbers.groups())))


def build_module(build: Build, folder: Path) -> Path:
    """Build event_zeromq.so for this OpenSIPS from its source, OPENSIPS_SRC."""
    command = ["sh", str(BUILD_MODULE), os.environ["OPENSIPS_SRC"], str(folder), build.binary]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "event_zeromq.so"


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs an OpenSIPS, and skip it where there is none."""
    missing = find_build() is None
    for item in items:
        if isinstance(item, pytest.Function) and "build" in item.fixturenames and item.path.is_relative_to(HERE):
            item.add_marker("opensips")
            if missing:
                item.add_marker(pytest.mark.skip(reason=HOW_TO_GET_ONE))
            elif "event_zeromq" in item.fixturenames and not os.environ.get("OPENSIPS_SRC"):
                item.add_marker(pytest.mark.skip(reason=NO_SOURCE))


@pytest.fixture(scope="session")
def build() -> Build:
    local_build = find_build()
    assert local_build
    return local_build


@pytest.fixture(scope="session")
def event_zeromq(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the module, built for this OpenSIPS."""
    return build_module(build, tmp_path_factory.mktemp("event_zeromq"))


@pytest.fixture(scope="module")
def opensips(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSIPS]:
    running = OpenSIPS(build, tmp_path_factory.mktemp("opensips"))
    try:
        running.wait()
        yield running
    finally:
        running.stop()


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for a condition; fail when it does not come."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - the condition is anything, not an event
            await asyncio.sleep(0.02)
