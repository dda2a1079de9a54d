"""Captures played to real sockets."""

import asyncio
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from companion.bridge.framer import Framer
from companion.errors import UnavailableError, UsageError
from companion.simulator.replay import replay

CAPTURES = Path(__file__).parents[1] / "captures" / "opensips-3.6.8"
DATAGRAMS = CAPTURES / "event_datagram.jsonl"
STREAM = CAPTURES / "event_stream.bin"


def payloads() -> list[bytes]:
    return [json.loads(line)["payload"].encode() for line in DATAGRAMS.read_text().splitlines()]


async def played_by_udp(path: Path, **options: Any) -> list[bytes]:
    """What a reader with the default buffer gets."""
    datagrams: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind(("127.0.0.1", 0))
        ear.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(ear, lambda: datagrams.append(ear.recv(65536)))
        result = await replay(path, f"udp:127.0.0.1:{ear.getsockname()[1]}", **options)
        async with asyncio.timeout(10):
            while len(datagrams) < result.objects:  # noqa: ASYNC110 - the reader has no event to wait for
                await asyncio.sleep(0.01)
        loop.remove_reader(ear)
    assert (result.objects, result.bytes) == (len(datagrams), sum(map(len, datagrams)))
    return datagrams


async def played_by_tcp(path: Path, **options: Any) -> tuple[bytes, int]:
    """All bytes of the connection, and in how many reads they came."""
    done: asyncio.Future[tuple[bytes, int]] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reads = []
        while data := await reader.read(65536):
            reads.append(data)
        writer.close()
        done.set_result((b"".join(reads), len(reads)))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    await replay(path, f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}", **options)
    async with asyncio.timeout(10):
        received = await done
    server.close()
    await server.wait_closed()
    return received


async def test_datagrams_to_udp_are_the_capture() -> None:
    """At full speed every datagram arrives, unchanged and in order."""
    assert await played_by_udp(DATAGRAMS, speed=0, rebase_expires=False) == payloads()


async def test_a_stream_to_udp_goes_an_object_a_datagram() -> None:
    """A TCP capture played to UDP gives each object a datagram of its own."""
    datagrams = await played_by_udp(STREAM, speed=0, rebase_expires=False)

    assert datagrams == Framer().feed(STREAM.read_bytes())
    assert len(datagrams) == 247


@pytest.mark.parametrize("one_byte", [False, True])
async def test_a_stream_to_tcp_is_the_captures_bytes(one_byte: bool) -> None:  # noqa: FBT001 - a pytest parameter
    """Over TCP the very bytes arrive, in many reads; byte by byte in yet more."""
    received, reads = await played_by_tcp(STREAM, speed=0, rebase_expires=False, one_byte=one_byte)

    assert received == STREAM.read_bytes()
    assert reads > (220 if one_byte else 20)


async def test_datagrams_to_tcp_follow_each_other() -> None:
    """A UDP capture played to TCP is its objects back to back."""
    received, _ = await played_by_tcp(DATAGRAMS, speed=0, rebase_expires=False)

    assert received == b"".join(payloads())


async def test_contacts_are_alive_today() -> None:
    """Rebased, the default, the first registration still has its 600 seconds; lengths stay."""
    datagrams = await played_by_udp(DATAGRAMS, speed=0)

    first = next(event for event in map(json.loads, datagrams) if event["method"] == "E_UL_CONTACT_INSERT")
    assert abs(first["params"]["expires"] - time.time() - 600) < 5
    assert list(map(len, datagrams)) == list(map(len, payloads()))


async def test_speed_keeps_the_captures_pauses(tmp_path: Path) -> None:
    """Speed 10 plays four captured seconds in 0.4; infinity in no time; progress is told after each."""
    file = tmp_path / "x.jsonl"
    file.write_text("\n".join(json.dumps({"t": t, "payload": "{}"}) for t in (100, 102, 104)))
    progress_calls: list[tuple[int, int]] = []

    started_at = time.monotonic()
    await played_by_udp(file, speed=10, progress=lambda done, total: progress_calls.append((done, total)))
    assert 0.4 <= time.monotonic() - started_at < 2
    assert progress_calls == [(1, 3), (2, 3), (3, 3)]
    assert len(await played_by_udp(file, speed=float("inf"))) == 3


async def test_errors_are_for_people(tmp_path: Path) -> None:
    """No listener, no such socket, no capture: each says which."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(UnavailableError, match=f"can not send to tcp:127.0.0.1:{port}"):
        await replay(STREAM, f"tcp:127.0.0.1:{port}")
    with pytest.raises(UsageError, match="no event socket"):
        await replay(STREAM, "unix:/tmp/x")
    (tmp_path / "x.jsonl").write_text("hello")
    with pytest.raises(UsageError, match="no capture"):
        await replay(tmp_path / "x.jsonl", "udp:127.0.0.1:9")
