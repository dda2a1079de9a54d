"""The command line as a user meets it: a process, its exit code, its output, and one line when something is wrong."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from companion.opensips.events import INSERT, LATENCY, LOST_PING_US
from companion.simulator.redis import EmbeddedRedis, find_free_port
from companion.text import Json
from tests.integration.conftest import (
    CAPTURE,
    MakeSetup,
    Setup,
    cli,
    eventually,
    message,
    phone_event,
    record_events,
)

COMMANDS = (
    "run",
    "devices",
    "device",
    "calls",
    "call",
    "summary",
    "nodes",
    "node",
    "replay",
    "check-config",
    "curve-keys",
    "demo",
    "version",
)
PLAIN = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f]*")
"""Text with no control character but newlines: no colours, no cursor."""
ALIVE_MS = 60_000
"""The bridge was heard of so much later than now: the commands of a test may take their time."""
FLEET: list[tuple[str, str, Json]] = [
    (INSERT, "ann", {"user_agent": "Desk Phone 1.0"}),
    (LATENCY, "ann", {"latency": 20_000}),
    (INSERT, "bob", {"uri": "sip:bob@x;pn-provider=fcm;pn-prid=SECRET;pn-param=ALSO"}),
    (LATENCY, "bob", {"uri": "sip:bob@x;pn-provider=fcm;pn-prid=SECRET;pn-param=ALSO", "latency": LOST_PING_US}),
    (INSERT, "eve", {"user_agent": "\x1b[31m[bold]red[/bold]"}),
]


@pytest.fixture
def setup(make_setup: MakeSetup) -> Setup:
    """A store with three phones, of a bridge that lives."""
    made = make_setup()
    now, seqs = int(time.time() * 1000) - 1000, {INSERT: -1, LATENCY: -1}
    batch = []
    for n, (event, aor, params) in enumerate(FLEET):
        seqs[event] += 1
        event_params = phone_event(aor, **params)
        batch.append(message(event, event_params, now + n, seqs[event]))
    record_events(made, batch)
    made.store.connection.call("HSET", made.store.keys.node("opensips"), "heartbeat_at", now + ALIVE_MS)
    return made


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    """Each command explains itself, in plain text when piped."""
    done = cli(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"companion {command}" in done.stdout
    assert PLAIN.fullmatch(done.stdout)


def test_the_help_names_all_commands() -> None:
    """`companion` alone shows what there is."""
    done = cli("--help")
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)
    assert PLAIN.fullmatch(done.stdout)


def test_a_quick_start() -> None:
    """A command that only shows something loads neither the web server nor the scheduler."""
    script = "import sys, companion.cli.main; print(*{'fastapi', 'uvicorn', 'apscheduler'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_devices(setup: Setup) -> None:
    """`devices` lists a line a device; --json the same for machines, --status some of them."""
    listing, as_json = setup.cli("devices"), setup.cli("devices", "--json")
    losing = setup.cli("devices", "--status", "losing", "--json")

    assert (listing.returncode, listing.stderr) == (0, "")
    assert PLAIN.fullmatch(listing.stdout)
    lines = listing.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["ann/ann", "online"],
        ["bob/bob", "losing"],
        ["eve/eve", "online"],
    ]
    rows = json.loads(as_json.stdout)
    assert [row["device"] for row in rows] == ["ann/ann", "bob/bob", "eve/eve"]
    assert (rows[0]["last_latency_ms"], rows[0]["quality"], rows[1]["push"]) == (20, "excellent", True)
    assert [row["device"] for row in json.loads(losing.stdout)] == ["bob/bob"]


def test_device(setup: Setup) -> None:
    """`device` finds a phone by its id or its AOR and shows all about it, without what could push to it."""
    for name in ("bob/bob", "bob"):
        done, as_json = setup.cli("device", name), setup.cli("device", name, "--json", "--window", "3h")
        assert (done.returncode, done.stderr) == (0, "")
        assert PLAIN.fullmatch(done.stdout)
        assert "bob/bob" in done.stdout
        page = json.loads(as_json.stdout)
        assert (page["status"], page["latency"]["lost"], page["latency"]["window_seconds"]) == ("losing", 1, 10_800)
        assert "SECRET" not in done.stdout + as_json.stdout
        assert "ALSO" not in done.stdout + as_json.stdout


def test_a_device_that_is_none(setup: Setup) -> None:
    """A device nobody knows is an error of one line, with code 2."""
    done = setup.cli("device", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no device is called 'nobody'; `companion devices` lists them all\n"


def test_summary(setup: Setup) -> None:
    """`summary` counts devices by status, and says how each node's feed is."""
    done, as_json = setup.cli("summary"), setup.cli("summary", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert PLAIN.fullmatch(done.stdout)
    assert "alive" in done.stdout
    counts = json.loads(as_json.stdout)
    assert counts["devices"] == {"online": 2, "losing": 1, "unknown": 0, "stale": 0, "offline": 0, "total": 3}
    assert (counts["latency"]["p50_ms"], counts["loss_ratio"], counts["nodes"][0]["alive"]) == (20, 0.5, True)


def test_an_empty_store(make_setup: MakeSetup) -> None:
    """With nothing stored yet the commands say so and are content."""
    setup = make_setup()
    assert json.loads(setup.cli("devices", "--json").stdout) == []
    assert json.loads(setup.cli("summary", "--json").stdout)["devices"]["total"] == 0
    done = setup.cli("summary")
    assert (done.returncode, "no node is known yet" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    "command", [("devices",), ("devices", "--json"), ("device", "x"), ("calls",), ("call", "x"), ("summary",), ("run",)]
)
def test_redis_is_down(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Without Redis a command ends with one line that says where it looked, and code 1."""
    port = find_free_port()
    file = tmp_path / "config.toml"
    file.write_text(f'[redis]\nurl = "redis://:secret@127.0.0.1:{port}/0"\n')
    done = cli(*command, "-c", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = lines(done.stderr)
    assert line.startswith(f"error: no Redis answers at 127.0.0.1:{port} (")
    assert line.endswith("): start it, or set [redis] url to where it is")
    assert "secret" not in line


def test_redis_wants_a_password(tmp_path: Path, make_setup: MakeSetup) -> None:
    """A Redis that wants a password we do not have is one line too, with code 1."""
    with EmbeddedRedis(tmp_path / "redis", persistent=False) as redis:
        setup = make_setup(server=redis)
        setup.store.connection.call("CONFIG", "SET", "requirepass", "x")
        done = setup.cli("devices")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(lines(done.stderr)) == 1
    assert "password in [redis] url" in done.stderr


@pytest.mark.parametrize("command", [("devices",), ("summary", "--json"), ("device", "ann")])
def test_a_foreign_value(setup: Setup, command: tuple[str, ...]) -> None:
    """A foreign value where ours should be is one line, with code 1, and no traceback."""
    key = setup.store.keys.device("ann/ann")
    setup.store.connection.call("DEL", key)
    setup.store.connection.call("SET", key, "foreign")
    done = setup.cli(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(lines(done.stderr)) == 1


WRONG = {
    "no TOML": ("[redis\n", "{file}: "),
    "an unknown section": ("[radish]\nurl = 'x'\n", "{file}: [radish]: unknown section"),
    "an unknown key": ("[redis]\nulr = 'x'\n", "{file}: [redis] ulr: unknown key"),
    "a wrong type": ("[consumer]\nbatch_size = 'many'\n", "{file}: [consumer] batch_size: "),
    "a value out of bounds": ("[redis]\nretention_days = 0\n", "{file}: [redis] retention_days: "),
    "a node with a space": ("[bridge]\nnode = 'a b'\n", "{file}: [bridge] node: "),
    "an API for all": ("[api]\nlisten = '0.0.0.0:8780'\n", "{file}: [api]: listen = '0.0.0.0:8780' is not on loopback"),
    "a secret that is not there": (
        "[redis]\nurl_file = '/nowhere'\n",
        "{file}: [redis]: url_file: /nowhere can not be read",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration(tmp_path: Path, name: str) -> None:
    """What is wrong in a config.toml is one line that names the file and the key, with code 2, for every command."""
    text, expected = WRONG[name]
    file = tmp_path / "config.toml"
    file.write_text(text)
    for command in ("check-config", "devices"):
        done = cli(command, "-c", str(file))
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = lines(done.stderr)
        assert line.startswith("error: " + expected.format(file=file))


def test_every_mistake_is_told(tmp_path: Path) -> None:
    """Two mistakes are two lines."""
    file = tmp_path / "config.toml"
    file.write_text("[redis]\nulr = 'x'\n[bridge]\nnode = ''\n")
    done = cli("check-config", "-c", str(file))
    assert done.returncode == 2
    assert [
        f"{file}: [{section}]" in line for section, line in zip(("redis", "bridge"), lines(done.stderr), strict=True)
    ]


def test_check_config(setup: Setup, tmp_path: Path) -> None:
    """A good configuration is fine; one that is not there is not; the environment counts, and is named."""
    assert setup.cli("check-config").stdout == "the configuration is valid\n"
    missing = cli("check-config", "-c", str(tmp_path / "none.toml"))
    assert (missing.returncode, len(lines(missing.stderr))) == (2, 1)
    wrong = cli("check-config", "-c", str(setup.file()), COMPANION_REDIS__SHARDS="many")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: COMPANION_REDIS__SHARDS: ")


def test_the_configuration_in_the_repository() -> None:
    """The config.toml that is shipped is right."""
    shipped = Path(__file__).parents[2] / "config.toml"
    assert cli("check-config", "-c", str(shipped)).returncode == 0


@pytest.mark.parametrize("arguments", [("device",), ("devices", "--status", "asleep"), ("nonsense",), ("replay", "x")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """A command that is used wrongly ends with code 2 and says how, in plain text."""
    done = cli(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr
    assert PLAIN.fullmatch(done.stderr)


async def test_replay(make_setup: MakeSetup) -> None:
    """`replay` plays a capture to a running bridge and says what it sent; without one it is one line and code 1."""
    file = str(CAPTURE / "event_stream.bin")
    setup = make_setup()
    nobody = setup.cli("replay", file, "--to", setup.tcp, "--speed", "0")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert lines(nobody.stderr)[0].startswith(f"error: can not send to {setup.tcp}: ")
    async with setup.running():
        played = await asyncio.to_thread(setup.cli, "replay", file, "--to", setup.tcp, "--speed", "0")
        assert played.returncode == 0
        assert re.fullmatch(r"247 events, 102221 bytes in \d+\.\d s\n", played.stdout)
        await eventually(lambda: setup.events_done() == 247)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.jsonl", "--to", "udp:127.0.0.1:9"), "error: can not read none.jsonl: "),
        ((str(CAPTURE / "README.md"), "--to", "udp:127.0.0.1:9"), "is no capture of OpenSIPS events"),
        ((str(CAPTURE / "event_stream.bin"), "--to", "127.0.0.1:9"), "is no event socket"),
    ],
)
def test_replay_of_nothing(arguments: tuple[str, ...], says: str) -> None:
    """What can not be played is one line, with code 2."""
    done = cli("replay", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = lines(done.stderr)
    assert says in line


def test_a_port_that_is_taken(make_setup: MakeSetup) -> None:
    """A bridge that can not have its port ends with one line that names the setting, and code 1."""
    setup = make_setup()
    with socket.create_server(("127.0.0.1", setup.stream)):
        done = setup.cli("run", "bridge")
    assert done.returncode == 1
    last = lines(done.stderr)[-1]
    assert last.startswith(f"error: can not listen on tcp:127.0.0.1:{setup.stream}: ")
    assert "[bridge] stream" in last
    assert "Traceback" not in done.stderr
