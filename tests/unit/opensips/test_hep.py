"""HEP3: what OpenSIPS sends is read, and nothing else is taken for it."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from companion.errors import InvalidPacketError
from companion.opensips.hep import HepFramer, HepPacket, decode
from companion.trace.export import write_pcap
from tests.unit.trace.messages import capture, encode_hep, packet

SIP = b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"
CHUNKS = {2: b"\x32", 3: bytes(4), 4: bytes(4), 7: b"\x13\xc4", 8: b"\x00\x50", 9: bytes(4), 10: bytes(4), 11: b"\x01"}


def chunk(kind: int, value: bytes, vendor: int = 0) -> bytes:
    return struct.pack("!HHH", vendor, kind, 6 + len(value)) + value


def hep(chunks: dict[int, bytes], extra: bytes = b"") -> bytes:
    body = b"".join(chunk(kind, value) for kind, value in chunks.items()) + extra
    return b"HEP3" + struct.pack("!H", 6 + len(body)) + body


def test_the_capture() -> None:
    """Each packet of a real OpenSIPS is read with its time, protocol and addresses."""
    packets = [decode(data) for data in capture()]
    assert packets[0][:4] == (1795778427427393, "ws", "127.0.0.1:56266", "127.0.0.1:43783")
    assert [one.sip.split(b" ")[0] for one in packets[:3]] == [b"REGISTER", b"SIP/2.0", b"INVITE"]
    assert len(packets) == 20
    assert [one.at_us for one in packets] == sorted(one.at_us for one in packets)


DISSECTOR = os.environ.get("HEP_DISSECTOR", "")
"""Wireshark's dissector of HEP, lua/hep.lua of github.com/sipcapture/hep-wireshark: Wireshark comes without one."""
HEP3_FIELDS: tuple[str, ...] = ("source_ipv4_address", "source_port", "destination_ipv4_address", "destination_port")
HEP3_FIELDS += ("timestamp_unix", "timestamp_microsec")


@pytest.mark.skipif(not (DISSECTOR and shutil.which("tshark")), reason="needs tshark, and HEP_DISSECTOR")
def test_wireshark_agrees(tmp_path: Path) -> None:
    """Wireshark reads the same times, addresses and messages from the packets of a real OpenSIPS as this decoder.

    It also reads what tests encode as this decoder does.
    """
    real = capture()
    again = [encode_hep(decode(data)) for data in real]
    file = tmp_path / "hep.pcap"
    datagrams = [packet(n, "127.0.0.1:9061", "127.0.0.1:9060", data) for n, data in enumerate([*real, *again])]
    file.write_bytes(write_pcap(datagrams))
    command = ["tshark", "-X", f"lua_script:{DISSECTOR}", "-r", str(file), "-d", "udp.port==9060,hep", "-T", "fields"]
    fields = [part for name in (*(f"hep3.{name}" for name in HEP3_FIELDS), "sip.Call-ID") for part in ("-e", name)]
    answer = subprocess.run([*command, *fields], capture_output=True, text=True, check=True, timeout=60)
    rows = [line.split("\t") for line in answer.stdout.splitlines()]
    assert [_describe(decode(data)) for data in [*real, *again]] == rows


def _describe(one: HepPacket) -> list[str]:
    ends = [part for end in (one.source, one.target) for part in end.rsplit(":", 1)]
    call_id = one.sip.partition(b"Call-ID: ")[2].split(b"\r\n")[0].decode()
    return [*ends, *map(str, divmod(one.at_us, 1_000_000)), call_id]


def test_ipv6_and_unknown_chunks() -> None:
    """IPv6 addresses are read, and chunks of other vendors and types are skipped."""
    ipv6 = {5: bytes(15) + b"\x01", 6: bytes(15) + b"\x02"}
    chunks = {kind: value for kind, value in CHUNKS.items() if kind not in (3, 4)} | ipv6 | {15: SIP, 300: b"x"}
    expected = HepPacket(0, "ws", "[::1]:5060", "[::2]:80", SIP)
    assert expected == decode(hep(chunks, chunk(15, b"other", vendor=7)))


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("version", b""),
        ("version", b"\x02\x10\x02\x11" + bytes(20)),  # HEP2
        ("length", b"HEP3"),
        ("length", hep(CHUNKS | {15: SIP})[:-1]),
        ("length", hep(CHUNKS | {15: SIP}) + b"x"),
        ("chunk", b"HEP3\x00\x08\x00\x00"),
        ("chunk", hep({}, b"\x00\x00\x00\x0f\x00\x05")),
        ("chunk", hep({}, b"\x00\x00\x00\x0f\xff\xff")),
        ("chunk", hep(CHUNKS | {3: bytes(5), 15: SIP})),
        ("address", hep({11: b"\x01", 15: SIP})),
        ("not_sip", hep(CHUNKS | {11: b"\x05", 15: SIP})),
        ("not_sip", hep(CHUNKS)),
        ("not_sip", hep(CHUNKS | {15: b""})),
    ],
)
def test_bad_input(reason: str, data: bytes) -> None:
    """What is no HEP3 packet with a SIP message is refused, with the reason."""
    with pytest.raises(InvalidPacketError) as error:
        decode(data)
    assert reason == error.value.reason


def test_key() -> None:
    """With a key only packets that carry it are taken."""
    data = hep(CHUNKS | {14: b"right", 15: SIP})
    assert SIP == decode(data, "right").sip == decode(data).sip
    for forged in (hep(CHUNKS | {14: b"wrong", 15: SIP}), hep(CHUNKS | {15: SIP})):
        with pytest.raises(InvalidPacketError, match="key"):
            decode(forged, "right")


def test_large_message() -> None:
    """A message as large as HEP carries is read."""
    sip = SIP + b"x" * (65_000 - len(SIP))
    assert sip == decode(hep(CHUNKS | {15: sip})).sip


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda body: hep({}, body)))
def test_decode_survives_anything(data: bytes) -> None:
    """Any bytes are a packet or are refused, and nothing else happens."""
    try:
        packet = decode(data)
    except InvalidPacketError:
        return
    assert packet.sip


@given(st.lists(st.integers(0, 19), max_size=5), st.lists(st.integers(1, 700), max_size=20), st.binary(max_size=9))
def test_framer(numbers: list[int], cuts: list[int], garbage: bytes) -> None:
    """Packets come out of a stream whole and in order, however it is cut, also behind garbage."""
    packets = [capture()[number] for number in numbers]
    stream = (b"" if b"H" in garbage else garbage) + b"".join(packets)
    framer, pieces = HepFramer(), []
    for cut in [*cuts, len(stream)]:
        pieces += framer.feed(stream[:cut])
        stream = stream[cut:]
    assert packets == pieces
    assert framer.pending_bytes <= 65_535


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_framer_is_bounded(chunks: list[bytes]) -> None:
    """Whatever a peer sends, no more than one packet waits."""
    framer = HepFramer()
    for data in chunks:
        framer.feed(b"HEP3" + data)
        assert framer.pending_bytes <= 65_535 + len(data) + 4
