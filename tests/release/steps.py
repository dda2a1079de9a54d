"""Check what a release needs: each step returns None if all is well, or what to do."""

import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.release.versions import PROJECT, find_released, find_version, find_versions, read

LOCKS: Final = (
    "requirements.lock",
    "requirements-dashboard.lock",
    "requirements-dev.lock",
    "packaging/build.lock",
)
PAGES: Final = ("companion/dashboard", "companion/cli/screens")
"""What pictures show."""
_PICTURE: Final = re.compile(r'(?:src|srcset)="([^":]+)"|!\[[^]]*\]\(([^):]+)\)')


def check_tree() -> str | None:
    """Everything is committed."""
    changes = run_git("status", "--porcelain")
    return f"commit or remove:\n{changes}" if changes else None


def check_versions() -> str | None:
    """All files name the version of pyproject.toml."""
    version = find_version()
    wrong = [name for name, versions in find_versions().items() if set(versions) != {version}]
    return f"write {version} into {', '.join(wrong)}" if wrong else None


def check_changelog() -> str | None:
    """The section at the top is the release, with its date."""
    version, section = find_version(), find_released(read("CHANGELOG.md"))
    right = section is not None and section[0] == version
    return None if right else f'call the top section of CHANGELOG.md "## [{version}] - YYYY-MM-DD"'


def check_locks() -> str | None:
    """`make lock` changes nothing."""
    before = {name: read(name) for name in LOCKS}
    made = run("make", "lock")
    changed = [name for name in LOCKS if read(name) != before[name]]
    return made or (f"look at the changes of {', '.join(changed)}, run the tests, and commit them" if changed else None)


def check_pictures() -> str | None:
    """Each picture that a document shows is there, and no page changed since they were taken."""
    missing = [str(picture) for picture in find_pictures() if not picture.exists()]
    if missing:
        return f"make pictures, or mend the links to {', '.join(missing)}"
    if find_commit_seconds("docs/pictures") < find_commit_seconds(*PAGES):
        return "pages changed since the pictures were taken: make pictures, look at them, and commit them"
    return None


def check_wheel() -> str | None:
    """The wheel builds, installs into a clean environment, and says its version."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv/bin/python")
        venv.create(python.parents[1], with_pip=True)
        pip = (str(python), "-m", "pip", "--quiet", "--disable-pip-version-check")
        failed = run(*pip, "wheel", "--no-deps", "--wheel-dir", folder, ".")
        failed = failed or run(*pip, "install", "--require-hashes", "-r", "requirements.lock")
        failed = failed or run(*pip, "install", "--no-deps", *map(str, Path(folder).glob("*.whl")))
        return failed or _check_command(str(python.with_name("companion")), folder)


def _check_command(command: str, folder: str) -> str | None:
    done = subprocess.run(
        [command, "--version"], cwd=folder, env=outside(), capture_output=True, text=True, check=False
    )
    right = done.stdout.strip() == find_version()
    return None if right else f"the installed companion says {done.stdout.strip()!r}: {done.stderr}"


STEPS: Final[dict[str, Callable[[], str | None]]] = {
    "the tree is clean": check_tree,
    "versions agree": check_versions,
    "CHANGELOG.md has the release": check_changelog,
    "pictures are there and current": check_pictures,
    "lock files are fresh": check_locks,
    "the wheel installs and says its version": check_wheel,
}
"""Quick ones first."""


def find_pictures() -> list[Path]:
    """Return each picture that README.md and docs/ show."""
    return [
        (document.parent / (one or other)).resolve()
        for document in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
        for one, other in _PICTURE.findall(document.read_text(encoding="utf-8"))
    ]


def find_commit_seconds(*paths: str) -> int:
    """Return when one of these paths was committed last (epoch seconds); 0 for never."""
    return int(run_git("log", "-1", "--format=%ct", "--", *paths) or 0)


def run_git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


def run(*command: str) -> str | None:
    """Run a command of the project; return its output if it fails."""
    done = subprocess.run(command, cwd=PROJECT, env=outside(), capture_output=True, text=True, check=False)
    return f"mend what `{' '.join(command)}` says:\n{done.stdout}{done.stderr}" if done.returncode else None


def outside() -> dict[str, str]:
    """Return the environment without what leads Python to this tree."""
    here = f"{Path(sys.prefix, 'bin')}{os.pathsep}"
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "MAKE"))}
    return {**kept, "PATH": kept["PATH"].replace(here, "")}
