"""`companion top` as an operator uses it: in a real terminal, which it gives back however it ends."""

import fcntl
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from companion.simulator.redis import EmbeddedRedis
from companion.store.nodes import Feed, prepare_feed
from companion.times import HOUR_MS, now_ms
from tests.benchmarks.history import fill
from tests.benchmarks.phones import Fleet
from tests.benchmarks.publisher import NODE
from tests.integration.conftest import (
    MakeSetup,
    Setup,
    clean_environment,
    cli,
    message,
    phone_event,
    record_events,
    until,
)

COMPANION = str(Path(sys.executable).with_name("companion"))
DEVICES = 200
READABLE_BYTES = 4095
"""What Linux lets a terminal have ready to read at most; it keeps some of these more."""
BROKEN = """
from companion.cli.top import Top
from companion.__main__ import main
def fail(self):
    raise ArithmeticError("it broke")
Top._make_notice = fail
main()
"""
"""A program whose `companion top` meets an error that nobody expects, once the terminal is taken over."""

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="needs tmux")


class Screen:
    """A command in a terminal of tmux; before and after it, the mode of the terminal is printed."""

    def __init__(self, folder: Path, width: int, height: int, command: str) -> None:
        self._socket = str(folder / "tmux")
        shell = f"trap : INT; stty -g; {command}; echo code=$?; stty -g; cat"
        size = ("-x", str(width), "-y", str(height))
        self.tmux("-f", "/dev/null", "new-session", "-d", *size, f"sh -c {shlex.quote(shell)}")

    def tmux(self, *words: str) -> str:
        environment = clean_environment() | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for name in ("TMUX", "COLUMNS", "LINES"):
            environment.pop(name, None)
        return subprocess.run(
            ["tmux", "-u", "-S", self._socket, *words], env=environment, capture_output=True, text=True, check=True
        ).stdout

    def read(self) -> str:
        return self.tmux("capture-pane", "-p")

    def selected(self) -> str:
        """The line in reverse video."""
        lines = self.tmux("capture-pane", "-p", "-e").splitlines()
        bold = next(line for line in lines if re.search(r"\x1b\[[0-9;]*\b7m", line))
        return re.sub(r"\x1b\[[0-9;]*m", "", bold)

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen matches, and return it."""
        shows: list[str] = []

        def is_there() -> bool:
            shows.append(self.read())
            return bool(re.search(pattern, shows[-1], re.MULTILINE))

        try:
            until(is_there)
        except AssertionError:
            pytest.fail(f"no {pattern!r} in\n{shows[-1]}")
        return shows[-1]

    def state(self) -> tuple[str, str]:
        """Whether the screen of its own and the cursor are there."""
        screen, cursor = self.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").split()
        return screen, cursor

    def process(self) -> int:
        """The process of the command."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        children = Path(f"/proc/{shell}/task/{shell}/children")
        until(lambda: children.read_text().strip())
        return int(children.read_text().split()[0])


@contextmanager
def screen(folder: Path, width: int, height: int, command: str) -> Iterator[Screen]:
    opened = Screen(folder, width, height, command)
    try:
        yield opened
    finally:
        opened.tmux("kill-server")


def top(setup: Setup, *options: str) -> str:
    return shlex.join([COMPANION, "top", "-c", str(setup.file()), *options])


def fill_store(setup: Setup) -> None:
    """A fleet of all statuses whose bridge lives, and a phone with a hostile name."""
    assert sum(fill(setup.store, Fleet(DEVICES, 2, int(time.time()) + 3600))) == DEVICES
    hostile = phone_event("mallory", user_agent="\x1b[2J\x1b]2;Evil\x07\r\n")
    record_events(setup, [message("E_UL_CONTACT_INSERT", hostile, now_ms(), 0, NODE)])
    feed = Feed(NODE, NODE, heartbeat_at=now_ms() + HOUR_MS)
    setup.store.connection.pipeline(prepare_feed(setup.store.keys, feed, {}))


@pytest.fixture
def filled(make_setup: MakeSetup) -> Setup:
    setup = make_setup(pings={"interval": 120})
    fill_store(setup)
    return setup


@pytest.mark.parametrize(("width", "height", "other"), [(80, 24, (160, 50)), (160, 50, (80, 24))])
def test_walk(filled: Setup, tmp_path: Path, width: int, height: int, other: tuple[int, int]) -> None:
    """Sort, filter, search, open, resize and leave."""
    with screen(tmp_path, width, height, top(filled)) as at:
        first = at.wait_for(rf"^1–{height - 5} of {DEVICES + 1} ").splitlines()
        assert first[2].split()[:2] == ["DEVICE", "STATUS"]
        assert {line.split()[1] for line in first[3:9]} == {"stale"}
        assert first[-1].startswith("↑↓ move")
        assert at.state() == ("1", "0")
        walk_through_list(at)
        walk_through_device(at, other)
        at.press("q")
        at.wait_for("code=0")


def walk_through_list(at: Screen) -> None:
    at.press("s", "s")
    at.wait_for("by latency, highest first")
    until(lambda: is_falling(at))
    at.press("r")
    at.wait_for("by latency, lowest first")
    at.press("f", "f")
    at.wait_for(r"^1–.* only losing")
    at.press("Escape")
    at.wait_for("all statuses")
    at.press("/", "user1", "1")
    at.wait_for(r"^1–11 of 11 .*user11")
    at.press("Enter", "s", "s", "s", "s", "s", "Down")
    at.wait_for(r"by device, from A to Z")
    until(lambda: at.selected().startswith("user110"))


def is_falling(at: Screen) -> bool:
    """Whether the devices with the highest latency are first."""
    latencies = [int(latency) for latency in re.findall(r" (\d+) ms", at.read())]
    return len(latencies) > 5 and latencies == sorted(latencies, reverse=True)


def walk_through_device(at: Screen, other: tuple[int, int]) -> None:
    at.press("Enter")
    shows = at.wait_for("^╭─ user110/urn").splitlines()
    assert (shows[0][0], shows[-1][:9]) == ("╭", "↑↓ scroll")
    at.tmux("resize-window", "-x", str(other[0]), "-y", str(other[1]))
    until(lambda: [line[:9] for line in at.read().splitlines()][other[1] - 1 :] == ["↑↓ scroll"])
    at.press("Escape", "Escape")
    at.wait_for(rf"^1–{other[1] - 5} of {DEVICES + 1} ")
    at.press("h")
    at.wait_for("Any key goes back")
    at.press("h")
    at.wait_for("^DEVICE")


def test_hostile_text(filled: Setup, tmp_path: Path) -> None:
    """What a phone calls itself is only text on the screen."""
    with screen(tmp_path, 160, 50, top(filled)) as at:
        at.wait_for("^1–")
        at.press("/", "mallory")
        shows = at.wait_for("^1–1 of 1 ").splitlines()
        assert shows[2].startswith("DEVICE")
        assert re.search(r"^mallory/.* \ufffd\[2J\ufffd\]2;Evil\ufffd\ufffd+$", shows[3])
        assert "Evil" not in at.tmux("display-message", "-p", "#{pane_title}")


def type_ctrl_c(at: Screen) -> None:
    at.press("C-c")


def terminate(at: Screen) -> None:
    os.kill(at.process(), signal.SIGTERM)


@pytest.mark.parametrize("end", [type_ctrl_c, terminate])
def test_gives_the_terminal_back(filled: Setup, tmp_path: Path, end: Callable[[Screen], None]) -> None:
    """After Ctrl-C and SIGTERM the screen, the cursor and the mode of the terminal are as before."""
    with screen(tmp_path, 160, 50, top(filled, "--status", "stale")) as at:
        at.wait_for("^1–.* only stale")
        end(at)
        check_given_back(at, at.wait_for("code=0\n[0-9a-f]+:"))


def test_gives_the_terminal_back_after_an_error(filled: Setup, tmp_path: Path) -> None:
    """An error that nobody expects ends it; it is told on the screen that was there before."""
    words = [sys.executable, "-c", BROKEN, "top", "-c", str(filled.file())]
    with screen(tmp_path, 160, 200, shlex.join(words)) as at:
        shows = at.wait_for("code=1\n[0-9a-f]+:")
        assert "ArithmeticError: it broke" in shows
        check_given_back(at, shows)


def check_given_back(at: Screen, shows: str) -> None:
    before, after = re.findall(r"^[0-9a-f]+(?::[0-9a-f]+)+$", shows, re.MULTILINE)
    assert before == after
    assert at.state() == ("0", "1")


def test_nobody_reads_its_output(filled: Setup) -> None:
    """A terminal that takes no more output, such as one behind a dead line, does not keep it from ending."""
    master, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 200, 400, 0, 0))  # one screen is more than is kept
    started = subprocess.Popen(
        shlex.split(top(filled)),
        stdin=inner,
        stdout=inner,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it needs a terminal of its own
        env=clean_environment() | {"TERM": "xterm"},
    )
    os.close(inner)
    try:
        until(lambda: count_readable(master) >= READABLE_BYTES)
        started.terminate()
        assert started.wait(30) == 0
    finally:
        started.kill()
        started.wait()
        os.close(master)


def count_readable(master: int) -> int:
    """How many bytes of its output can be read."""
    readable: int = struct.unpack("i", fcntl.ioctl(master, termios.FIONREAD, bytes(4)))[0]
    return readable


def test_stops_and_goes_on(filled: Setup, tmp_path: Path) -> None:
    """Ctrl-Z gives the terminal to the shell, and fg the list back."""
    with screen(tmp_path, 80, 24, "bash --norc --noprofile -i") as at:
        at.press(top(filled), "Enter")
        at.wait_for("^1–")
        at.press("C-z")
        at.wait_for("Stopped")
        assert at.state() == ("0", "1")
        at.press("fg", "Enter")
        at.wait_for("^1–")
        at.press("q")
        until(lambda: at.state() == ("0", "1"))


def test_redis_is_away(make_setup: MakeSetup, own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """While Redis is away a line says so and what to do; when it is back, the list goes on."""
    setup = make_setup(server=own_redis, pings={"interval": 120})
    fill_store(setup)
    with screen(tmp_path, 80, 24, top(setup)) as at:
        at.wait_for("^1–")
        own_redis.stop()
        assert "^DEVICE" not in at.wait_for("Redis is away, trying again: start it")
        own_redis.start()
        until(lambda: "Redis is away" not in at.read())
        record_events(setup, [message("E_UL_CONTACT_INSERT", phone_event("newcomer"), now_ms(), 1, NODE)])
        at.press("/", "newcomer")
        at.wait_for("^newcomer/")
        at.press("Enter", "q")
        at.wait_for("code=0")


def test_without_a_terminal(filled: Setup) -> None:
    """In a pipe it is refused in one line, which says what to do."""
    done = cli("top", "-c", str(filled.file()))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "`companion devices`" in done.stderr
