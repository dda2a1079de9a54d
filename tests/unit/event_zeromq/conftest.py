"""Build the parts of event_zeromq that need neither OpenSIPS nor ZeroMQ."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.event_zeromq.library import Library

SOURCE = Path(__file__).parents[3] / "opensips/event_zeromq"
PARTS = ("pack.c", "message.c", "ring.c", "stamps.c")
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
NO_COMPILER = "no C compiler here: event_zeromq's packer and ring are not tested"


def compile_parts(target: Path, *options: str) -> Path:
    """Compile the parts, and what `options` name, without a warning."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip(NO_COMPILER)
    command = [compiler, *WARNINGS, "-I", str(SOURCE), *options, *(str(SOURCE / part) for part in PARTS)]
    done = subprocess.run([*command, "-lpthread", "-o", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(compile_parts(tmp_path_factory.mktemp("library") / "parts.so", "-O1", "-shared", "-fPIC"))
