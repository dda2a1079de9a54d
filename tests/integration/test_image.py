"""The image: built by buildah, and run as docs/install.md says, but without a container engine (`make image-test`).

Its base is made here with mmdebstrap, under the name that the Dockerfile expects. Needs root and a package index.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from companion.simulator.redis import EmbeddedRedis, find_free_port
from tests.integration.conftest import clean_environment, until

PROJECT = Path(__file__).parents[2]
PROGRAMS = ("buildah", "mmdebstrap", "unshare", "chroot")
DEBIAN = "bookworm"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
OWN_PYTHON = 'rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED; ln -s python3 "$1/usr/bin/python"'
"""What the image of Python has and Debian has not: pip may install, and Python is called so."""
OF_THE_MACHINE = ("/etc/pip.conf", "/etc/ssl/certs")
"""How packages are had here; the build sees it, the image has none of it."""
READ_ONLY = """
mount --rbind "$0" "$0" && mount -o remount,ro,bind "$0" && mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc"
exec chroot --userspec=10001:10001 "$0" "$@"
"""
"""Runs a command as the user of the image, in a root directory that nobody can write to."""
STOP_SECONDS = 5.0

pytestmark = [
    pytest.mark.image,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)), reason=f"needs root and {', '.join(PROGRAMS)}"
    ),
]


class Buildah:
    """Run buildah with a store of its own; `base` is the image that the Dockerfile begins with."""

    def __init__(self, folder: Path, base: str) -> None:
        self.base = base
        self._options = ("--root", str(folder / "store"), "--runroot", str(folder / "run"))

    def run(self, command: str, *words: str) -> str:
        done = subprocess.run(
            ["buildah", *self._options, command, *words], cwd=PROJECT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def build(self, file: Path, tag: str, context: Path, *words: str) -> None:
        options = ("--isolation", "chroot", "--format", "docker", "--pull=never", "--network", "host")
        self.run("bud", *options, *words, "-f", str(file), "-t", tag, str(context))


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """A store with the base of the Dockerfile and the image made of it."""
    folder = tmp_path_factory.mktemp("image")
    tag = re.search(r"^ARG PYTHON_TAG=(.+)$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    assert tag
    context = folder / "base"
    context.mkdir()
    command = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", f"--customize-hook={OWN_PYTHON}", DEBIAN]
    subprocess.run([*command, str(context / "base.tar")], check=True, capture_output=True)
    (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    store = Buildah(folder, f"docker.io/library/python:{tag[1]}")
    store.build(context / "Dockerfile", store.base, context)
    volumes = [word for place in OF_THE_MACHINE if Path(place).exists() for word in ("--volume", f"{place}:{place}:ro")]
    store.build(PROJECT / "Dockerfile", "opensips-companion", PROJECT, *volumes)
    yield store
    store.run("rm", "--all")
    store.run("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def root(buildah: Buildah) -> str:
    """The root directory of a container of the image."""
    return buildah.run("mount", buildah.run("from", "--pull-never", "opensips-companion").strip()).strip()


def start(root: str, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Run a command in the image, in the network of the machine, read-only and without rights."""
    variables = [f"{name}={text}" for name, text in environment.items()]
    clean = ("/usr/bin/env", "-i", "-C", "/etc/opensips-companion", "PATH=/opt/companion/bin:/usr/bin:/bin")
    return subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, root, *clean, *variables, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clean_environment(),
    )


def answers(url: str) -> bool:
    """Whether a health check succeeds."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_what_the_image_says_of_itself(buildah: Buildah) -> None:
    """It has a user that is not root, a health check, and the signal that stops it."""
    config = json.loads(buildah.run("inspect", "--type", "image", "opensips-companion"))["Docker"]["config"]
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert (config["Entrypoint"], config["Cmd"]) == (["companion"], ["run"])
    assert "/healthz" in config["Healthcheck"]["Test"][-1]


def test_nothing_of_the_build_stays(root: str) -> None:
    """The image has the companion, and nothing that only its build needed."""
    names = {path.name for path in Path(root, "opt/companion/bin").iterdir()}
    assert "companion" in names
    assert not {"pip", "hatchling"} & names
    assert not Path(root, "src").exists()
    assert not Path(root, "etc/pip.conf").exists()


def test_runs_read_only_and_stops(root: str, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """As a user without rights, where nothing can be written, it answers its health check, and SIGTERM ends it soon."""
    with EmbeddedRedis(tmp_path / "redis") as redis:
        port = find_free_port()
        settings = {
            "COMPANION_REDIS__URL": redis.url,
            "COMPANION_API__LISTEN": f"127.0.0.1:{port}",
            "COMPANION_BRIDGE__DATAGRAM": f"udp:127.0.0.1:{find_free_port()}",
            "COMPANION_BRIDGE__PUBLISH": f"tcp://127.0.0.1:{(bus := find_free_port())}",
            "COMPANION_CONSUMER__SUBSCRIBE": json.dumps([f"tcp://127.0.0.1:{bus}"]),
        }
        began = time.monotonic()
        running = start(root, "companion", "run", **settings)
        try:
            until(lambda: running.poll() is not None or answers(f"http://127.0.0.1:{port}/healthz"))
            record_property("start_seconds", round(time.monotonic() - began, 2))
            assert running.poll() is None, running.communicate()[0]
            uids = re.search(r"^Uid:\s+(.+)$", Path(f"/proc/{running.pid}/status").read_text(), re.MULTILINE)
            assert uids
            assert set(uids[1].split()) == {"10001"}
            doctor = start(root, "companion", "doctor", **settings)
            assert "Redis" in doctor.communicate(timeout=60)[0]
            ended = time.monotonic()
            running.send_signal(signal.SIGTERM)
            text = running.communicate(timeout=60)[0]
            assert running.returncode == 0, text
            assert time.monotonic() - ended < STOP_SECONDS
            assert "Read-only file system" not in text
        finally:
            running.kill()


def test_nothing_can_be_written(root: str) -> None:
    """Not even the companion's own folders take a file."""
    for folder in ("/", "/tmp", "/etc/opensips-companion", "/opt/companion"):
        assert "Read-only file system" in start(root, "touch", f"{folder}/file").communicate()[0]


def test_the_steps_of_opensips(buildah: Buildah, tmp_path: Path) -> None:
    """What packaging/opensips.Dockerfile says is done, but for its packages, which no index but OpenSIPS' own has."""
    file = PROJECT / "packaging/opensips.Dockerfile"
    (tmp_path / "Base").write_text(f"FROM {buildah.base}\nRUN useradd --system opensips\n")
    buildah.build(tmp_path / "Base", "docker.io/opensips/opensips:3.6", tmp_path)
    steps, packages = re.subn(r"    && apt-get install .* opensips-.*\n", "", file.read_text())
    assert packages == 1
    changed = tmp_path / "opensips.Dockerfile"
    changed.write_text(steps)
    ignored = ("--ignorefile", f"{file}.dockerignore")
    buildah.build(changed, "opensips", PROJECT, *ignored)
    config = json.loads(buildah.run("inspect", "--type", "image", "opensips"))["Docker"]["config"]
    assert (config["User"], config["Entrypoint"][0]) == ("opensips", "/usr/sbin/opensips")
    root = buildah.run("mount", buildah.run("from", "--pull-never", "opensips").strip()).strip()
    changes = ["chroot", root, "sed", "-f", "/etc/opensips-container.sed"]
    text = (PROJECT / "opensips/opensips.cfg").read_text()
    done = subprocess.run(changes, input=text, capture_output=True, text=True, check=True)
    assert "socket=udp:eth0:" in done.stdout
