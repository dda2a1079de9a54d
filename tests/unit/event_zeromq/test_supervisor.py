"""The supervisor stops when it is told to, whatever its child does."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.event_zeromq.conftest import SOURCE, compile_parts


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ("-O1", "-Wl,--wrap=fork", str(SOURCE / "tests/supervise.c"))
    return compile_parts(
        tmp_path_factory.mktemp("supervisor") / "supervise", *options, parts=("supervisor.c", "stamps.c")
    )


@pytest.fixture
def supervisor(program: Path, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """Return a supervisor with the trouble that the test names, which may have ended."""
    with subprocess.Popen([str(program), request.param], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("supervisor", ["fork"], indirect=True)
def test_without_a_child(supervisor: "subprocess.Popen[str]") -> None:
    """It stops also while no process can be started."""
    assert supervisor.stdout
    assert [next(supervisor.stdout) for _ in range(2)] == ["no child\n"] * 2
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(timeout=30) == 0


@pytest.mark.parametrize("supervisor", ["halt"], indirect=True)
def test_a_halted_child(supervisor: "subprocess.Popen[str]") -> None:
    """A child that somebody halted is continued, so that it can stop as any other."""
    assert supervisor.stdout
    assert next(supervisor.stdout) == "child\n"
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(timeout=30) == 0
    assert supervisor.stdout.read() == "stopped\n"
