"""A trace leaves as text and as pcap, and Wireshark reads what is in it."""

import shutil
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from companion.trace.export import write_pcap, write_text
from companion.trace.message import parse
from tests.unit.trace.messages import EDGE, captured_packets, packet, sip


def test_text() -> None:
    """Each message stands in full under its time and addresses, and nothing in it can act on a terminal."""
    text = write_text([*captured_packets()[:1], packet(0, "192.0.2.7:1", EDGE, sip("BYE sip:a@b", more="X: \x1b[2J"))])
    assert "2025-" in text or "2026-" in text
    assert "ws 127.0.0.1:56266 -> 127.0.0.1:43783 at edge" in text
    assert "CSeq: 1 REGISTER\n" in text
    assert "\x1b" not in text


def tshark(file: Path, *fields: str) -> list[list[str]]:
    options = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-r", str(file), "-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"]
    command += ["-d", "udp.port==1-65535,sip", "-T", "fields", *options]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in answer.stdout.splitlines()]


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")
def test_wireshark_reads_it(tmp_path: Path) -> None:
    """Tshark finds the same messages, addresses and times, and no wrong checksum, over IPv4 and IPv6."""
    packets = [*captured_packets(), packet(5, "[2001:db8::7]:5060", "[2001:db8::1]:5060", sip("BYE sip:a@b"))]
    file = tmp_path / "trace.pcap"
    file.write_bytes(write_pcap(packets))
    ends = ("ip.src", "ipv6.src", "udp.srcport", "ip.dst", "ipv6.dst", "udp.dstport")
    rows = tshark(file, "sip.CSeq", "sip.Call-ID", "frame.time_epoch", "udp.checksum.status", *ends)
    messages = [parse(one.sip) for one in packets]
    assert ["{} {}".format(*one.cseq) for one in messages] == [row[0] for row in rows]
    assert [one.call_id for one in messages] == [row[1] for row in rows]
    assert [one.at_us for one in packets] == [round(Decimal(row[2]) * 1_000_000) for row in rows]
    assert {"1"} == {row[3] for row in rows}
    addresses = [f"{one.source} {one.target}".replace("[", "").replace("]", "") for one in packets]
    assert addresses == [f"{row[4] or row[5]}:{row[6]} {row[7] or row[8]}:{row[9]}" for row in rows]
    bodies = tshark(file, "udp.payload", "ip.checksum.status")
    assert [one.sip.hex() for one in packets] == [row[0] for row in bodies]
    assert {"1"} == {row[1] for row in bodies[:-1]}
