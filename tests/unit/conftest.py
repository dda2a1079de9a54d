"""What several unit tests read: the capture of a running OpenSIPS."""

import json
from pathlib import Path
from typing import Any

import pytest

CAPTURE = Path(__file__).parents[1] / "captures" / "opensips-3.6.8" / "event_datagram.jsonl"
START_MS = 1795452109605


@pytest.fixture(scope="session")
def capture() -> list[tuple[int, str, dict[str, Any]]]:
    """Each event OpenSIPS said, in order: epoch ms, name, parameters."""
    events = []
    for line in CAPTURE.read_text(encoding="utf-8").splitlines():
        datagram = json.loads(line)
        notification = json.loads(datagram["payload"])
        at = START_MS + round(datagram["t"] * 1000)
        events.append((at, notification["method"], notification["params"]))
    return events
