"""Each command of docs/install.md is run in its order, or is named here with the reason why it can not be.

Where a command writes outside the checkout, it writes below a root directory of the test's own.
"""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

PROJECT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN: Final = (
    ("pipx ", "installs for the whole machine"),
    ("UV_TOOL_DIR=", "installs for the whole machine"),
    ("sysctl ", "changes the kernel of this machine"),
    ("systemctl ", "needs systemd as the first process"),
    ("journalctl ", "needs systemd as the first process"),
    ("companion run ", "runs until it is stopped; tests of each service start it"),
    ("docker ", "needs Docker; test_image.py builds and runs the image with buildah"),
)
"""The beginnings of commands that are not run, and why."""

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]


def read_blocks() -> list[list[str]]:
    """The lines of each block of code, continued lines joined and remarks left out."""
    text = (PROJECT / "docs/install.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [[re.sub(r"\s+#.*", "", line).strip() for line in block.splitlines()] for block in BLOCK.findall(text)]


def is_unit(block: list[str]) -> bool:
    return block[0].startswith("[")


def why_not(command: str) -> str:
    """Why a command is not run, "" where it is."""
    return next((reason for beginning, reason in NOT_RUN if command.startswith(beginning)), "")


def test_commands(tmp_path: Path) -> None:
    """From a checkout to a companion that accepts its configuration, as the page says it."""
    for folder in ("opt", "etc/systemd/system", "etc/sysctl.d"):
        (tmp_path / folder).mkdir(parents=True)
    checkout = shutil.copytree(
        PROJECT, tmp_path / "checkout", ignore=shutil.ignore_patterns(".*[!e]", "tests", "__pycache__"), symlinks=True
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("COMPANION_", "PYTHON"))}
    environment["PATH"] = f"{tmp_path}/opt/opensips-companion/bin:{environment['PATH']}"
    commands = [line for block in read_blocks() if not is_unit(block) for line in block if not why_not(line)]
    for command in commands:
        own = re.sub(r"(?<![\w.])/(opt|etc)/", rf"{tmp_path}/\1/", command)
        done = subprocess.run(
            ["sh", "-ec", own], cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert len(commands) >= 10
    assert (tmp_path / "etc/systemd/system/companion.service").is_file()


def test_what_is_not_run_is_on_the_page() -> None:
    """A reason not to run a command stays only as long as the page has such a command."""
    lines = [line for block in read_blocks() for line in block]
    assert [beginning for beginning, _ in NOT_RUN if not any(line.startswith(beginning) for line in lines)] == []


def test_drop_ins() -> None:
    """Each drop-in of the service is a section of systemd with settings that have a value, or are emptied."""
    blocks = [block for block in read_blocks() if is_unit(block)]
    for block in blocks:
        parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        parser.read_string("\n".join(block))
        assert parser.sections() == ["Service"]
    assert len(blocks) == 3
