"""`companion demo` as a newcomer meets it: it starts, its hints work as printed, and nothing of it stays behind."""

import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx2
import pytest
import redis
import tomli

from companion import config
from companion.cli.demo import PACE, SPEED
from companion.simulator.phone import PERIODS, Behaviour
from tests.integration.conftest import clean_environment, until

COMPANION = str(Path(sys.executable).with_name("companion"))
PATIENCE_SECONDS = 60.0
PHONES = "[1-6] online"
"""Not all six: phones of a demo sleep, reload and roam from its first second on."""


class Demo:
    """A demo in a terminal of its own, 80 by 24."""

    def __init__(self, folder: Path, days: int) -> None:
        self.terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.folder = folder
        self.screen = ""
        self.popen = subprocess.Popen(
            [COMPANION, "demo", "--folder", "data", "--phones", "6", "--days", f"{days}"],
            cwd=folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - Ctrl-C needs a terminal of its own
            env=clean_environment() | {"TERM": "xterm"},
        )
        os.close(inner)

    def read(self) -> str:
        """All that was on the screen so far, without colours."""
        while select.select([self.terminal], [], [], 0)[0]:
            try:
                chunk = os.read(self.terminal, 65536).decode(errors="replace")
            except OSError:  # the demo has ended, and its side of the terminal with it
                break
            self.screen += re.sub(r"\x1b\[[0-9;]*m", "", chunk).replace("\r", "")
        return self.screen

    def wait_for(self, pattern: str) -> None:
        until(lambda: re.search(pattern, self.read()), PATIENCE_SECONDS)

    def hint(self, name: str) -> str:
        """What the demo printed to look at."""
        match = re.search(rf"^  {name} +(.+)$", self.screen, re.MULTILINE)
        assert match, self.screen
        return match[1]

    def type(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        until(lambda: self.read() is not None and self.popen.poll() is not None, PATIENCE_SECONDS)
        self.read()
        return self.popen.returncode

    def redis_answers(self) -> bool:
        client = redis.Redis.from_url(self.hint("plain Redis"))
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()


@contextmanager
def demo(folder: Path, days: int = 0) -> Iterator[Demo]:
    started = Demo(folder, days)
    try:
        yield started
    finally:
        started.popen.terminate()
        started.wait()
        os.close(started.terminal)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with demo(tmp_path_factory.mktemp("demo"), days=1) as running:
        running.wait_for(PHONES)
        yield running


def test_hints_work_as_printed(shared: Demo) -> None:
    """What the demo says to type works as it stands, from another terminal in the same folder."""
    until(lambda: timeline_of(shared), PATIENCE_SECONDS)
    for name in ("a device", "the fleet"):
        words = shlex.split(shared.hint(name))
        until(partial(_tells_online, shared, words), PATIENCE_SECONDS)
    assert shared.redis_answers()
    assert (shared.folder / shared.hint("the log")).is_file()


def _tells_online(shared: Demo, words: Sequence[str]) -> bool:
    return "online" in output_of(shared, *words)


def test_calls_to_look_at(shared: Demo) -> None:
    """From the start there are calls of each kind, and the page of one says whose fault it was."""
    words = shlex.split(shared.hint("calls"))
    calls: list[dict[str, object]] = []

    def are_there() -> bool:
        calls[:] = json.loads(output_of(shared, *words, "--json"))
        return len(calls) >= 8

    until(are_there, PATIENCE_SECONDS)
    assert {True, False} == {call["relay"] for call in calls}
    lossy = next(str(call["call_id"]) for call in calls if call["bad_seconds"])
    done = output_of(shared, *words[:-3], "call", lossy, *words[-2:])
    assert "media path" in done
    assert "through a relay" in done


def output_of(shared: Demo, *words: str) -> str:
    """What a command prints, from another terminal in the same folder."""
    return subprocess.run(
        words, cwd=shared.folder, capture_output=True, text=True, check=True, env=clean_environment()
    ).stdout


def test_token_to_act_with(shared: Demo) -> None:
    """The token that the demo shows may operate, and is stored nowhere."""
    token, address = shared.hint("log in with"), shared.hint("in a browser")
    where = f"{address}api/v1/remediation"
    with httpx2.Client(timeout=PATIENCE_SECONDS) as client:
        assert client.post(f"{where}/resume").status_code == 401
        assert client.post(f"{where}/resume", headers={"Authorization": f"Bearer {token}"}).is_success
    assert not any(token in file.read_text() for file in (shared.folder / "data").glob("*.*"))


def test_sleeping_phones_are_always_woken(shared: Demo) -> None:
    """However long a demo runs, no phone has too many pushes: one that is not woken would be gone for good."""
    settings = config.load(shared.folder / "data/config.toml", {})
    sleeps_a_day = 86_400 * SPEED * PACE / (0.3 * PERIODS[Behaviour.SLEEPING])
    assert settings.remediation.push_per_day > sleeps_a_day


def test_only_one_in_a_folder(shared: Demo) -> None:
    """A second demo in the same folder is refused in one line, and the first one goes on."""
    second = subprocess.run(
        [COMPANION, "demo", "--folder", "data"],
        cwd=shared.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "a demo is running in data/" in second.stderr
    assert shared.redis_answers()


@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-C twice", "SIGTERM", "q"])
def test_ends_cleanly(tmp_path: Path, how: str) -> None:
    """Ctrl-C, an impatient second one, SIGTERM and q end it: no process stays, and the cursor is back."""
    with demo(tmp_path) as running:
        running.wait_for(PHONES)
        if how == "SIGTERM":
            running.popen.send_signal(signal.SIGTERM)
        else:
            running.type({"Ctrl-C twice": b"\x03\x03", "q": b"q"}.get(how, b"\x03"))
        assert running.wait() == 0
        assert "The demo has ended" in running.screen
        assert "Traceback" not in running.screen
        assert running.screen.rfind("\x1b[?25h") > running.screen.rfind("\x1b[?25l")
        assert not running.redis_answers()


def test_nobody_reads_any_more(tmp_path: Path) -> None:
    """`demo | head -1`, ended: there is no word, as with every command whose pipe is closed, and nothing stays."""
    piped = subprocess.Popen(
        [COMPANION, "demo", "--folder", "data", "--phones", "6", "--days", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
    )
    assert piped.stdout
    assert piped.stderr
    with piped, piped.stdout, piped.stderr:
        assert b"Ctrl-C ends it" in piped.stdout.readline()
        piped.stdout.close()
        piped.send_signal(signal.SIGINT)
        assert piped.stderr.read() == b""
    assert piped.returncode == 1
    log = (tmp_path / "data/companion.log").read_text()
    assert "recording" in log
    assert not re.search(r"Traceback|warning|error", log)
    url = tomli.loads((tmp_path / "data/config.toml").read_text())["redis"]["url"]
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_first_screen_fits(shared: Demo) -> None:
    """At 80 by 24 the hints and the table are on the screen: no line wraps, nothing scrolls away."""
    first = shared.screen.partition("\x1b[?1049h")[0]
    assert all(
        len(line) <= 80 for line in first.splitlines() if str(shared.folder) not in line and COMPANION not in line
    )
    assert len(first.splitlines()) <= 13


def timeline_of(running: Demo) -> list[dict[str, str]]:
    """The timeline of the device that the demo shows, [] before the device has registered."""
    words = [*shlex.split(running.hint("a device")), "--json"]
    done = subprocess.run(words, cwd=running.folder, capture_output=True, check=False, env=clean_environment())
    timeline: list[dict[str, str]] = json.loads(done.stdout)["timeline"] if done.returncode == 0 else []
    return timeline


def test_starts_again(tmp_path: Path) -> None:
    """What one demo has seen is there in the next."""
    with demo(tmp_path) as first:
        first.wait_for(PHONES)
        until(lambda: timeline_of(first), PATIENCE_SECONDS)
    between = datetime.now(UTC)
    with demo(tmp_path) as second:
        second.wait_for("Ctrl-C ends it")
        second.wait_for(PHONES)
        oldest = timeline_of(second)[0]
    assert datetime.fromisoformat(oldest["at"]) < between


def test_folder_that_can_not_be_had(tmp_path: Path) -> None:
    """A folder that can not be made is told in one line."""
    (tmp_path / "file").touch()
    refused = subprocess.run(
        [COMPANION, "demo", "--folder", str(tmp_path / "file")], capture_output=True, text=True, check=False, timeout=30
    )
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
