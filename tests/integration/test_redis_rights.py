"""A Redis user with exactly the rights that docs/redis.md names: all works, and without one of them nothing is lost."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from redis import Redis

from companion.simulator.redis import EmbeddedRedis
from tests.integration.conftest import Feeder, MakeSetup, Udp, eventually, notification, phone_event

PROJECT = Path(__file__).parents[2]
LATENCY = "E_UL_LATENCY_UPDATE"
SECONDS = 60.0
QUICK = {"sweep_interval": 0.25, "warm_up": 0.3}


def documented_rights(*, has_timeseries: bool) -> list[str]:
    """Return the words of the ACL line in docs/redis.md behind the password."""
    text = (PROJECT / "docs/redis.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"ACL SETUSER companion on '>PASSWORD' (.*)", text)
    rights = str(line).replace("'", "").split()
    return [right for right in rights if has_timeseries or not right.startswith("+ts.")]


class Server:
    """A Redis that the companion reaches as a user with few rights."""

    def __init__(self, redis: EmbeddedRedis, *, has_timeseries: bool) -> None:
        self.documented = documented_rights(has_timeseries=has_timeseries)
        self.admin = Redis(port=redis.port, decode_responses=True)
        self.url = f"redis://companion:secret@127.0.0.1:{redis.port}/0"

    def grant(self, *rights: str) -> None:
        self.admin.execute_command("ACL", "SETUSER", "companion", "on", ">secret", *rights)  # type: ignore[no-untyped-call]

    def denials(self) -> list[tuple[str, str]]:
        """Return what was denied: (reason, command or key)."""
        rows: Any = self.admin.acl_log(100)
        return [(row["reason"], row["object"]) for row in rows]


@pytest.fixture(params=[True, False], ids=["timeseries", "streams"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with EmbeddedRedis(tmp_path / "redis", modules=request.param) as redis:
        server = Server(redis, has_timeseries=request.param)
        server.grant(*server.documented)
        yield server
        server.admin.close()


async def test_documented_rights_are_enough(make_setup: MakeSetup, server: Server) -> None:
    """The whole companion and its commands run with these rights, and are denied nothing."""
    setup = make_setup(server=server, remediation=QUICK, redis={"prefix": "companion:"})
    with setup.process("bridge", "consumer", "scheduler"), Udp(setup.datagram) as udp:
        await eventually(lambda: setup.feed().heartbeat_at, SECONDS)
        for number in range(20):
            udp.send(notification(LATENCY, phone_event("web", latency=20_000 + number)))
        await eventually(lambda: setup.samples() == 20, SECONDS)
        await eventually(lambda: setup.store.connection.call("GET", setup.store.keys.summary()), SECONDS)
        await eventually(lambda: int(setup.store.connection.call("GET", setup.store.keys.fence()) or 0) > 3, SECONDS)
        for command in (("summary",), ("devices",), ("device", "web"), ("nodes",), ("remediation", "status")):
            assert setup.cli(*command).returncode == 0
        doctor = setup.cli("doctor", "--json")
    assert "Redis" not in failures(doctor)
    assert server.denials() == []


def failures(doctor: CompletedProcess[str]) -> set[str]:
    """Return the sections of the doctor's report that hold a failure."""
    sections = json.loads(doctor.stdout)
    return {row["section"] for row in sections if any(finding["level"] == "failure" for finding in row["findings"])}


async def test_right_that_is_missing(make_setup: MakeSetup, server: Server) -> None:
    """Without the right to write, events wait, the log names the command, and all are stored once it is given."""
    server.grant("-@write")
    setup = make_setup(server=server, redis={"prefix": "companion:"}, consumer={"batch_ms": 50})
    with setup.process("consumer") as consumer:
        async with Feeder.silent(setup) as feeder:
            assert await feeder.publisher.subscribed(SECONDS)
            for _ in range(100):
                feeder.ping()
            feeder.beat()
            await eventually(lambda: "no permissions" in consumer.log_file.read_text(), SECONDS)
            server.grant(*server.documented)
            await eventually(lambda: setup.samples() == 100, SECONDS)
    assert setup.feed().missed == 0


def test_no_rights_at_all(make_setup: MakeSetup, server: Server) -> None:
    """A command that may nothing, and doctor, say which rights to give."""
    setup = make_setup(server=server, redis={"prefix": "companion:"})
    server.grant("-@all")
    command, doctor = setup.cli("devices"), setup.cli("doctor")
    assert (command.returncode, doctor.returncode) == (1, 1)
    assert "give the user the rights in docs/redis.md" in command.stderr
    assert "give the user the rights in docs/redis.md" in " ".join(doctor.stdout.split())
