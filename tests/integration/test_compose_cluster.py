"""The Cluster of compose.yaml: its own commands and its own file of settings make one, here without containers."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from companion.config import RedisSection
from companion.simulator.redis import find_free_port, find_redis_server
from companion.store.store import open_store
from tests.integration.conftest import until
from tests.integration.redis_process import is_up, redis_process

PROJECT = Path(__file__).parents[2]
PORTS = range(7001, 7007)


@pytest.fixture
def texts(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Run six servers with the settings of the project; yield the container's command and the URL, with their ports."""
    compose, example = (PROJECT / "compose.yaml").read_text(), (PROJECT / ".env.example").read_text()
    for port in PORTS:
        free = str(find_free_port())
        compose, example = compose.replace(str(port), free), example.replace(str(port), free)
    ports = re.findall(r"^      PORT: (\d+)$", compose, re.MULTILINE)
    settings = (PROJECT / "packaging/redis-node.conf").read_text()
    with ExitStack() as stack:
        for port in ports:
            folder = tmp_path / port
            folder.mkdir()
            file = folder / "redis-node.conf"
            file.write_text(settings.replace("dir /data", f"dir {folder}"))
            bus = ("--cluster-port", str(find_free_port()))
            stack.enter_context(redis_process(folder, str(file), "--port", port, *bus))
        for port in ports:
            until(partial(is_up, f"redis://127.0.0.1:{port}"))
        match = re.search(r"      - >-\n((?:        .*\n)+)", compose[compose.index("\n  redis-cluster:") :])
        url = re.search(r"redis\+cluster://\S+\d", example)
        assert match
        assert url
        yield " ".join(match[1].split()), url[0]


def test_the_cluster_of_compose(texts: tuple[str, str]) -> None:
    """Six servers become a Cluster that the companion can use. The command may run again, as after a restart."""
    command, url = texts
    environment = {**os.environ, "PATH": f"{find_redis_server().binary.parent}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["sh", "-c", command], check=True, capture_output=True, env=environment, timeout=60)
    store = open_store(RedisSection(url=url))
    assert store.connection.call("CLUSTER INFO")["cluster_slots_ok"] == "16384"
    assert len(store.connection.masters()) == 3
    store.close()
