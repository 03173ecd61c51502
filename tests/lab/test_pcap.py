"""Captures: made here by hand, read back; SIP found and drawn."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lab import pcap

INVITE = (
    b"INVITE sip:1000@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.2:5060;branch=z9hG4bKa\r\n"
    b"From: <sip:2000@example.test>;tag=1\r\nTo: <sip:1000@example.test>\r\nCall-ID: abc\r\nCSeq: 1 INVITE\r\n\r\n"
)
RINGING = INVITE.replace(b"INVITE sip:1000@example.test SIP/2.0", b"SIP/2.0 180 Ringing", 1)
BYE = INVITE.replace(b"INVITE", b"BYE").replace(b"abc", b"other")
A, B = ("203.0.113.17", 31060), ("198.51.100.1", 5060)


def udp(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> tuple[bytes, bytes]:
    addresses = b"".join(bytes(map(int, host.split("."))) for host in (source[0], target[0]))
    return addresses, struct.pack("!HHHH", source[1], target[1], 8 + len(payload), 0) + payload


def ip(addresses: bytes, body: bytes, *, ident: int = 1, fragment: int = 0, protocol: int = 17) -> bytes:
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), ident, fragment, 64, protocol, 0) + addresses + body


def record(at: float, packet: bytes, kind: int = 0x0800) -> bytes:
    frame = struct.pack("!HHIHBB8s", kind, 0, 2, 1, 0, 6, b"") + packet
    return struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame)) + frame


def capture(tmp_path: Path, *records: bytes) -> Path:
    file = tmp_path / "edge.pcap"
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 276) + b"".join(records))
    return file


def test_datagrams(tmp_path: Path) -> None:
    file = capture(
        tmp_path,
        record(1.5, ip(*udp(A, B, b"hello"))),
        record(2.0, ip(*udp(A, B, b"tcp"), protocol=6)),
        record(2.5, b"\x60" + bytes(39), kind=0x86DD),
        record(3.25, ip(*udp(B, A, b""))),
    )
    assert list(pcap.datagrams(file)) == [(1.5, A, B, b"hello"), (3.25, B, A, b"")]


def test_fragments_are_joined_in_any_order(tmp_path: Path) -> None:
    addresses, whole = udp(A, B, bytes(range(256)) * 8)
    first = ip(addresses, whole[:1480], fragment=0x2000)
    last = ip(addresses, whole[1480:], fragment=1480 // 8)
    for order in ((first, last), (last, first)):
        file = capture(tmp_path, *(record(1, packet) for packet in order))
        assert [found.payload for found in pcap.datagrams(file)] == [bytes(range(256)) * 8]
    assert list(pcap.datagrams(capture(tmp_path, record(1, first)))) == []


def test_a_capture_cut_anywhere_gives_what_is_whole(tmp_path: Path) -> None:
    file = capture(tmp_path, record(1, ip(*udp(A, B, b"one"))), record(2, ip(*udp(A, B, b"two"))))
    data = file.read_bytes()
    half = 24 + (len(data) - 24) // 2
    for length in range(24, len(data)):
        file.write_bytes(data[:length])
        assert len(list(pcap.datagrams(file))) == (1 if length >= half else 0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"no capture at all, sorry")
    with pytest.raises(ValueError, match="not a pcap"):
        list(pcap.datagrams(file))
    file.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 105))
    with pytest.raises(ValueError, match="link type 105"):
        list(pcap.datagrams(file))


def test_ladder(tmp_path: Path) -> None:
    file = capture(
        tmp_path,
        record(1.0, ip(*udp(A, B, INVITE))),
        record(1.1, ip(*udp(A, B, b"\x80\x00 rtp mentioning SIP/2.0"))),
        record(1.25, ip(*udp(B, A, RINGING))),
        record(1.5, ip(*udp(("10.20.0.2", 5060), A, BYE))),
        record(9.0, ip(*udp(("192.0.2.1", 5060), A, BYE))),
    )
    names = {A[0]: "caller", B[0]: "edge", "10.20.0.2": "B2BUA"}
    lines = pcap.ladder(list(pcap.sip(pcap.datagrams(file))), ("caller", "edge", "B2BUA"), names, width=20)
    assert lines == [
        "caller              edge                B2BUA",
        "|------INVITE------>|                   |    0.000 s  A",
        "|<---180 Ringing----|                   |    0.250 s  A",
        "|<-----------------BYE------------------|    0.500 s  B",
        "A: Call-ID abc",
        "B: Call-ID other",
    ]
