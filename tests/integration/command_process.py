"""Run a command of the companion in a process of its own, forked from one that has imported the companion already.

The imports are most of what a command costs.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["companion.cli.main"])
TIMEOUT_SECONDS: Final = 30.0


def run_command(arguments: tuple[str, ...], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `companion …` with this environment, its output in files."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        child = _FORKS.Process(target=_run, args=(arguments, dict(environment), out, err, Path.cwd()))
        child.start()
        child.join(TIMEOUT_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(arguments, TIMEOUT_SECONDS)
        code = child.exitcode or 0
        child.close()
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def _run(arguments: tuple[str, ...], environment: Mapping[str, str], out: Path, err: Path, folder: Path) -> None:
    for file, number in ((out, 1), (err, 2)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["companion", *arguments]
    runpy.run_module("companion", run_name="__main__", alter_sys=True)
