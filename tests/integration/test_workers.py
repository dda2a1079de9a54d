"""An API in several processes: one address, one truth, and none of them left over."""

import http.client
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest
from websockets.sync.client import connect

from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.times import now_ms
from tests.integration.conftest import Kind, Process, RedisUrl, Setup, message, phone_event, record_events, until
from tests.integration.test_metrics import Scrape
from tests.integration.web import READ, READ_SECRET, WRONG_SECRET, fill

WORKERS: Final = ("api-1", "api-2")
TOKEN: Final = {"Authorization": f"Bearer {READ_SECRET}"}
ORIGIN: Final = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}
TRIES: Final = 60
START_SECONDS: Final = 300.0


class Client:
    """One kept-alive connection, so one process."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def send(
        self, method: str, path: str, headers: Mapping[str, str], **form: str
    ) -> tuple[int, str, Mapping[str, str]]:
        self._connection.request(method, path, urlencode(form) if form else None, dict(headers))
        answer = self._connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        return self.send("GET", path, headers)[:2]

    def log_in(self, secret: str) -> tuple[int, str]:
        """Send the form of the login page; return the status and the cookie."""
        status, _, headers = self.send("POST", "/login", ORIGIN, token=secret)
        return status, headers.get("set-cookie", "").partition(";")[0]

    def scrape(self) -> Scrape:
        return Scrape(self.get("/metrics", **TOKEN)[1])

    @property
    def worker(self) -> str:
        """The name of the process at the other end: it tells of itself first."""
        match = re.search(r'_process_up{process="([^"]+)"}', self.get("/metrics", **TOKEN)[1])
        assert match
        return match[1]

    def close(self) -> None:
        self._connection.close()


class Companion:
    """A companion that serves its API in two processes."""

    def __init__(self, setup: Setup, process: Process) -> None:
        self.port = setup.config.api.port
        self.setup = setup
        self.process = process

    def is_up(self) -> bool:
        """Return whether each process answers: a connection to one that starts waits for it."""
        try:
            with self.clients() as clients:
                return clients.keys() == set(WORKERS)
        except ConnectionError:
            return False

    @contextmanager
    def clients(self) -> Iterator[dict[str, Client]]:
        """Open connections until there is one to each worker."""
        by_worker: dict[str, Client] = {}
        others = []
        for _ in range(TRIES):
            client = Client(self.port)
            if by_worker.setdefault(client.worker, client) is not client:
                others.append(client)
            if len(by_worker) == len(WORKERS):
                break
        try:
            yield by_worker
        finally:
            for client in (*by_worker.values(), *others):
                client.close()

    def workers(self) -> list[int]:
        """The ids of its child processes."""
        task = self.process.popen.pid
        return [int(pid) for pid in Path(f"/proc/{task}/task/{task}/children").read_text().split()]


@contextmanager
def serving(server: RedisUrl, folder: Path, *, dashboard: bool = True) -> Iterator[Companion]:
    port = find_free_port()
    own = {"listen": f"127.0.0.1:{port}", "dashboard": dashboard, "workers": 2}
    api = {**own, "tokens": [READ.line], "open_reads": False}
    setup = Setup(server, folder, api=api)
    fill(setup)
    with setup.process("api") as process:
        companion = Companion(setup, process)
        until(companion.is_up, START_SECONDS)
        yield companion
    setup.store.close()


@pytest.fixture(scope="module")
def companion(servers: Mapping[Kind, EmbeddedRedis], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Companion]:
    with serving(servers["module"], tmp_path_factory.mktemp("workers")) as companion:
        yield companion


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


def tells_of_all(client: Client) -> bool:
    return client.scrape().value("process_up") == len(WORKERS) + 1


def test_both_processes_answer_the_same(companion: Companion) -> None:
    """Whatever process a client is connected to, it gets the same devices."""
    with companion.clients() as clients:
        assert clients.keys() == set(WORKERS)
        answers = [client.get("/api/v1/devices?sort=device", **TOKEN) for client in clients.values()]
    assert [status for status, _ in answers] == [200, 200]
    assert re.findall('"device":"[^"]+"', answers[0][1]) == re.findall('"device":"[^"]+"', answers[1][1]) != []


def test_both_processes_on_a_cluster(find_server: Callable[[Kind], RedisUrl], tmp_path: Path) -> None:
    """On a Redis Cluster both processes list the same devices with the same status, also one that came since."""
    with serving(find_server("cluster"), tmp_path, dashboard=False) as companion, companion.clients() as clients:
        before = list_devices(clients)
        insert = message("E_UL_CONTACT_INSERT", phone_event("newcomer"), now_ms(), 0, node="newcomers")
        record_events(companion.setup, [insert])
        until(
            lambda: (
                "newcomer" in str(list_devices(clients)["api-1"]) and "newcomer" in str(list_devices(clients)["api-2"])
            )
        )
        after = list_devices(clients)
    assert before["api-1"] == before["api-2"] != []
    assert after["api-1"] == after["api-2"]
    assert len(after["api-1"]) == len(before["api-1"]) + 1


def list_devices(clients: Mapping[str, Client]) -> dict[str, list[tuple[str, str]]]:
    """Return the devices and their status, as each process lists them."""
    pages = {name: client.get("/api/v1/devices?sort=device", **TOKEN) for name, client in clients.items()}
    assert {status for status, _ in pages.values()} == {200}
    rows = {name: json.loads(page)["devices"] for name, (_, page) in pages.items()}
    return {name: [(row["device"], row["status"]) for row in own] for name, own in rows.items()}


def test_metrics_of_all_processes(companion: Companion) -> None:
    """Any process tells the counters of all, each with its name, and what Redis holds once."""
    with companion.clients() as clients:
        for client in clients.values():
            until(partial(tells_of_all, client))
            scrape = client.scrape()
            for name in (*WORKERS, "main"):
                assert scrape.value("build_info", process=name) in (1, None)  # None: it took half a second
            assert scrape.sure("http_connections") >= len(clients)
            assert len([sample for sample in scrape.samples if sample.name.endswith("redis_up")]) == 1


def test_a_login_and_its_end_hold_everywhere(companion: Companion) -> None:
    """A browser is logged in at all processes, and after a logout at none, also with a copy of its cookie."""
    with companion.clients() as clients:
        one, other = clients.values()
        status, cookie = one.log_in(READ_SECRET)
        assert status == 303
        assert [client.get("/api/v1/summary", Cookie=cookie)[0] for client in (one, other)] == [200, 200]
        assert other.send("POST", "/logout", {**ORIGIN, "Cookie": cookie})[0] == 303
        until(lambda: [client.get("/api/v1/summary", Cookie=cookie)[0] for client in (one, other)] == [401, 401])


def test_failed_logins_count_everywhere(companion: Companion) -> None:
    """Who tries tokens at one process has used up the tries at the others too."""
    with companion.clients() as clients:
        one, other = clients.values()
        statuses = [client.log_in(WRONG_SECRET)[0] for client in (one, other) * 4]
    assert statuses.count(401) <= 6  # a slow machine gives one back
    assert statuses[-1] == 429


def test_a_page_finds_its_process(companion: Companion) -> None:
    """The connection of a page reaches the process that made it, whichever accepts it."""
    made_by = set()
    for _ in range(TRIES):
        client = Client(companion.port)
        html = client.get("/", Accept="text/html", **TOKEN)[1]
        client.close()
        query = dict(re.findall(r"'(process|client_id|next_message_id|implicit_handshake)': '?([^',}]+)", html))
        path = f"_nicegui_ws/socket.io/?{urlencode(query)}&EIO=4&transport=websocket"
        with connect(f"ws://127.0.0.1:{companion.port}/{path}", additional_headers=TOKEN, open_timeout=120) as socket:
            assert str(socket.recv(60)).startswith("0{")
            socket.send("40")
            assert str(socket.recv(60)).startswith("40{")  # 44: no such page
        made_by.add(query["process"])
        if len(made_by) == len(WORKERS):
            break
    assert made_by == set(WORKERS)


def test_a_connection_for_no_process_is_answered_here(companion: Companion) -> None:
    """A name that is none of ours changes nothing: the page is told to load again."""
    for name in ("main2", "api-99", "x" * 5000):
        path = f"_nicegui_ws/socket.io/?process={name}&client_id=none&EIO=4&transport=polling"
        client = Client(companion.port)
        assert client.get(f"/{path}", **TOKEN)[0] == 200
        client.close()


def test_a_worker_that_dies_is_started_anew(companion: Companion) -> None:
    """A killed process is replaced, knows which sessions have ended, and the others serve meanwhile."""
    before = companion.workers()
    with companion.clients() as clients:
        cookie = clients["api-1"].log_in(READ_SECRET)[1]
        clients["api-1"].send("POST", "/logout", {**ORIGIN, "Cookie": cookie})
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(companion.workers()) == 2 and companion.workers() != before)
    until(companion.is_up, START_SECONDS)
    with companion.clients() as clients:
        assert [client.get("/api/v1/summary", Cookie=cookie)[0] for client in clients.values()] == [401, 401]
        until(lambda: clients["api-1"].scrape().value("api_workers_ended_total", process="main") == 1)
    assert any("ended and is started anew" in line["event"] for line in companion.process.log())


def test_a_second_companion_is_refused(companion: Companion) -> None:
    """A companion whose address is taken by the processes of another one says so and ends."""
    with companion.setup.process("api") as second:
        assert second.popen.wait(120) == 1
    place = companion.setup.config.api.listen
    assert f"can not listen on {place}; see [api] listen" in second.log_file.read_text()


def test_all_end_together(companion: Companion) -> None:
    """SIGTERM ends the process and its workers, cleanly and with exit code 0. The last test of this companion.

    A worker that gets one too, as from systemd, serves on until the first process ends it.
    """
    workers, started = companion.workers(), time.monotonic()
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    client = Client(companion.port)
    assert client.get("/healthz")[0] == 200
    client.close()
    assert companion.process.terminate() == 0
    assert not any(map(is_alive, workers))
    assert time.monotonic() - started < 20
    assert "traceback" not in companion.process.log_file.read_text().lower()


def test_no_orphans(servers: Mapping[Kind, EmbeddedRedis], tmp_path: Path) -> None:
    """The workers of a process that was killed end by themselves."""
    with serving(servers["module"], tmp_path, dashboard=False) as companion:
        workers = companion.workers()
        companion.process.kill()
        until(lambda: not any(map(is_alive, workers)))
