"""Build the parts of event_zeromq that need neither OpenSIPS nor ZeroMQ."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.event_zeromq.library import Library

SOURCE = Path(__file__).parents[3] / "opensips/event_zeromq"
PARTS = ("pack.c", "message.c", "ring.c", "stamps.c", "refusals.c")
WARNINGS = ("-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Werror")
NO_COMPILER = "no C compiler here: event_zeromq is not tested without OpenSIPS"


def compile_parts(target: Path, *options: str, parts: Sequence[str] = PARTS) -> Path:
    """Compile these parts, and what `options` name, without a warning."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip(NO_COMPILER)
    command = [compiler, *WARNINGS, "-I", str(SOURCE), *options, *(str(SOURCE / part) for part in parts)]
    done = subprocess.run([*command, "-lpthread", "-o", str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return Library(compile_parts(tmp_path_factory.mktemp("library") / "parts.so", "-O1", "-shared", "-fPIC"))
