"""Packets are stored small, and read again as they were."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidPacketError
from companion.trace.packet import Packet, drop_copies, pack, unpack
from tests.unit.trace.messages import EDGE, PHONE, captured_packets, packet, sip


def test_size() -> None:
    """A recorded call of the capture takes less than half of its bytes."""
    packets = captured_packets()
    assert sum(len(pack(one)) for one in packets) < sum(len(one.sip) for one in packets) / 2


@given(
    st.builds(Packet, st.integers(0, 1 << 52), st.text(), st.text(), st.text(), st.text(), st.just("aor"), st.binary())
)
def test_round_trip(one: Packet) -> None:
    """Whatever a packet holds, it comes back as it was."""
    assert one == unpack(pack(one))


@given(st.binary(max_size=100))
def test_unpack_survives_anything(data: bytes) -> None:
    """Other bytes are refused."""
    with pytest.raises(InvalidPacketError):
        unpack(data)


def test_a_bomb_is_refused() -> None:
    """Bytes that would grow without end are not unpacked."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    with pytest.raises(InvalidPacketError):
        unpack(b"\x01" + compressor.compress(bytes(10_000_000)) + compressor.flush())


def test_copies() -> None:
    """A message that two filters caught is there once; one that was repeated after T1 is there twice; order is time."""
    invite = sip("INVITE sip:bob@example.com")
    packets = [packet(at_ms, PHONE, EDGE, invite) for at_ms in (1500, 1000, 1001, 1501)]
    assert [one.at_us for one in drop_copies(packets)] == [1_000_000, 1_500_000]
    assert len(drop_copies([packet(0, PHONE, EDGE, invite), packet(1, EDGE, PHONE, invite)])) == 2
