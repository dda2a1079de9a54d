"""A companion in a process of its own, with few file descriptors, and strangers that take what they can get."""

import http.client
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from companion.simulator.redis import find_free_port
from tests.integration.conftest import MakeSetup, Process, until

DESCRIPTORS = 200
LOGIN = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8000\r\n\r\ntoken=" + b"x" * 7000


@contextmanager
def few_descriptors(process: Process) -> Iterator[None]:
    """Let the process have few files from its start on, of which it uses only a part by default."""
    resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS // 2, DESCRIPTORS))
    yield


def ask(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()
    finally:
        connection.close()


def metric(port: int, name: str) -> float:
    lines = [line for line in ask(port, "/metrics").splitlines() if line.startswith(f"opensips_companion_{name} ")]
    return float(lines[0].rpartition(" ")[2])


def is_up(port: int) -> bool:
    try:
        return bool(ask(port, "/healthz"))
    except OSError:
        return False


def memory_mb(pid: int) -> float:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def test_more_strangers_than_descriptors(make_setup: MakeSetup, record_property: Callable[[str, object], None]) -> None:
    """Idle strangers and unfinished logins, three times the descriptors: all is answered, in few lines and bytes."""
    port = find_free_port()
    setup = make_setup(api={"listen": f"127.0.0.1:{port}", "dashboard": False})
    with setup.process("api", "scheduler") as process, few_descriptors(process), ExitStack() as strangers:
        until(lambda: is_up(port), 30)
        soft, hard = resource.prlimit(process.popen.pid, resource.RLIMIT_NOFILE)
        assert (soft, hard) == (DESCRIPTORS, DESCRIPTORS)
        before_mb, slowest = memory_mb(process.popen.pid), 0.0
        for sent in (b"", b"GET / HTTP/1.1\r\nx: ", LOGIN):
            for n in range(DESCRIPTORS):
                stranger = strangers.enter_context(socket.create_connection(("127.0.0.1", port), 10))
                stranger.sendall(sent)
                if n % 50 == 0:
                    started = time.monotonic()
                    assert ask(port, "/healthz")
                    assert ask(port, "/api/v1/summary")
                    slowest = max(slowest, time.monotonic() - started)
        assert metric(port, "http_connections") < DESCRIPTORS
        assert metric(port, 'http_connections_closed_total{why="gave_way"}') > DESCRIPTORS
        growth_mb = memory_mb(process.popen.pid) - before_mb
        assert process.terminate() == 0
    record_property("growth_mb", round(growth_mb))
    record_property("slowest_answer_s", round(slowest, 3))
    assert growth_mb < 40
    lines = [line for line in process.log() if line["level"] != "info"]
    assert len(lines) <= 4
    assert "traceback" not in process.log_file.read_text().lower()
