"""Captures read, moved in time and cut again; nothing is sent here."""

import json
import re
from pathlib import Path

import pytest

from companion.errors import UsageError
from companion.simulator.replay import ORIGIN, read_capture, rebase

CAPTURES = Path(__file__).parents[2] / "captures" / "opensips-3.6.8"


def expiries(data: bytes) -> list[int]:
    return [int(digits) for digits in re.findall(rb'"expires":(\d+),', data)]


@pytest.mark.parametrize("name", ["event_datagram.jsonl", "event_stream.bin"])
def test_rebasing_changes_nothing_but_expires(name: str) -> None:
    """A day later every expires is a day later; no other byte and no length changes, even where a cut divides it."""
    capture = read_capture(CAPTURES / name)
    moved = rebase(capture, ORIGIN + 86400 + capture.chunks[0].t)

    before, after = (b"".join(chunk.data for chunk in version.chunks) for version in (capture, moved))
    assert expiries(after) == [expires + 86400 for expires in expiries(before)]
    assert re.sub(rb'"expires":\d+', b"", after) == re.sub(rb'"expires":\d+', b"", before)
    assert [len(chunk.data) for chunk in capture.chunks] == [len(chunk.data) for chunk in moved.chunks]


def test_an_expires_cut_by_two_reads_is_moved(tmp_path: Path) -> None:
    """A number that arrived in two reads is moved like any other."""
    data = b'{"jsonrpc":"2.0","params":{"expires":1795452709,"callid":"a"}}'
    (tmp_path / "x.bin").write_bytes(data)
    reads = [{"t": 0, "bytes": 40}, {"t": 1, "bytes": len(data) - 40}]
    (tmp_path / "x.reads.jsonl").write_text("\n".join(map(json.dumps, reads)))

    moved = rebase(read_capture(tmp_path / "x.bin"), ORIGIN + 10)
    assert expiries(b"".join(chunk.data for chunk in moved.chunks)) == [1795452719]


def test_the_origin_is_the_callers_or_the_files_or_the_known_one(tmp_path: Path) -> None:
    """An origin given beats the file's first line, which beats the one of the project's captures."""
    file = tmp_path / "x.jsonl"
    line = json.dumps({"t": 0, "payload": "{}"})
    file.write_text(line)
    assert read_capture(file).origin == ORIGIN
    file.write_text(json.dumps({"origin": 5}) + "\n" + line)
    assert read_capture(file).origin == 5
    assert read_capture(file, 7.0).origin == 7


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b""),
        ("a.jsonl", b"hello"),
        ("a.jsonl", b'{"t":0}'),
        ("a.jsonl", b'{"t":0,"payload":5}'),
        ("a.jsonl", b"[1]"),
        ("a.jsonl", b"\xff\xfe"),
        ("a.bin", b""),
        ("a.bin", b"hello"),
        ("a.bin", b'{"jsonrpc":"2.0"}hello{"jsonrpc":"2.0"}'),
    ],
)
def test_what_is_no_capture_is_said_so(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that is no capture ends in one clear UsageError that names it."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=rf"{name} is no capture"):
        read_capture(tmp_path / name)


def test_a_missing_file_and_reads_that_do_not_add_up(tmp_path: Path) -> None:
    """So do a file that is not there, and a stream whose reads are another's."""
    with pytest.raises(UsageError, match="can not read"):
        read_capture(tmp_path / "none.jsonl")
    (tmp_path / "a.bin").write_bytes(b"{}")
    (tmp_path / "a.reads.jsonl").write_text('{"t":0,"bytes":3}')
    with pytest.raises(UsageError, match="add up"):
        read_capture(tmp_path / "a.bin")
