"""The ring keeps what it took, counts what it did not take, and outlives its reader."""

import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.event_zeromq.conftest import SOURCE, compile_parts
from tests.unit.event_zeromq.library import Library, Record, Ring

BIG = b"x" * 60_000


@pytest.fixture
def ring(library: Library) -> Iterator[Ring]:
    ring = Ring(library)
    yield ring
    ring.close()


def read_all(ring: Ring) -> list[Record]:
    return list(iter(ring.read, None))


turns = st.lists(st.tuples(st.sampled_from(["E_A", "E_B"]), st.integers(0, 60_000), st.integers(0, 2)), max_size=60)


@given(turns)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_order(library: Library, turns: list[tuple[str, int, int]]) -> None:
    """Whatever its size, an event comes out as it went in, in order, with the next number of its name."""
    ring, expected, arrived, ordinals = Ring(library), [], [], {"E_A": 0, "E_B": 0}
    for name, length, reads in turns:
        params = length.to_bytes(3) * (length // 3)
        if ring.put(name, params, "alice"):
            expected.append((ordinals[name], params))
        ordinals[name] += 1
        arrived += [record for _ in range(reads) if (record := ring.read())]
    arrived += read_all(ring)
    ring.close()
    assert [(record.ordinal, record.params) for record in arrived] == expected
    assert [record.number for record in arrived] == list(range(len(arrived)))
    assert all(early.ts < late.ts for early, late in pairwise(arrived))


def test_full(ring: Ring) -> None:
    """A full ring refuses events, whose numbers are missing afterwards; then it goes on."""
    results = [ring.put("E_A", BIG) for _ in range(30)]
    lost = results.count(False)
    assert 0 < lost < 30
    read = read_all(ring)
    assert ring.put("E_A", b"\x80")
    (record,) = read_all(ring)
    assert (len(read), record.ordinal, ring.queued_bytes()) == (30 - lost, 30, 0)


def test_what_can_not_be_packed(ring: Ring) -> None:
    """An event without parameters, too large, or of an impossible name is lost; only the last one has no number."""
    assert not ring.put("E_A", None)
    assert not ring.put("E_A", b"x" * 65_537)
    assert not ring.put("", b"\x80")
    assert not ring.put("E" * 65, b"\x80")
    assert ring.put("E_A", b"\x80")
    assert [record.ordinal for record in read_all(ring)] == [2]


def test_too_many_names(ring: Ring) -> None:
    """The table of names is bounded: events of further names are lost, those of known ones are not."""
    assert [ring.put(f"E_{number}", b"\x80") for number in range(130)] == [True] * 128 + [False] * 2
    assert ring.put("E_0", b"\x80")


def test_a_reader_that_dies(ring: Ring) -> None:
    """An event that was not committed is read again by the next reader."""
    ring.put("E_A", b"\x80")
    assert ring.read(commit=False) == ring.read()
    assert ring.read() is None


def test_what_nobody_will_read(ring: Ring) -> None:
    """What is left at the end is given up, and what comes behind it has the next number."""
    for _ in range(3):
        ring.put("E_A", b"\x80")
    ring.read()
    ring.abandon()
    assert (ring.read(), ring.queued_bytes()) == (None, 0)
    ring.put("E_A", b"\x80")
    assert [record.ordinal for record in read_all(ring)] == [3]


def test_a_producer_that_dies(tmp_path: Path) -> None:
    """A worker that dies while it puts an event in blocks nobody, and no number is used twice."""
    program = compile_parts(tmp_path / "dying", str(SOURCE / "tests/dying.c"), parts=("stamps.c",))
    done = subprocess.run([str(program)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_under_a_sanitizer(tmp_path: Path, sanitizer: str) -> None:
    """Four producers and a reader, fast and slow: no race, no invalid access, and received + lost = raised."""
    options = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", "-O1", "-g", str(SOURCE / "tests/stress.c"))
    program = compile_parts(tmp_path / "stress", *options)
    for events, pause_us in ((3000, 0), (500, 20)):
        command = [str(program), "4", str(events), str(pause_us)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert re.fullmatch(r"\d+ received, \d+ lost\n", done.stdout)
