"""Real phones on OpenSIPS, RabbitMQ as the bus, and a consumer that is away while they are pinged."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from companion.query.devices import iterate_devices
from tests.acceptance.conftest import Build, eventually
from tests.acceptance.edge import Companion, edge_with, settled, stop_pings
from tests.integration.rabbitmq_process import RabbitServer, find_rabbitmq
from tests.sip_phone.phone import Phone

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_rabbitmq() is None, reason="rabbitmq-server is missing"),
]
DELAY = 0.05
"""How long a phone waits with its answer, in seconds."""


@contextmanager
def bridge_process(folder: Path, datagram: int, url: str) -> Iterator[None]:
    """Run a bridge alone, in a process of its own."""
    table = json.dumps({"datagram": f"udp:127.0.0.1:{datagram}", "publish": url})
    with (folder / "bridge.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "companion", "run", "bridge"],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "COMPANION_BRIDGE": table},
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


async def test_consumer_away(build: Build, tmp_path: Path) -> None:
    """Pings while no consumer ran are stored when one comes: as many answered and lost ones as each phone counted."""
    with (
        RabbitServer(tmp_path / "rabbitmq") as rabbit,
        edge_with(build, tmp_path) as edge,
        bridge_process(tmp_path, edge.datagram, rabbit.url),
    ):
        log = tmp_path / "bridge.log"
        await eventually(lambda: "publishing into RabbitMQ" in log.read_text())
        phones = [Phone(edge.server.ws_url, f"phone{number}@127.0.0.1", answer_delay=DELAY) for number in range(4)]
        try:
            for phone in phones:  # one by one: 4.0.1 mixes up handshakes that come together
                await phone.start()
            await eventually(lambda: all(len(phone.answered) >= 2 for phone in phones))
            phones[0].mute()
            await settled(lambda: len(phones[0].ignored) >= 2)
            phones[0].unmute()
            await settled(lambda: all(len(phone.answered) >= 4 for phone in phones))
            await stop_pings(edge.server)
            with Companion(
                tmp_path,
                0,
                edge.server.mi_url,
                bridge={"datagram": "", "publish": rabbit.url},
                consumer={"subscribe": [rabbit.url]},
            ) as companion:
                await settled(lambda: _counts(companion) == _own_counts(phones))
                pages = [companion.page(device.id) for device in iterate_devices(companion.store)]
        finally:
            for phone in phones:
                await phone.close()
    samples = [latency_ms for page in pages for _, latency_ms in page["samples"]]
    latencies = [latency_ms for latency_ms in samples if latency_ms is not None]
    assert min(latencies) >= 1000 * DELAY
    assert len(latencies) == sum(len(phone.answered) for phone in phones)
    assert len(samples) - len(latencies) == len(phones[0].ignored)


def _counts(companion: Companion) -> list[tuple[int, int]]:
    return sorted(companion.counts(device.id) for device in iterate_devices(companion.store))


def _own_counts(phones: list[Phone]) -> list[tuple[int, int]]:
    return sorted((len(phone.answered), len(phone.ignored)) for phone in phones)
