"""The Dockerfile's build, step by step and without a container engine. Needs a package index."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest
import tomli

PROJECT = Path(__file__).parents[2]
BUILD_FOLDERS = ("/src", "/dist", "/opt/companion")

pytestmark = pytest.mark.timeout(300)  # two dozen packages from an index that may be far


class Step(NamedTuple):
    """One instruction of a Dockerfile, continued lines joined."""

    name: str
    text: str


def steps(file: Path) -> Iterator[Step]:
    joined = file.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in joined.splitlines():
        name, _, text = line.strip().partition(" ")
        if name and not name.startswith("#"):
            yield Step(name, " ".join(text.split()))


def build_stage() -> list[Step]:
    """The instructions of the first stage."""
    instructions = list(steps(PROJECT / "Dockerfile"))
    froms = [index for index, step in enumerate(instructions) if step.name == "FROM"]
    return instructions[froms[0] + 1 : froms[1]]


def into_context(source: str) -> Path:
    """A file of the build context; fails when .dockerignore keeps it out."""
    allowed = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert any(fnmatch(source, pattern) for pattern in allowed), f".dockerignore keeps {source} from the build"
    return PROJECT / source


def copy(text: str, folder: Path) -> None:
    *sources, target = text.split()
    for source in map(into_context, sources):
        if source.is_dir():
            shutil.copytree(source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / target)


def run(command: str, root: Path, environment: dict[str, str]) -> None:
    for folder in BUILD_FOLDERS:
        command = command.replace(f"{folder}/", f"{root}{folder}/").replace(f"{folder} ", f"{root}{folder} ")
    done = subprocess.run(
        ["sh", "-ec", command], cwd=root / "src", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a file tree in which the Dockerfile's first stage was carried out."""
    root = tmp_path_factory.mktemp("image")
    (root / "src").mkdir()
    subprocess.run([sys.executable, "-m", "venv", root / "usr"], check=True)
    environment = {**outside(), "PATH": f"{root / 'usr' / 'bin'}:{os.environ['PATH']}"}
    for step in build_stage():
        if step.name == "COPY":
            copy(step.text, root / "src")
        elif step.name == "RUN":
            run(step.text, root, environment)
    return root


@pytest.fixture(scope="module")
def distributions(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a source distribution and a wheel, as a release has them."""
    folder = tmp_path_factory.mktemp("archives")
    python = str(built / "usr/bin/python")
    command = [python, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=PROJECT, env=outside(), check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def archives(distributions: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files of the source distribution and of the wheel, by their names."""
    folder = distributions
    with tarfile.open(next(folder.glob("*.tar.gz"))) as source:
        sdist = {
            file.name.partition("/")[2]: content.read() for file in source if (content := source.extractfile(file))
        }
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return sdist, {name: wheel.read(name) for name in wheel.namelist()}


def outside() -> dict[str, str]:
    """The environment here without what would configure a companion or lead Python to this tree."""
    return {
        name: text for name, text in os.environ.items() if not name.startswith(("COMPANION_", "PYTHON", "VIRTUAL_ENV"))
    }


def companion(built: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [built / "opt" / "companion" / "bin" / "companion", *arguments],
        cwd=folder,
        env=outside(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_image_holds_the_version_of_the_project(built: Path, tmp_path: Path) -> None:
    """What the Dockerfile builds from hash-checked packages runs outside the source tree and tells its version."""
    project = tomli.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    done = companion(built, tmp_path, "version")
    assert (project["version"], 0) == (done.stdout.strip(), done.returncode), done.stderr


def test_the_image_has_every_command(built: Path, tmp_path: Path) -> None:
    """The image's help offers what the Dockerfile starts."""
    done = companion(built, tmp_path, "--help")
    assert done.returncode == 0
    assert "run" in done.stdout


def test_the_image_starts_without_a_configuration(built: Path, tmp_path: Path) -> None:
    """Nothing has to be mounted: the defaults are a fine configuration."""
    done = companion(built, tmp_path, "check-config")
    assert done.returncode == 0, done.stderr


def test_the_image_reads_a_mounted_configuration(built: Path, tmp_path: Path) -> None:
    """A config.toml in the working directory is read: the one we ship is fine, a broken one is refused."""
    mounted = shutil.copy(PROJECT / "config.toml", tmp_path)
    assert companion(built, tmp_path, "check-config").returncode == 0
    Path(mounted).write_text("[nothing]\n", encoding="utf-8")
    done = companion(built, tmp_path, "check-config")
    assert done.returncode == 2
    assert "unknown section" in done.stderr


def test_licences(archives: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    """The source distribution names both licences and has both texts; the wheel holds nothing that is GPL."""
    sdist, wheel = archives
    assert b"\nLicense-Expression: MIT AND GPL-2.0-or-later\n" in sdist["PKG-INFO"]
    assert b"GNU GENERAL PUBLIC LICENSE" in sdist["opensips/event_zeromq/COPYING"]
    assert b"MIT License" in sdist["LICENSE"]
    sources = {name: text for name, text in sdist.items() if name.startswith("opensips/event_zeromq/")}
    unmarked = {name for name, text in sources.items() if b"SPDX-License-Identifier: GPL-2.0-or-later" not in text}
    assert unmarked == {"opensips/event_zeromq/COPYING", "opensips/event_zeromq/README.md"}
    assert [
        name for name, text in wheel.items() if b"SPDX-License-Identifier: GPL" in text or b"GNU GENERAL" in text
    ] == []
    assert not any("event_zeromq" in name for name in wheel)


def tracked(*folders: str) -> set[str]:
    """The files of the repository below these folders."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", *folders], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return {name for name in listing.stdout.split("\0") if name and (PROJECT / name).exists()}


def test_the_wheel_has_the_package_and_nothing_else(archives: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    """Every file of the package is in the wheel, those for browsers too, and no other."""
    _, wheel = archives
    own = {name for name in wheel if not re.match(r"opensips_companion-[^/]+\.dist-info/", name)}
    assert own == tracked("companion")
    assert any(name.endswith(".js") for name in own)


def test_the_source_distribution_has_what_it_names(archives: tuple[dict[str, bytes], dict[str, bytes]]) -> None:
    """Every file below what pyproject.toml includes is in the source distribution, and no other."""
    sdist, _ = archives
    build = tomli.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    included = [name.lstrip("/") for name in build["targets"]["sdist"]["include"]]
    assert set(sdist) - {"PKG-INFO"} == tracked(*included) | {".gitignore", "pyproject.toml"}


def test_an_index_takes_them(built: Path, distributions: Path) -> None:
    """The checks of twine find nothing wrong with the metadata and the description of both."""
    pip(built, "install", "twine")
    files = [str(file) for file in distributions.iterdir()]
    done = subprocess.run(
        [built / "usr/bin/python", "-m", "twine", "check", "--strict", *files],
        env=outside(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout


def test_the_wheel_without_its_extra(built: Path, distributions: Path, tmp_path: Path) -> None:
    """Installed into a clean environment without the dashboard, the wheel runs and takes the configuration we ship."""
    project = tomli.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    environment: Path = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    lock, wheel = str(PROJECT / "requirements.lock"), str(next(distributions.glob("*.whl")))
    pip(built, "--python", str(environment / "bin/python"), "install", "--require-hashes", "-r", lock)
    pip(built, "--python", str(environment / "bin/python"), "install", "--no-deps", wheel)
    for command, line in (("version", project["version"]), ("check-config", "the configuration is valid")):
        shutil.copy(PROJECT / "config.toml", tmp_path)
        done = subprocess.run(
            [environment / "bin/companion", command],
            cwd=tmp_path,
            env=outside(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout.strip()) == (0, line), done.stderr
    assert not [*environment.glob("lib/python*/site-packages/nicegui")]


def pip(built: Path, *words: str) -> None:
    command = [str(built / "usr/bin/python"), "-m", "pip", "--quiet", *words]
    done = subprocess.run(command, env=outside(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_image_has_no_installer(built: Path) -> None:
    """Nothing is installed into a running container: its environment has no pip."""
    assert not (built / "opt" / "companion" / "bin" / "pip").exists()
